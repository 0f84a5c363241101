"""What a run is told, and how it is made from options.

The fields are needed by `keras-resnets train --help`, so what imports Keras is imported late.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_resnets.checks import as_plain, is_count, nearest, require, require_count, require_one_of
from keras_resnets.training import specs
from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.recipe import Recipe, find_recipe

if TYPE_CHECKING:
    from keras_resnets.models.variant import Variant

# What the computation is called, and Keras' name of the policy.
DTYPES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What a run is told, resolved: together with the data it determines the result.

    How many devices compute is not part of it, so a run may go on with others. Fields that
    `resolve` does not name are options of `keras-resnets train`, whose help is the text below.

    Attributes:
        data: what to train on; see `data.load`.
        model: timm's name of the architecture.
        recipe: how to train it, with all changes applied.
        weights: what training starts from, as for `create_model`; None for random weights.
        freeze: keep everything up to this stage as it is, such as `"layer2"`; see
            `keras_resnets.freeze`.
        teacher: a model whose outputs are learnt beside the labels, named as any other (an
            architecture, a tag, the folder of a run, a file); `--set teacher_share=0.5` and
            `teacher_temperature=2` say how much and how.
        teacher_weights: weights of the teacher, where it is an architecture.
        accumulate: batches whose gradients are averaged for an update of the weights.
        class_weights: `"balanced"` (rarer classes count more, all together the same), or a weight
            for each class by name; on the command line a JSON file that maps names to weights.
        time_budget: how long the run may take, such as `"50m"` or `"1h30m"`: the recipe's schedule
            is fitted into the epochs that there is time for, by a short trial, before the
            evaluation at the end.
        patience: stop after so many epochs without a better one: a higher validation accuracy, or
            as high and a lower loss.
        dtype: of the computation: `"float32"`, `"bfloat16"` or `"float16"`; variables are float32.
        jit: compile the step with XLA on TensorFlow; JAX always does.
        seed: of everything random.
        deterministic: the same run, the same weights, bit by bit; slower on a GPU.
        data_dir: where prepared tfds data sets are.
        strict_data: stop at an image that cannot be read, instead of a warning.
        checkpoint_every: steps between checkpoints; left out, an epoch.
        keep: how many checkpoints to keep.
        tensorboard: write logs for TensorBoard.
        sync_bn: batch norms take their statistics over all devices.

    Raises:
        ValueError: if a value is out of its range.
    """

    data: Any
    model: str
    recipe: Recipe
    weights: str | None = None
    freeze: str | None = None
    teacher: str | None = None
    teacher_weights: str | None = None
    accumulate: int = 1
    class_weights: str | Mapping[str, float] | None = None
    time_budget: str | None = None
    patience: int | None = None
    dtype: str = "float32"
    jit: bool = False
    seed: int = 0
    deterministic: bool = False
    data_dir: str | None = None
    strict_data: bool = False
    checkpoint_every: int | None = None
    keep: int = 2
    tensorboard: bool = False
    sync_bn: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name not in ("data", "recipe"):
                object.__setattr__(self, field.name, as_plain(getattr(self, field.name)))
        # Paths hold in any folder, as a run may be resumed from another one.
        object.__setattr__(self, "data", specs.absolute(self.data))
        object.__setattr__(self, "weights", _absolute_weights(self.model, self.weights))
        self._find_teacher()
        if self.data_dir is not None and "://" not in self.data_dir:
            path = os.path.abspath(os.path.expanduser(self.data_dir))
            object.__setattr__(self, "data_dir", path)
        require_one_of(DTYPES, dtype=self.dtype)
        require(is_count(self.seed, 0), "seed must be an int from 0 up", seed=self.seed)
        require_count(accumulate=self.accumulate, keep=self.keep)
        require(
            self.time_budget is None or bool(self.seconds),
            "time_budget must be hours, minutes and seconds, such as '50m' or '1h30m'",
            time_budget=self.time_budget,
        )
        for key in ("patience", "checkpoint_every"):
            value = getattr(self, key)
            require(
                value is None or is_count(value),
                f"{key} must be a positive int or left out",
                **{key: value},
            )
        require(
            self.class_weights is None
            or self.class_weights == "balanced"
            or isinstance(self.class_weights, Mapping),
            'class_weights must be "balanced" or a weight for each class by name',
            class_weights=self.class_weights,
        )

    @property
    def variant(self) -> Variant:
        from keras_resnets import catalog

        return catalog.find_variant(self.model)

    @property
    def eval_image_size(self) -> int:
        return self.recipe.eval_image_size or self.recipe.image_size

    @property
    def seconds(self) -> float | None:
        """How long the run may take; None for no end."""
        if self.time_budget is None:
            return None
        found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", str(self.time_budget))
        parts = (int(part or 0) for part in found.groups()) if found else ()
        return float(sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False)))

    @property
    def effective_batch(self) -> int:
        """Images that one update of the weights rests on."""
        return self.recipe.batch_size * self.accumulate

    def _find_teacher(self) -> None:
        """Makes the paths of a teacher absolute, too."""
        from keras_resnets import catalog, loading

        require(
            self.teacher is not None or self.teacher_weights is None,
            "teacher_weights needs a teacher",
            teacher_weights=self.teacher_weights,
        )
        if self.teacher is None:
            return
        if not loading.is_bare_name(self.teacher):
            object.__setattr__(self, "teacher", _absolute(self.teacher))
        elif self.teacher_weights is not None:
            name = catalog.find_variant(self.teacher).name
            weights = _absolute_weights(name, self.teacher_weights)
            object.__setattr__(self, "teacher_weights", weights)

    def as_dict(self) -> dict[str, Any]:
        """Everything in it as JSON has it; arrays by their shapes."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= {"recipe": self.recipe.as_dict(), "data": _described(self.data)}
        return json.loads(json.dumps(values))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """The configuration that `as_dict` described; of arrays it knows the shapes alone."""
        return cls(**{**values, "recipe": Recipe(**values["recipe"])})


def _absolute_weights(model: str, weights: str | None) -> str | None:
    """The absolute path of a file or folder of weights; a tag or an address as it is."""
    from keras_resnets.weights import source

    if weights is None or source.named_checkpoint(model, weights) is not None:
        return weights
    return _absolute(weights)


def _absolute(text: str) -> str:
    """The absolute path of what exists; other words as they are."""
    path = os.path.abspath(os.path.expanduser(text))
    return path if os.path.exists(path) else text


def _described(data: Any) -> str:
    """A data set's name; arrays have none."""
    if isinstance(data, (str, os.PathLike)):
        return os.fspath(data)
    if isinstance(data, Mapping):
        return ", ".join(f"{split}: {_described(pair)}" for split, pair in data.items())
    return f"arrays {' and '.join(str(np.shape(part)) for part in data)}"


def resolve(
    data: Any,
    model: str | None = None,
    weights: str | None = None,
    recipe: str = "quick",
    changes: Mapping[str, Any] | None = None,
    **options: Any,
) -> RunConfig:
    """Makes a run's configuration from options.

    Args:
        data: what to train on; see `data.load`.
        model: an architecture, or what to start from, as for `loading.locate`: a published
            checkpoint (`"resnet50.a1_in1k"`), the folder of a run, ...; default: the recipe's.
        weights: what to start from, as for `create_model`; `"none"` for random weights; default:
            the model's tag, else the recipe's.
        recipe: name of the recipe.
        changes: fields of the recipe, of its augmentation, or of the architecture's configuration
            by name, and their values.
        **options: other fields of `RunConfig`.

    Raises:
        ValueError: if there is no such recipe, model or field, or a value is out of its range.

    Example:

    >>> resolve("digits", recipe="quick", changes={"epochs": 3, "depths": (1, 1, 1)})
    """
    from keras_resnets import loading

    chosen = find_recipe(recipe)
    start = chosen.model if model is None else model
    located = loading.locate(start, "none" if loading.is_bare_name(start) else None)
    variant = located.variant
    require(
        variant is not None,
        "model must be an architecture, or say of which its weights are; a saved model of one's "
        "own is trained by its own fit",
        model=model,
    )
    changes = {**located.config_changes, **(changes or {})}
    chosen = changed(chosen.for_model(variant.name), variant, changes)
    if located.asked is not None:
        require(
            weights is None,
            "weights must be left out where the model has a tag or is a run, a folder or a file",
            model=model,
        )
        tagged = located.published
        weights = tagged.tag if tagged else os.path.abspath(located.weights.path)
    weights = chosen.weights if weights is None else weights
    return RunConfig(
        data=data,
        model=variant.name,
        recipe=chosen,
        weights=None if weights == "none" else weights,
        **options,
    )


def changed(recipe: Recipe, variant: Variant, changes: Mapping[str, Any]) -> Recipe:
    """A recipe with fields of itself, its augmentation or the architecture changed.

    With the number of epochs the warm-up and the steps of the learning rate move, unless they are
    changed as well: ten epochs of a recipe for a hundred would otherwise never leave its warm-up.
    """
    fields = _fields(Recipe) - {"name", "model", "weights", "augmentation", "by_model"}
    groups = {"recipe": fields, "image": _fields(Augmentation), "config": _fields(variant.config)}
    found: dict[str, dict[str, Any]] = {group: {} for group in groups}
    for key, value in changes.items():
        group = next((group for group, known in groups.items() if key in known), None)
        if group is None:
            names = sorted(set.union(*groups.values()))
            raise ValueError(
                "set must name a field of the recipe, its augmentation or the architecture: "
                f"{', '.join(names)}. {nearest(key, names)}Received: {key}={value!r}"
            )
        found[group][key] = as_plain(tuple(value) if isinstance(value, list) else value)
    epochs = found["recipe"].get("epochs")
    if is_count(epochs):
        recipe = recipe.stretched(epochs)
    return dataclasses.replace(
        recipe,
        augmentation=dataclasses.replace(recipe.augmentation, **found["image"]),
        config_changes={**recipe.config_changes, **found["config"]},
        **found["recipe"],
    )


def _fields(owner: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(owner)}


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """`["epochs=3", "depths=1,1,1", "schedule=steps"]` as names and values.

    Raises:
        ValueError: if a text has no `=`.
    """
    changes = {}
    for text in texts:
        key, equals, value = text.partition("=")
        require(bool(key and equals), "set must be NAME=VALUE", set=text)
        changes[key.strip()] = _parsed(value.strip())
    return changes


def _parsed(text: str) -> Any:
    for candidate in (text, f"[{text}]"):
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    return {"None": None, "True": True, "False": False}.get(text, text)
