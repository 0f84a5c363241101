"""Reading checkpoint files into arrays by name. No code of a file is ever run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import h5py
import ml_dtypes
import numpy as np
import safetensors

from keras_resnets.preparation import stated_by_rescaling
from keras_resnets.weights import layouts, pickles
from keras_resnets.weights.state_dict import StateDict, Unreadable, as_array


def read(path: str | os.PathLike) -> StateDict:
    """Reads a file of weights.

    The names are the file's, but for the layouts of `layouts`, which become timm's; `keys.located`
    finds the model's names among them.

    Args:
        path: a file of safetensors, of PyTorch (which must be installed for it), or of Keras
            (`.weights.h5`, `.keras`). Its content decides how it is read, not its ending.

    Returns:
        All tensors of the file, and its metadata. Floating-point numbers of any precision are
        float32.

    Raises:
        ValueError: if the file is of another format, damaged or wants to run code, or PyTorch is
            needed and not installed.
        FileNotFoundError: if there is no such file.

    Example:

    >>> read("resnest50d.safetensors").arrays["layer1.0.conv1.weight"].shape
    (64, 64, 1, 1)
    """
    path = os.fspath(path)
    kind = _kind_of(path)
    arrays = {name: as_array(array) for name, array in kind.read(path).items()}
    if kind.layout == "torch":
        arrays = layouts.to_timm(arrays)
    return StateDict(os.path.basename(path), kind.layout, arrays, kind.metadata(path))


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The texts that a file has about itself, without its tensors; see `StateDict.metadata`.

    Raises:
        ValueError: if the file is of no format that `read` knows, or damaged.
        FileNotFoundError: if there is no such file.

    Example:

    >>> Facts(read_metadata("best.safetensors")).preparation.size
    (224, 224)
    """
    path = os.fspath(path)
    return _kind_of(path).metadata(path)


def is_readable(path: str) -> bool:
    """Whether a name ends as files of weights do."""
    return path.endswith(ENDINGS)


def _unreadable(kind: str, path: str, error: Any) -> ValueError:
    return ValueError(
        f"weights must be a whole {kind} file; this one cannot be read ({error}). "
        f"Received: {path!r}"
    )


@contextlib.contextmanager
def _opened(path: str, kind: str) -> Iterator[BinaryIO]:
    """A file, open; what is wrong with it is said in our words.

    The readers get the open file, not its path, which need not be in the system's encoding.
    """
    try:
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        RuntimeError,  # From a zip file: encrypted, or compressed in a way that Python lacks.
        zipfile.BadZipFile,
        zlib.error,
        safetensors.SafetensorError,
    ) as error:
        raise _unreadable(kind, path, error) from error


# safetensors -------------------------------------------------------------------------------------


def _read_safetensors(path: str) -> dict[str, Any]:
    with _opened(path, "safetensors"), safetensors.safe_open(path, framework="np") as file:
        return {name: _tensor(file, name) for name in file.keys()}  # noqa: SIM118


def _tensor(file: Any, name: str) -> np.ndarray | Unreadable:
    try:
        return file.get_tensor(name)
    except (AttributeError, TypeError):  # Of a type that NumPy lacks, such as float8.
        part = file.get_slice(name)
        return Unreadable(tuple(part.get_shape()), part.get_dtype())


def _safetensors_metadata(path: str) -> dict[str, str]:
    with _opened(path, "safetensors"), safetensors.safe_open(path, framework="np") as file:
        return dict(file.metadata() or {})


# PyTorch -----------------------------------------------------------------------------------------


def _read_pth(path: str) -> dict[str, Any]:
    try:
        with _opened(path, "PyTorch") as file:
            return pickles.read(file)
    except ImportError as error:
        raise ValueError(
            "weights in PyTorch's format need PyTorch to be read; install it with "
            '`pip install "keras-resnets[torch]"`, or use a .safetensors file. '
            f"Received: {path!r}"
        ) from error


def _no_metadata(path: str) -> dict[str, str]:
    return {}


# Keras -------------------------------------------------------------------------------------------


def _read_weights_h5(path: str) -> dict[str, Any]:
    with _opened(path, ".weights.h5") as file:
        return _read_h5(file)


def _read_keras(path: str) -> dict[str, Any]:
    """The weights inside a saved model."""
    with _opened(path, ".keras") as file, zipfile.ZipFile(file) as archive:
        return _read_h5(io.BytesIO(archive.read("model.weights.h5")))


def _read_h5(file: BinaryIO) -> dict[str, Any]:
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
                # Keras marks what HDF5 has no type for.
                is_bfloat16 = array.attrs.get("dtype") == "bfloat16"
                values = np.asarray(array)
                arrays[f"{name}/{key}"] = values.view(ml_dtypes.bfloat16) if is_bfloat16 else values

    with h5py.File(file) as content:
        content.visititems(collect)
        if not arrays and "model_weights" in content:
            raise ValueError("it is of Keras 2; save its model again as .keras")
    return arrays


# What a saved model says beside its layers: another file in the archive, which Keras leaves alone.
_FACTS = "keras_resnets.json"


def add_facts(path: str | os.PathLike, facts: Mapping[str, Any]) -> None:
    """Writes facts about its weights into a `.keras` file; `read_metadata` reads them."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_FACTS, json.dumps(facts))


def _keras_metadata(path: str) -> dict[str, str]:
    """What a saved model says of its weights, or how ours of its layers prepare images."""
    with _opened(path, ".keras") as file, zipfile.ZipFile(file) as archive:
        if _FACTS in archive.namelist():
            return {k: json.dumps(v) for k, v in json.loads(archive.read(_FACTS)).items()}
        config = json.loads(archive.read("config.json"))
        stated = next(filter(None, map(_stated_by_layer, _objects(config))), {})
    return {key: json.dumps(value) for key, value in stated.items()}


def _stated_by_layer(layer: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a layer's configuration says about images; None for other layers."""
    kind, config = layer.get("class_name"), layer.get("config")
    if not isinstance(config, dict):
        return None
    if kind == "Preprocessor":
        fields = ("crop_pct", "interpolation", "mean", "std")
        return {"input_size": [3, *config["size"]], **{field: config[field] for field in fields}}
    if kind == "Rescaling" and config["name"].endswith("normalize"):
        return stated_by_rescaling(config["scale"], config["offset"])
    return None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """All objects in a JSON value, from the outside in."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _objects(inner)


# Which of them ------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """A format: the layout of its names, what reads its tensors, and what its metadata."""

    layout: str
    read: Callable[[str], dict[str, Any]]
    metadata: Callable[[str], dict[str, str]]
    endings: tuple[str, ...]


_SAFETENSORS = _Kind("torch", _read_safetensors, _safetensors_metadata, (".safetensors",))
_PTH = _Kind("torch", _read_pth, _no_metadata, (".pth", ".pt", ".bin", ".ckpt", ".pth.tar"))
_H5 = _Kind("keras", _read_weights_h5, _no_metadata, (".weights.h5",))
_KERAS = _Kind("keras", _read_keras, _keras_metadata, (".keras",))
_KINDS = (_SAFETENSORS, _PTH, _H5, _KERAS)
ENDINGS = tuple(ending for kind in _KINDS for ending in kind.endings)


def _kind_of(path: str) -> _Kind:
    """The format of a file by its content; by its ending, where the content is damaged.

    Raises:
        ValueError: if neither tells.
        FileNotFoundError: if there is no such file.
    """
    by_ending = next((kind for kind in _KINDS if path.endswith(kind.endings)), None)
    if not os.path.isfile(path) and by_ending:
        return by_ending  # Whose reader says what is wrong.
    with _opened(path, "readable") as file:
        kind = _kind_by_content(file) or by_ending
    if kind is None:
        raise ValueError(
            "weights must be a file of safetensors, of PyTorch (.pth, .ckpt) or of Keras "
            f"(.weights.h5, .keras); this one is none of them by its content. Received: {path!r}"
        )
    return kind


def _kind_by_content(file: BinaryIO) -> _Kind | None:
    head = file.read(9)
    if head.startswith(b"\x89HDF\r\n"):
        return _H5
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return _PTH  # A pickle.
    if zipfile.is_zipfile(file):
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if any(name.endswith("data.pkl") for name in names):
                return _PTH
            return _KERAS if "model.weights.h5" in names else None
    length = int.from_bytes(head[:8], "little")
    size = os.fstat(file.fileno()).st_size
    return _SAFETENSORS if head[8:] == b"{" and 8 + length <= size else None
