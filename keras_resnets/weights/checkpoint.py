"""Reading checkpoint files into arrays by name. No code of a file is ever run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import h5py
import ml_dtypes  # It gives NumPy the type bfloat16, which safetensors then knows by name.
import numpy as np
import safetensors

from keras_resnets.checks import listed
from keras_resnets.weights import layouts
from keras_resnets.weights.facts import Facts

# PyTorch's count of batches that a batch norm has seen: an integer, without meaning here.
COUNTER = "num_batches_tracked"

# What training scripts call the weights inside a `.pth`, in the order in which they are looked for.
_NESTED = ("state_dict", "model", "model_ema", "state_dict_ema")
# How safetensors' names of types begin that NumPy lacks: float8 and shorter.
_SHORT = ("F4", "F6_", "F8_")
# What nn.DataParallel and torch.compile put in front of every name.
_WRAPPERS = ("module.", "_orig_mod.")


class StateDict(NamedTuple):
    """Arrays of a file.

    Attributes:
        source: what the file is called in messages.
        layout: `"torch"`: `layer1.0.conv1.weight`, arrays in PyTorch's axis order; `"keras"`:
            `layer1_0_conv1/0`, the layer's variables numbered, in Keras' axis order.
        arrays: array of each name.
        metadata: texts that the file has about itself: a safetensors file's own; of a `.keras`
            file, what its layers do to images. Others have none.
    """

    source: str
    layout: str
    arrays: Mapping[str, np.ndarray]
    metadata: Mapping[str, str] = {}

    @property
    def facts(self) -> Facts:
        """What the metadata says of the weights."""
        return Facts(self.metadata)


def read(path: str | os.PathLike) -> StateDict:
    """Reads a file of weights.

    Names that PyTorch's wrappers prefix (`module.`, `_orig_mod.`) lose the prefix, and the layouts
    of `layouts` become timm's. A `.pth` may hold its tensors under `"state_dict"`, `"model"`,
    `"model_ema"` or `"state_dict_ema"`; the first of them that is there counts, so averaged (EMA)
    weights are taken only from a file that has no others.

    Args:
        path: the file. Its ending decides how it is read: `.safetensors`; `.pth`, `.pt` or `.bin`,
            which need PyTorch; `.weights.h5` or `.keras`, written by Keras.

    Returns:
        The arrays of the file. Floating-point numbers of any precision are float32.

    Raises:
        ValueError: if the ending is another, the file is damaged or wants to run code, a value is
            not finite, or PyTorch is needed and not installed.
        FileNotFoundError: if there is no such file.

    Example:

    >>> read("resnest50d.safetensors").arrays["layer1.0.conv1.weight"].shape
    (64, 64, 1, 1)
    """
    path = os.fspath(path)
    if not is_readable(path):
        raise ValueError(f"weights must be a file ending in {ENDINGS}. Received: {path!r}")
    layout, reader, _ = next(found for end, found in _READERS.items() if path.endswith(end))
    arrays = reader(path)
    if layout == "torch":
        arrays = layouts.to_timm(_unwrapped(arrays))
    return checked(StateDict(os.path.basename(path), layout, arrays, read_metadata(path)))


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The texts that a file has about itself, without its tensors; see `StateDict.metadata`.

    Raises:
        ValueError: if the file is damaged.
        FileNotFoundError: if there is no such file.

    Example:

    >>> Facts(read_metadata("best.safetensors")).preparation.size
    (224, 224)
    """
    path = os.fspath(path)
    return next((found[2](path) for end, found in _READERS.items() if path.endswith(end)), {})


def is_readable(path: str) -> bool:
    """Whether `read` knows a file's ending."""
    return path.endswith(tuple(_READERS))


def checked(file: StateDict) -> StateDict:
    """A checkpoint whose numbers are weights: finite, float32, and no integers among them.

    Raises:
        ValueError: if a tensor has a value that is not finite or holds integers (a quantised
            network's mean nothing without their scales).
    """
    arrays, infinite, integers = {}, [], []
    for name, array in file.arrays.items():
        # NumPy does not count its extension bfloat16 among the floating-point types.
        if np.issubdtype(array.dtype, np.floating) or array.dtype.name == "bfloat16":
            # Some networks of PyTorch's come in half precision; ours compute what Keras is told.
            array = array.astype(np.float32, copy=False)
            if not np.isfinite(array).all():
                infinite.append(name)
        elif file.layout == "torch" and not name.endswith(COUNTER):
            integers.append(f"{name} ({array.dtype})")
        arrays[name] = array
    for rule, names in (
        ("weights must be finite; these hold NaN or infinity", infinite),
        ("weights must be floating-point numbers; these are not", integers),
    ):
        if names:
            raise ValueError(f"{rule}: {listed(sorted(names))}. Received: {file.source!r}")
    return file._replace(arrays=arrays)


def _unreadable(kind: str, path: str, error: Any) -> ValueError:
    return ValueError(
        f"weights must be a whole {kind} file; this one cannot be read ({error}). "
        f"Received: {path!r}"
    )


# Layouts of PyTorch ------------------------------------------------------------------------------


@contextlib.contextmanager
def _safetensors(path: str) -> Iterator[Any]:
    """A safetensors file, open; whatever is wrong with it is said in our words."""
    try:
        # The library's own message for a folder is about a device.
        with open(path, "rb"), safetensors.safe_open(path, framework="np") as file:
            yield file
    except FileNotFoundError:
        raise
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable("safetensors", path, error) from error


def _read_safetensors(path: str) -> dict[str, np.ndarray]:
    with _safetensors(path) as file:
        types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        short = [f"{name} ({kind})" for name, kind in types.items() if kind.startswith(_SHORT)]
        if short:
            raise ValueError(f"weights must have 16 bits or more; these have not: {listed(short)}")
        return {name: file.get_tensor(name) for name in types}


def _safetensors_metadata(path: str) -> dict[str, str]:
    with _safetensors(path) as file:
        return dict(file.metadata() or {})


def _read_pth(path: str) -> dict[str, np.ndarray]:
    """PyTorch's own format: a pickle, of which only tensors and containers are unpickled."""
    with _opened(path, "PyTorch"):
        pass
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            "weights in PyTorch's format need PyTorch to be read; install it with "
            '`pip install "keras-resnets[torch]"`, or use a .safetensors file. '
            f"Received: {path!r}"
        ) from error
    try:
        # With weights_only PyTorch builds nothing but tensors and plain containers; a file that
        # asks for more is refused, and never read in another way.
        content = torch.load(path, map_location="cpu", weights_only=True)
        tensors = _state_dict(content, torch.Tensor)
        return {name: _as_array(tensor, torch) for name, tensor in tensors.items()}
    except Exception as error:  # A damaged pickle makes it raise whatever it happens to meet.
        reason = str(error).split("\n")[0] or type(error).__name__
        if "weights_only" in str(error) or "Unsupported" in str(error):
            reason = "it holds more than tensors, and code in a file is never run"
        raise _unreadable("PyTorch", path, reason) from error


def _opened(path: str, kind: str):
    """The file, open; what cannot be opened is refused in our words."""
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(kind, path, error) from error


def _state_dict(content: Any, tensor_type: type) -> Mapping[str, Any]:
    """The mapping from names to tensors, wherever a training script put it."""
    while isinstance(content, Mapping):
        if content and all(isinstance(value, tensor_type) for value in content.values()):
            return content
        nested = [content[key] for key in _NESTED if isinstance(content.get(key), Mapping)]
        if not nested:
            others = [str(k) for k, v in content.items() if not isinstance(v, tensor_type)]
            raise ValueError(
                f"it holds no tensors by name, nor under {' or '.join(map(repr, _NESTED))}; "
                f"what else it holds: {listed(others)}"
            )
        content = nested[0]
    raise ValueError(f"it holds a {type(content).__name__} instead of tensors by name")


def _as_array(tensor, torch) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.to(torch.float32) if tensor.is_floating_point() else tensor).numpy()


def _unwrapped(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without the prefixes of wrappers: they stand in front of all names or none."""
    arrays = dict(arrays)
    while arrays:
        prefix = next((p for p in _WRAPPERS if all(n.startswith(p) for n in arrays)), None)
        if prefix is None:
            break
        arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays


# Layouts of Keras --------------------------------------------------------------------------------


def _read_weights_h5(path: str) -> dict[str, np.ndarray]:
    return _read_h5(path, path, ".weights.h5")


def _read_keras(path: str) -> dict[str, np.ndarray]:
    """The weights inside a saved model."""
    with _archive(path) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    return _read_h5(content, path, ".keras")


def _keras_metadata(path: str) -> dict[str, str]:
    """How the layers of a saved model prepare images: what ours that do so are configured with."""
    with _archive(path) as archive:
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
        std = [1 / (255 * scale) for scale in config["scale"]]
        mean = [-shift * deviation for shift, deviation in zip(config["offset"], std, strict=True)]
        return {"mean": [round(v, 6) for v in mean], "std": [round(v, 6) for v in std]}
    return None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """All objects in a JSON value, from the outside in."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _objects(inner)


@contextlib.contextmanager
def _archive(path: str) -> Iterator[zipfile.ZipFile]:
    """A `.keras` file, open; whatever is wrong with it is said in our words."""
    with _opened(path, ".keras") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive
        except (
            zipfile.BadZipFile,
            zlib.error,
            KeyError,
            OSError,
            ValueError,
            EOFError,
            RuntimeError,  # Encrypted, or compressed in a way that Python lacks.
        ) as error:
            raise _unreadable(".keras", path, error) from error


def _read_h5(file: str | io.BytesIO, path: str, kind: str) -> dict[str, np.ndarray]:
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

    try:
        with h5py.File(file) as content:
            content.visititems(collect)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _unreadable(kind, path, error) from error
    return arrays


def _no_metadata(path: str) -> dict[str, str]:
    return {}


# By a file's ending: the layout of its names, what reads its arrays, and what its metadata.
_READERS = {
    ".safetensors": ("torch", _read_safetensors, _safetensors_metadata),
    ".pth": ("torch", _read_pth, _no_metadata),
    ".pt": ("torch", _read_pth, _no_metadata),
    ".bin": ("torch", _read_pth, _no_metadata),
    ".weights.h5": ("keras", _read_weights_h5, _no_metadata),
    ".keras": ("keras", _read_keras, _keras_metadata),
}
ENDINGS = ", ".join(list(_READERS)[:-1]) + f" or {list(_READERS)[-1]}"
