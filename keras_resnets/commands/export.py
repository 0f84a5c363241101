"""What the command `keras-resnets export` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_resnets.checks import require
from keras_resnets.deploy.export import ExportReport, export
from keras_resnets.deploy.formats import find_format, format_of
from keras_resnets.deploy.place import check_target
from keras_resnets.loading import locate
from keras_resnets.weights.facts import check_threshold, threshold_of


def run_export(
    model: str,
    weights: str | None,
    out: str,
    *,
    format: str | None,
    precision: str,
    batch: str | None,
    image_size: str | None,
    threshold: float | None,
    overwrite: bool,
    **options: Any,
) -> ExportReport:
    """`keras-resnets export`; options that are not named here are those of `export`."""
    format = format or format_of(out)
    try:  # Before a model is built or loaded.
        check_target(out, find_format(format, precision), overwrite)
    except ImportError as error:
        raise ValueError(str(error)) from error
    sizes = _sizes(image_size)
    check_threshold(threshold)

    located = locate(model, weights)
    threshold = threshold_of(located.threshold, threshold)
    network = located.build()
    names = located.class_names_of(network)
    return export(
        network,
        out,
        format=format,
        precision=precision,
        batch=int(batch) if batch and batch.isdecimal() else batch,
        image_size=sizes,
        # What nobody states is asked for by the export, where it matters.
        preprocessing=located.preparation if located.asked else located.preparation_or_usual(),
        labels=names and [text for _, text in names],
        architecture=located.variant and located.variant.name,
        licence=located.licence,
        threshold=threshold,
        overwrite=overwrite,
        **options,
    )


def _sizes(text: str | None) -> int | Sequence[int] | str | None:
    """224, 224x192 or "dynamic"."""
    if text in (None, "dynamic"):
        return text
    sides = text.split("x")
    require(
        len(sides) in (1, 2) and all(side.isdecimal() for side in sides),
        'image_size must be a side in pixels, HEIGHTxWIDTH or "dynamic"',
        image_size=text,
    )
    return int(text) if len(sides) == 1 else [int(side) for side in sides]
