"""Reading checkpoint files into arrays by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

import h5py
import numpy as np
import safetensors
import safetensors.numpy


class Checkpoint(NamedTuple):
    """Arrays of a file.

    Attributes:
        source: what the file is called in messages.
        layout: `"torch"`: `layer1.0.conv1.weight`, arrays in PyTorch's axis order; `"keras"`:
            `layer1_0_conv1/0`, the layer's variables numbered, in Keras' axis order.
        arrays: array of each name.
    """

    source: str
    layout: str
    arrays: Mapping[str, np.ndarray]


def read(path: str | os.PathLike) -> Checkpoint:
    """Reads a `.safetensors` or `.weights.h5` file.

    Args:
        path: the file. Its ending decides how it is read.

    Returns:
        The arrays of the file.

    Raises:
        ValueError: if the ending is another or the file is damaged.
        FileNotFoundError: if there is no such file.

    Example:

    >>> read("resnest50d.safetensors").arrays["layer1.0.conv1.weight"].shape
    (64, 64, 1, 1)
    """
    path = os.fspath(path)
    if path.endswith(".safetensors"):
        return Checkpoint(os.path.basename(path), "torch", _read_safetensors(path))
    if path.endswith(".weights.h5"):
        return Checkpoint(os.path.basename(path), "keras", _read_weights_h5(path))
    raise ValueError(
        f"weights must be a file ending in .safetensors or .weights.h5. Received: {path!r}"
    )


def _read_safetensors(path: str) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(path)
    except FileNotFoundError:
        raise
    except (
        safetensors.SafetensorError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,  # A type that NumPy lacks, such as float8.
    ) as error:
        raise ValueError(
            f"weights must be a whole safetensors file; this one cannot be read ({error}). "
            f"Received: {path!r}"
        ) from error


def _read_weights_h5(path: str) -> dict[str, np.ndarray]:
    """Keras numbers layers by class; beside it stands the layer's name, which we go by."""
    arrays = {}

    def collect(path, group):
        # A compiled model's file also holds its optimizer's state, beside the layers.
        in_layers = path.startswith("layers/") and isinstance(group, h5py.Group)
        if in_layers and "vars" in group and len(group["vars"]):
            name = group["vars"].attrs.get("name")
            if name is None:
                raise ValueError("its layers have no names; save it again with a newer Keras")
            for key, array in group["vars"].items():
                arrays[f"{name}/{key}"] = np.asarray(array)

    try:
        with h5py.File(path) as file:
            file.visititems(collect)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"weights must be a whole .weights.h5 file; this one cannot be read ({error}). "
            f"Received: {path!r}"
        ) from error
    return arrays
