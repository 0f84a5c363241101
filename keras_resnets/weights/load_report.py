"""What of a checkpoint was put into a model, and why not all of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import keras

from keras_resnets.checks import listed
from keras_resnets.weights.state_dict import StateDict


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did; prints as a table.

    Attributes:
        loaded: model variables that were set, `"layer/variable"`.
        missing: model variables that the checkpoint lacks; they keep their values.
        unexpected: names in the checkpoint that the model lacks.
        reshaped: `"name: shape in the file -> shape in the model"` of those that do not fit.
        adapted: the same of the stem, whose kernel was summed or repeated over its input channels.
        skipped: names of the checkpoint's classifier, left out for a model without one or with a
            fresh one.
        key: where in the checkpoint the tensors stood: `"state_dict.module"`; `""` for the
            outermost. What stands elsewhere is not mentioned.
    """

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    key: str = ""

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        lines = [
            f"{field.name:<11}{len(names):>6}  {listed(names)}"
            for field in dataclasses.fields(self)
            if isinstance(names := getattr(self, field.name), tuple)
        ]
        return "\n".join([*lines, f"under the key {self.key!r}"] if self.key else lines)


def misfit(
    file: StateDict,
    model: keras.Model,
    wanted: Mapping[str, keras.Variable],
    report: LoadReport,
    only_head: bool,
) -> str:
    """What does not fit, on both sides, and what can be done about it."""
    in_file = [f"{name} {file.arrays[name].shape}" for name in report.unexpected]
    in_model = [f"{key} {tuple(wanted[key].shape)}" for key in report.missing]
    way_out = ""
    if only_head:
        way_out = (
            ' Pass head="fresh" to load_weights, or classes to the builder, for a classifier of '
            "the model's own."
        )
    elif not report.missing and not report.reshaped:
        way_out = " Pass strict=False to load_weights to leave them out."
    return (
        f"weights must fit the model: {file.title} does not fit {model.name!r}. "
        f"In the file only ({len(in_file)}): {listed(in_file)}. "
        f"In the model only ({len(in_model)}): {listed(in_model)}. "
        f"Other shape ({len(report.reshaped)}): {listed(report.reshaped)}.{way_out}"
    )
