"""The formats that models are exported to: everything that is a format's own stands in its file."""

from __future__ import annotations

from keras_resnets.checks import require, require_one_of
from keras_resnets.deploy.formats.format import PRECISIONS, Format
from keras_resnets.deploy.formats.litert import LITERT
from keras_resnets.deploy.formats.onnx import ONNX
from keras_resnets.deploy.formats.openvino import OPENVINO
from keras_resnets.deploy.formats.saved_model import SAVED_MODEL

FORMATS = {format.name: format for format in (SAVED_MODEL, LITERT, ONNX, OPENVINO)}


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
