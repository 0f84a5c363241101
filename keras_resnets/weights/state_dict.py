"""StateDict: tensors by name, whatever they were stored as."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401  It gives NumPy the type bfloat16.
import numpy as np

from keras_resnets.checks import listed
from keras_resnets.weights.facts import Facts

# PyTorch's count of batches that a batch norm has seen: an integer, without meaning here.
COUNTER = "num_batches_tracked"

# Between the keys of mappings in mappings; names of modules have dots inside.
INSIDE = "/"


class StateDict(NamedTuple):
    """Tensors of a file or of a mapping.

    Attributes:
        source: what the file is called in messages.
        layout: `"torch"`: `layer1.0.conv1.weight`, arrays in PyTorch's axis order; `"keras"`:
            `layer1_0_conv1/0`, the layer's variables numbered, in Keras' axis order.
        arrays: array of each name. A training script's file has its mappings inside each other:
            `state_dict/module.conv1.weight`; see `keys.located`.
        metadata: texts that the file has about itself: a safetensors file's own; of a `.keras`
            file, what its layers do to images. Others have none.
        key: where in the file these tensors stood; None while that is open.
    """

    source: str
    layout: str
    arrays: Mapping[str, Any]
    metadata: Mapping[str, str] = {}
    key: str | None = None

    @property
    def facts(self) -> Facts:
        """What the metadata says of the weights."""
        return Facts(self.metadata)

    @property
    def title(self) -> str:
        """What it is called in messages: `"'moco.pth' under 'module.encoder_q'"`."""
        return f"{self.source!r} under {self.key!r}" if self.key else repr(self.source)


class Unreadable(NamedTuple):
    """A tensor of a type that is none for weights: quantised, in 8 bits; only its looks are kept.

    What is beside the weights may be anything, so it is refused only where a model wants it.
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def ndim(self) -> int:
        return len(self.shape)


def as_array(value: Any) -> np.ndarray | Unreadable:
    """A tensor of any library as an array; floating-point numbers of any precision are float32."""
    if isinstance(value, Unreadable):
        return value
    if hasattr(value, "detach"):  # PyTorch's, which NumPy converts neither from a GPU nor halves.
        looks = Unreadable(tuple(value.shape), str(value.dtype).removeprefix("torch."))
        if value.is_floating_point() and value.element_size() < 2:
            return looks
        try:
            value = value.detach().cpu()
            return (value.float() if value.is_floating_point() else value).numpy()
        except (RuntimeError, TypeError, NotImplementedError):  # Quantised, sparse, without memory.
            return looks
    array = np.asarray(value)
    # NumPy does not count its extension bfloat16 among the floating-point types.
    if np.issubdtype(array.dtype, np.floating) or array.dtype.name == "bfloat16":
        return array.astype(np.float32, copy=False)
    return array if array.dtype.kind in "biu" else Unreadable(array.shape, str(array.dtype))


def gathered(content: Mapping[Any, Any], *, lists: bool = False) -> dict[str, Any]:
    """All tensors in a mapping and in the mappings inside it.

    Args:
        content: any mapping; what is neither a tensor nor a mapping is passed over: epochs,
            arguments, texts.
        lists: whether a list is meant as a tensor.

    Returns:
        Arrays by name; the keys of mappings stand before it: `"state_dict/conv1.weight"`.
    """
    arrays = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            inner = gathered(value, lists=lists)
            arrays |= {f"{key}{INSIDE}{name}": array for name, array in inner.items()}
        elif (lists and isinstance(value, list)) or (
            hasattr(value, "shape")
            and hasattr(value, "dtype")
            and not isinstance(value, np.generic)
        ):
            arrays[str(key)] = as_array(value)
    return arrays


def require_weights(file: StateDict, names: Iterable[str]) -> None:
    """Raises a ValueError if tensors that a model wants are no weights.

    They must be finite floating-point numbers: integers of a quantised network mean nothing without
    their scales.
    """
    infinite, others = [], []
    for name in sorted(names):
        array = file.arrays[name]
        if array.dtype != np.float32:
            others.append(f"{name} ({array.dtype})")
        elif not np.isfinite(array).all():
            infinite.append(name)
    for rule, wrong in (
        ("weights must be finite; these hold NaN or infinity", infinite),
        ("weights must be floating-point numbers of 16 bits or more; these are not", others),
    ):
        if wrong:
            raise ValueError(f"{rule}: {listed(wrong)}. Received: {file.source!r}")
