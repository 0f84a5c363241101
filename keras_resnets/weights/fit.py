"""Putting a checkpoint into a model: one rule for all families, strict on both sides.

The rule: a layer with weights is named after its module in the PyTorch checkpoint, `.` as `_`. So
`layer1.0.conv2.fc1.weight` belongs to the layer `layer1_0_conv2_fc1`, its last part says to which
variable, and the layer's class how the axes go.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_resnets.checks import listed, require
from keras_resnets.files import write_safetensors
from keras_resnets.graph.endings import stated_in
from keras_resnets.graph.walk import flat_layers
from keras_resnets.layers import PointwiseDense
from keras_resnets.layers.scheduled_rate import ScheduledRate
from keras_resnets.names import CLASSIFIERS, in_head, is_classifier, keras_name, module_path
from keras_resnets.weights import checkpoint, hub, keys, layouts, published
from keras_resnets.weights.load_report import LoadReport, misfit
from keras_resnets.weights.state_dict import COUNTER, StateDict, gathered, require_weights

# The leaves of a PyTorch module and the Keras variables they can be.
_LEAVES = {
    "weight": ("kernel", "gamma"),
    "bias": ("bias", "beta"),
    "running_mean": ("moving_mean",),
    "running_var": ("moving_variance",),
    "pos_embed": ("position_embedding",),
}
_LEAF_OF = {variable: leaf for leaf, variables in _LEAVES.items() for variable in variables}

# PyTorch's axis order to Keras', by the rank of the kernel: (out, in, height, width), (out, in,
# width) and (out, in).
_AXES = {4: (2, 3, 1, 0), 3: (2, 1, 0), 2: (1, 0)}


def load_weights(
    model: keras.Model,
    source: str | os.PathLike | Mapping[str, Any] | StateDict,
    *,
    strict: bool = True,
    prefix: str = "",
    head: str = "load",
    key: str | None = None,
) -> LoadReport:
    """Sets a model's weights from a checkpoint. Nothing is set unless all of it fits.

    A training script's file may hold its state dict under a key (`"state_dict"`), wrappers put a
    prefix before its names (`module.`, `backbone.`): the tensors are taken from where the model's
    names are found. If they are found more than once, `key` chooses; of plain and averaged weights
    (EMA) the plain ones are taken by default, and a warning says so. What stands elsewhere in the
    file is passed over.

    Args:
        model: a model built by this package, or any whose layers are named by the same rule.
        source: a file (see `checkpoint.read`; its layout is recognised), a folder or
            `"hf://owner/repository"` (see `hub.fetch`), or a mapping from PyTorch's names to
            arrays or tensors of any library.
        strict: False loads what fits and leaves the rest; see the report.
        prefix: the one that the backbone was built with.
        head: `"load"`, or `"fresh"` to leave the classifier as it is, and with it what stands only
            in front of it, where the file has nothing of that. A model without a classifier
            (`include_top=False`) takes none either way.
        key: where in the source the tensors stand, or the part of it that tells: `"encoder_q"`,
            `"state_dict_ema"`, or `""` for the outermost; default: where the model's names are
            found.

    Returns:
        A report of what was loaded and what was not.

    Raises:
        ValueError: if an argument is out of its range; the file is damaged or cannot be had; a
            tensor that the model wants is not finite or no floating-point number; the model's
            names are found under several keys; nothing fits; or, being strict, a tensor of the
            checkpoint is not used or a variable of the model not set.
        TypeError: if `model` or `source` is something else.
        FileNotFoundError: if there is no such file.

    Example:

    >>> model = keras_resnets.ResNeSt50(weights=None)
    >>> report = keras_resnets.load_weights(model, "resnest50d.safetensors")
    >>> report.fits
    True
    """
    if head not in ("load", "fresh"):
        raise ValueError(f'head must be "load" or "fresh". Received: head={head!r}')
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model. Received: model={type(model).__name__}")
    require(key is None or isinstance(key, str), "key must be a string or None", key=key)
    file = located(_as_checkpoint(source), model, prefix, key, strict=strict)
    layers = _layers_by_name(model)
    skips = _skipped(file, layers, prefix, fresh=head == "fresh")
    wanted = {
        f"{name}/{variable.name}": variable
        for name, layer in layers.items()
        if name.startswith(keras_name(prefix)) and not skips(name)
        for variable in layer.weights
    }
    placed, unexpected, skipped = _placed(file, layers, prefix, skips)
    stem, adapted = _stem(layers, prefix), []
    for i, tensor in enumerate(placed):
        if tensor.layer == stem and tensor.differs_in_channels:
            adapted.append(str(tensor))
            placed[i] = _adapted(tensor)
    report = LoadReport(
        loaded=tuple(sorted(tensor.key for tensor in placed if tensor.fits)),
        missing=tuple(sorted(wanted.keys() - {tensor.key for tensor in placed})),
        unexpected=tuple(sorted(unexpected)),
        reshaped=tuple(sorted(str(tensor) for tensor in placed if not tensor.fits)),
        adapted=tuple(adapted),
        skipped=tuple(sorted(skipped)),
        key=file.key or "",
    )
    if not report.fits and (strict or not report.loaded):
        wrong_layers = {
            *unexpected.values(),
            *(tensor.layer for tensor in placed if not tensor.fits),
            *(key.partition("/")[0] for key in report.missing),
        }
        only_head = all(in_head(name, prefix) for name in wrong_layers)
        raise ValueError(misfit(file, model, wanted, report, only_head))
    for tensor in placed:
        if tensor.fits:
            tensor.variable.assign(tensor.array)
    return report


def located(
    file: StateDict,
    model: keras.Model,
    prefix: str = "",
    key: str | None = None,
    *,
    strict: bool = True,
) -> StateDict:
    """The part of a file that holds a model's tensors; see `keys.located`.

    The classifier is not looked at, which may be another one or none.
    """
    start = keras_name(prefix)
    wanted = {
        f"{name.removeprefix(start)}.{_LEAF_OF[variable.name]}"
        for name, layer in _layers_by_name(model).items()
        if name.startswith(start) and not in_head(name, prefix)
        for variable in layer.weights
        if variable.name in _LEAF_OF
    }
    return keys.located(file, wanted, key, strict=strict)


def _skipped(
    file: StateDict, layers: Mapping[str, keras.layers.Layer], prefix: str, *, fresh: bool
) -> Callable[[str], bool]:
    """Whether a layer is left as it is, by its name."""
    if not fresh:
        has_head = any(in_head(name, prefix) for name in layers)
        return lambda name: not has_head and in_head(name, prefix)
    # A hidden layer or attention pooling that was trained stays, where the file has one.
    in_file = {_target(name, file.layout, prefix, layers)[0] for name in file.arrays}
    before = {name for name in layers if in_head(name, prefix) and not is_classifier(name, prefix)}
    skips = is_classifier if before & in_file else in_head
    return lambda name: skips(name, prefix)


def _placed(
    file: StateDict,
    layers: Mapping[str, keras.layers.Layer],
    prefix: str,
    skips: Callable[[str], bool],
) -> tuple[list[_Placed], dict[str, str], list[str]]:
    """Tensors beside their variables, the layers of those that have none, and those to be skipped.

    Raises:
        ValueError: if a tensor that has a variable is no weight.
    """
    targets, unexpected, skipped = {}, {}, []
    for name in file.arrays:
        layer_name, variable, axes = _target(name, file.layout, prefix, layers)
        if skips(layer_name):
            skipped.append(name)
        elif variable is not None:
            targets[name] = layer_name, variable, axes
        elif not name.endswith(COUNTER):
            unexpected[name] = layer_name
    if file.layout == "torch":
        require_weights(file, targets)
    placed = []
    for name, (layer_name, variable, axes) in targets.items():
        array = file.arrays[name]
        if axes == _AXES[2] and array.ndim == 4 and array.shape[2:] == (1, 1):
            array = array[:, :, 0, 0]  # A dense layer that is a 1x1 convolution there.
        # A tensor of another rank keeps its axes and counts among those that do not fit.
        array = array.transpose(axes) if axes and array.ndim == len(axes) else array
        placed.append(_Placed(name, layer_name, variable, array))
    return placed, unexpected, skipped


def save_safetensors(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    architecture: str | None = None,
    tag: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    prefix: str = "",
) -> None:
    """Writes a model's weights as timm would: its names, shapes and axis order.

    timm loads the file with `strict=True` into the architecture of the same name, and
    `load_weights` into ours, bit by bit the same. A path whose writing fails keeps what it held.

    Args:
        model: a model built by this package, or any whose layers are named by the same rule.
        path: the file, ending in `.safetensors`.
        architecture: for the file's metadata; default: the model's name, which is the variant's
            unless it was built with another.
        tag: name of the weights, for the metadata. That of published weights brings along their
            licence and how their images are prepared.
        metadata: more of it; values that are no strings are written as JSON. How images are
            normalised is written without being told where the model's own layers do it.
        prefix: the one that the backbone was built with; layers without it are left out.

    Raises:
        ValueError: if the path does not end so or its folder does not exist, or a layer has a
            variable that PyTorch's modules lack.
        TypeError: if `model` is something else.
        OSError: if the file cannot be written; nothing is left behind.

    Example:

    >>> model = keras_resnets.ResNeSt50(weights=None, classes=10)
    >>> keras_resnets.save_safetensors(model, "mine.safetensors")
    >>> timm.create_model("resnest50d", num_classes=10, checkpoint_path="mine.safetensors")
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model. Received: model={type(model).__name__}")
    path = os.fspath(path)
    folder = os.path.dirname(path) or "."
    if not path.endswith(".safetensors") or os.path.isdir(path):
        raise ValueError(f"path must be a file ending in .safetensors. Received: path={path!r}")
    if not os.path.isdir(folder):
        raise ValueError(f"path must be in a folder that exists. Received: path={path!r}")
    architecture = model.name if architecture is None else architecture
    texts = _metadata(architecture, tag, stated_in(model) | dict(metadata or {}))
    tensors = _pytorch_tensors(model, prefix)

    write_safetensors(path, tensors, texts)


def _metadata(architecture: str, tag: str | None, more: Mapping[str, Any]) -> dict[str, str]:
    values = {"architecture": architecture, "tag": tag}
    if tag is not None:
        # A tag of one's own is as good; only a published one is known.
        with contextlib.suppress(ValueError):
            known = published.find(architecture, tag)
            values |= {"license": known.license, **known.preparation.as_metadata()}
    values |= more
    texts = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in values.items()
        if value is not None
    }
    return texts | {"format": "pt"}


def _pytorch_tensors(model: keras.Model, prefix: str) -> dict[str, np.ndarray]:
    """Every variable under its name in PyTorch's state dict, and the counters that belong there."""
    tensors, unknown = {}, []
    for name, layer in _layers_by_name(model).items():
        if not name.startswith(keras_name(prefix)):
            continue
        module = module_path(name.removeprefix(keras_name(prefix)))
        for variable in layer.weights:
            if variable.name not in _LEAF_OF:
                unknown.append(f"{name}/{variable.name}")
                continue
            array = keras.ops.convert_to_numpy(variable).astype(np.float32)
            if variable.name == "kernel" and array.ndim in _AXES:
                array = array.transpose(np.argsort(_AXES[array.ndim]))
                if isinstance(layer, PointwiseDense):
                    array = array[:, :, None, None]
            tensors[f"{module}.{_LEAF_OF[variable.name]}"] = np.ascontiguousarray(array)
            if variable.name == "moving_mean":
                tensors[f"{module}.{COUNTER}"] = np.zeros((), np.int64)
    if unknown:
        raise ValueError(
            f"model must have the variables of PyTorch's modules only, {' and '.join(_LEAF_OF)}. "
            f"Received: {listed(unknown)}"
        )
    return tensors


class _Placed(NamedTuple):
    """A tensor of the file beside the variable that it belongs to, in Keras' axis order."""

    name: str
    layer: str
    variable: keras.Variable
    array: np.ndarray

    @property
    def key(self) -> str:
        return f"{self.layer}/{self.variable.name}"

    @property
    def fits(self) -> bool:
        return self.array.shape == tuple(self.variable.shape)

    @property
    def differs_in_channels(self) -> bool:
        """Whether two kernels (height, width, in, out) differ in their input channels alone."""
        shape, wanted = self.array.shape, self.variable.shape
        return (
            len(shape) == len(wanted) == 4
            and shape[2] not in (0, wanted[2])
            and (*shape[:2], shape[3]) == (*wanted[:2], wanted[3])
        )

    def __str__(self) -> str:
        return f"{self.name}: {self.array.shape} -> {tuple(self.variable.shape)}"


def classes_in(file: StateDict, prefix: str = "") -> int | None:
    """Number of classes of a checkpoint's classifier, or None if it has none."""
    for path in CLASSIFIERS:
        key, axis = f"{path}.weight", 0
        if file.layout == "keras":
            key, axis = f"{keras_name(prefix + path)}/0", -1
        if key in file.arrays and file.arrays[key].ndim:
            return file.arrays[key].shape[axis]
    return None


def channels_in(file: StateDict, model: keras.Model, prefix: str = "") -> int:
    """Input channels of a located checkpoint's stem; the model's own if it has none."""
    layers = _layers_by_name(model)
    stem = _stem(layers, prefix)
    for name, array in file.arrays.items():
        layer_name, variable, axes = _target(name, file.layout, prefix, layers)
        if layer_name == stem and variable is layers[stem].kernel and array.ndim == 4:
            return array.shape[axes[2] if axes else 2]
    return model.input_shape[-1]


def _layers_by_name(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """The layers that a checkpoint holds; two of one name would leave the first unset."""
    layers = {}
    for layer in filter(_has_checkpointed, flat_layers(model)):
        if layers.setdefault(layer.name, layer) is not layer:
            raise ValueError(
                "model must not have two layers of one name; build its backbones with different "
                f"prefixes, or load them one by one. Received: two layers {layer.name!r}"
            )
    return layers


def _as_checkpoint(source) -> StateDict:
    if isinstance(source, StateDict):
        return source
    if isinstance(source, Mapping) and all(isinstance(name, str) for name in source):
        return StateDict("mapping", "torch", layouts.to_timm(gathered(source, lists=True)))
    if isinstance(source, (str, os.PathLike)):
        found = hub.is_source(source) or os.path.isdir(source)
        return checkpoint.read(hub.fetch(source).path if found else source)
    raise TypeError(
        "source must be a path or a mapping from names to arrays. "
        f"Received: source={type(source).__name__}"
    )


def _target(
    name: str, layout: str, prefix: str, layers: Mapping[str, keras.layers.Layer]
) -> tuple[str, keras.Variable | None, tuple[int, ...] | None]:
    """Where a checkpoint's tensor goes: layer name, variable (None if there is none), axes."""
    if layout == "keras":
        layer_name, index = name.rsplit("/", 1)
        weights = layers[layer_name].weights if layer_name in layers else []
        known = index.isdecimal() and int(index) < len(weights)
        return layer_name, weights[int(index)] if known else None, None
    module, _, leaf = name.rpartition(".")
    layer_name = keras_name(prefix + module)
    if layer_name in layers:
        for variable in layers[layer_name].weights:
            if variable.name in _LEAVES.get(leaf, ()):
                axes = _AXES.get(len(variable.shape)) if variable.name == "kernel" else None
                return layer_name, variable, axes
    return layer_name, None, None


def _has_checkpointed(layer: keras.layers.Layer) -> bool:
    """Whether a checkpoint holds this layer: a drop rate is configuration, not weight."""
    return bool(layer.weights) and not isinstance(layer, ScheduledRate)


def _stem(layers: Mapping[str, keras.layers.Layer], prefix: str) -> str | None:
    """Name of the backbone's first convolution."""
    return next(
        (
            name
            for name, layer in layers.items()
            if isinstance(layer, keras.layers.Conv2D) and name.startswith(keras_name(prefix))
        ),
        None,
    )


def _adapted(tensor: _Placed) -> _Placed:
    return tensor._replace(array=_adapt_channels(tensor.array, tensor.variable.shape[2]))


def _adapt_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A stem's kernel for another number of input channels.

    One channel sees the sum over the old ones: a gray image then gives exactly what its RGB copy
    gave. More channels repeat the old ones, scaled to keep the size of the response.
    """
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    repeated = np.tile(kernel, (1, 1, -(-channels // kernel.shape[2]), 1))[:, :, :channels]
    return repeated * (kernel.shape[2] / channels)
