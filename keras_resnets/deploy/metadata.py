"""What an exported file says about itself, in each format's own way.

The keys are the same everywhere, and so are their values, JSON:

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

import json
import zipfile
from pathlib import Path
from typing import Any


def write_saved_model(path: Path, metadata: dict[str, Any]) -> None:
    """As `assets.extra/metadata.json`, the folder for what TensorFlow leaves alone."""
    folder = path / "assets.extra"
    folder.mkdir()
    folder.joinpath("metadata.json").write_text(json.dumps(metadata, indent=2), encoding="utf-8")


def write_litert(path: Path, metadata: dict[str, Any]) -> None:
    """As a zip archive behind the model, the convention of LiteRT's associated files.

    Interpreters do not look behind the model, and `zipfile.ZipFile(path)` finds the archive.
    """
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "".join(f"{label}\n" for label in metadata["labels"]))
        archive.writestr("metadata.json", json.dumps(metadata, indent=2))


def write_onnx(path: Path, metadata: dict[str, Any]) -> None:
    """As `metadata_props`, an entry a key."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.save(model, path)
