"""What an exported file says about itself.

The keys are the same in every format, and so are their values, JSON; how a file holds them is its
format's.

- `architecture`: name of the model.
- `labels`: names of the classes in the order of the outputs; empty where they are not known.
- `mean`, `std`: what images are normalised with, on a scale from 0 to 1, a number a channel.
- `input_size`: `[height, width, channels]`; null for a side that may have any length.
- `interpolation`, `crop_pct`: how images are brought to their size.
- `include_preprocessing`: whether uint8 RGB goes in; otherwise normalised float32.
- `activation`: that of the output, `"linear"` for logits.
- `licence`: of the weights, or null.
- `precision`: that of the file.
"""

from __future__ import annotations

from typing import Any

from keras_resnets.deploy.formats.format import ExportRequest
from keras_resnets.deploy.prepare import ExportGraph


def describe(graph: ExportGraph, request: ExportRequest) -> dict[str, Any]:
    """The metadata of what is about to be written."""
    return {
        "architecture": graph.network.name,
        "labels": request.labels,
        "mean": list(request.preprocessing.mean),
        "std": list(request.preprocessing.std),
        "input_size": list(request.shape[1:]),
        "interpolation": request.preprocessing.interpolation,
        "crop_pct": request.preprocessing.crop_pct,
        "include_preprocessing": request.normalizes,
        "activation": graph.activation,
        "licence": request.licence,
        "precision": request.precision,
    }
