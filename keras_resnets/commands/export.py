"""What the command `keras-resnets export` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_resnets.checks import require
from keras_resnets.deploy.export import ExportReport, export
from keras_resnets.deploy.formats import FORMATS, find_format
from keras_resnets.deploy.place import check_target
from keras_resnets.layers.preprocessor import Preprocessor


def run_export(
    model: str,
    weights: str | None,
    out: str,
    *,
    format: str | None,
    precision: str,
    batch: str | None,
    image_size: str | None,
    overwrite: bool,
    **options: Any,
) -> ExportReport:
    """`keras-resnets export`; options that are not named here are those of `export`."""
    suffixes = {target.suffix: name for name, target in FORMATS.items()}
    format = format or suffixes.get(Path(out).suffix, "saved_model")
    try:  # Before a model is built or loaded.
        check_target(out, find_format(format, precision), overwrite)
    except ImportError as error:
        raise ValueError(str(error)) from error
    sizes = _sizes(image_size)

    from keras_resnets.training import evaluate

    subject = evaluate.load_subject(model, weights)
    side = subject.image_size
    return export(
        subject.model,
        out,
        format=format,
        precision=precision,
        batch=int(batch) if batch and batch.isdecimal() else batch,
        image_size=sizes,
        preprocessing=Preprocessor((side, side), subject.crop_pct, subject.interpolation),
        labels=_labels(model),
        licence=subject.published and subject.published.license,
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


def _labels(model: str) -> list[str] | None:
    """Names of a run's classes."""
    if not Path(model, "classes.json").is_file():
        return None

    from keras_resnets.training.run_folder import RunFolder

    return RunFolder(model).read_json("classes.json")
