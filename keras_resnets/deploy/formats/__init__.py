"""The formats that models are exported to: everything that is a format's own stands in its file."""

from __future__ import annotations

import os
from pathlib import Path

from keras_resnets.checks import nearest, require, require_one_of
from keras_resnets.deploy.formats.format import PRECISIONS, Format
from keras_resnets.deploy.formats.litert import LITERT
from keras_resnets.deploy.formats.onnx import ONNX
from keras_resnets.deploy.formats.openvino import OPENVINO
from keras_resnets.deploy.formats.saved_model import SAVED_MODEL

FORMATS = {format.name: format for format in (SAVED_MODEL, LITERT, ONNX, OPENVINO)}


def format_of(path: str | os.PathLike) -> str:
    """The name of the format that a path is for, by its end; a folder has none.

    Raises:
        ValueError: if the end is not known.
    """
    suffix = Path(path).suffix
    names = {format.suffix: name for name, format in FORMATS.items()}
    known = [known for known in names if known]
    require(
        suffix in names,
        f"path must end in {', '.join(known[:-1])} or {known[-1]}, or be a folder's, without a "
        "suffix, where no format is given; for another name, pass the format",
        nearest(suffix, known),
        path=str(path),
    )
    return names[suffix]


def find_format(name: str, precision: str) -> Format:
    """The format of a name.

    Raises:
        ValueError: unless format and precision exist and go together.
        ImportError: if a package is missing that writes or runs the format.
    """
    require_one_of(FORMATS, format=name)
    require_one_of(PRECISIONS, precision=precision)
    format = FORMATS[name]
    reason = format.refused.get(precision)
    require(not reason, reason or "", format=name, precision=precision)
    format.require_packages(precision)
    return format
