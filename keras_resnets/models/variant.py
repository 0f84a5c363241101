"""Variant: a network's configuration under its name; calling it builds the `keras.Model`."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import keras
from keras import KerasTensor

from keras_resnets.checks import (
    as_plain,
    described,
    is_count,
    nearest,
    require,
    require_flag,
    require_rate,
)
from keras_resnets.graph.remat import BACKENDS, RematModel
from keras_resnets.models import blocks
from keras_resnets.models.network import BackboneOptions, NetworkConfig
from keras_resnets.names import keras_name, level_name
from keras_resnets.preparation import Preparation
from keras_resnets.weights import fit, published, source


@dataclasses.dataclass(frozen=True)
class Variant:
    """One published architecture. Call it to build the model.

    Attributes:
        name: the architecture's name in timm, or in timm's manner where timm has none.
        config: its numbers, a frozen dataclass of its family.
        classes: how many classes its paper's classifier has; the channels of an embedding; 0 for a
            network without a classifier.
    """

    name: str
    config: NetworkConfig
    classes: int = 1000

    def __post_init__(self) -> None:
        """Makes `help(keras_resnets.ResNet50)` show the numbers, the papers and the arguments."""
        family = sys.modules[type(self.config).__module__].__doc__
        signature, arguments = _documentation()
        parts = [
            f"{self.name}{signature}",
            f"{self.config!r}, {self.classes} classes.",
            arguments,
            f"The family:\n\n{family}",
        ]
        object.__setattr__(self, "__doc__", "\n\n".join(parts))

    @property
    def pretrained(self) -> dict[str, published.Pretrained]:
        """The published checkpoints by tag; any tag is a value of `weights`."""
        return dict(published.table().get(self.name, {}))

    def __call__(
        self,
        include_top: bool = True,
        weights: str | os.PathLike | None = "imagenet",
        input_tensor: KerasTensor | None = None,
        input_shape: tuple[int | None, int | None, int] | None = None,
        pooling: str | None = None,
        classes: int | None = None,
        classifier_activation: str | Callable | None = "softmax",
        name: str | None = None,
        *,
        include_preprocessing: bool = False,
        output_stride: int = 32,
        dropout: float | None = None,
        drop_path: float = 0.0,
        drop_block: float = 0.0,
        remat: bool = False,
        prefix: str = "",
        **config_changes: Any,
    ) -> keras.Model:
        """Builds the model. The first eight arguments are those of `keras.applications`.

        Args:
            include_top: whether to end in the classifier. Without it the model returns the last
                feature map, or a vector if `pooling` is given.
            weights: None for random weights; a published tag of this variant (its `pretrained`
                lists them), `"imagenet"` being the best of a permissive licence;
                `"hf://owner/repository"`, also with `@revision`; a folder with a `config.json`
                and weights; or a file of safetensors, PyTorch or Keras with the tensors of timm,
                torchvision, transformers, OpenMMLab or the papers' authors, wherever a training
                script put them (see `load_weights`). They fit or raise; only their classifier may
                differ or be missing, if `classes` says so or `include_top` is False, and the number
                of their input channels: they are summed for one channel, else repeated and scaled
                to keep the sum.
            input_tensor: a `keras.KerasTensor` to build on, instead of a new `keras.Input`.
            input_shape: `(height, width, channels)`; height and width may be None, and are if
                nothing is given: `(None, None, 3)`.
            pooling: `"avg"` or `"max"`: how the feature map becomes a vector. With `include_top`
                the classifier stands on it (default `"avg"`), without it the model returns it.
            classes: number of classes; default: the checkpoint's, else 1000 (10 for CIFAR forms).
            classifier_activation: `"softmax"`, another Keras activation, or None for the logits.
                The embedding of a CLIP tower has none, unless `classes` makes it a classifier.
            name: name of the model; default: the variant's.
            include_preprocessing: True builds the scaling of RGB values 0 to 255 into the model,
                with the mean and standard deviation of the weights, or else ImageNet's.
            output_stride: 8, 16 or 32, the most by which the feature map shrinks; further strides
                become dilations. Weights stay the same.
            dropout: rate in front of the classifier; default: the paper's.
            drop_path: stochastic depth: rate of the last block, rising linearly from 0.
            drop_block: DropBlock rate in the last two stages.
            remat: True trains in less memory and more time, by computing each block's feature maps
                again when their gradients need them. Nothing else changes: the model has the same
                layers, weights and values.
            prefix: prepended to every layer's name, for two backbones in one model.
            **config_changes: any field of the variant's `config`, for example
                `depths=(2, 2, 2, 2)` or `small_inputs=True`.

        Returns:
            A `keras.Model` that takes float images `(batch, height, width, channels)`, normalised
            unless `include_preprocessing`, and returns `(batch, classes)`; without the top
            `(batch, height / stride, width / stride, channels)` or, pooled, `(batch, channels)`.

        Raises:
            ValueError: if an argument is out of its range, arguments contradict each other, or
                a checkpoint cannot be had or does not fit. The message names the argument.
            TypeError: if a keyword is neither an argument nor a field of `config`.

        Example:

        >>> model = keras_resnets.ResNet50(weights=None, classes=10)
        >>> model(keras.ops.ones((1, 224, 224, 3))).shape
        (1, 10)
        """
        config = _changed(self.config, config_changes)
        classes, output_stride = as_plain(classes), as_plain(output_stride)
        dropout, drop_path, drop_block = map(as_plain, (dropout, drop_path, drop_block))
        input_shape = as_plain(input_shape)
        options = BackboneOptions(
            output_stride=output_stride,
            drop_path=drop_path,
            drop_block=drop_block,
            prefix=prefix,
        )
        dropout = config.default_dropout if dropout is None else dropout
        name = self.name if name is None else name
        require_flag(
            include_top=include_top, include_preprocessing=include_preprocessing, remat=remat
        )
        require(
            not remat or keras.backend.backend() in BACKENDS,
            f"remat needs one of the backends {', '.join(BACKENDS)} (KERAS_BACKEND)",
            remat=remat,
            backend=keras.backend.backend(),
        )
        require_rate(dropout=dropout, drop_path=drop_path, drop_block=drop_block)
        _check_names(prefix=prefix, name=name)
        require(
            is_count(output_stride) and output_stride in (8, 16, 32),
            "output_stride must be 8, 16 or 32",
            output_stride=output_stride,
        )
        require(
            pooling is None or (isinstance(pooling, str) and pooling in ("avg", "max")),
            'pooling must be None, "avg" or "max"',
            pooling=pooling,
        )
        require(
            classes is None or is_count(classes),
            "classes must be a positive int",
            classes=classes,
        )
        _check_activation(classifier_activation)
        shape = _input_shape(
            input_shape, input_tensor, prefix, smallest=min(config.stride, output_stride)
        )
        require(
            shape[-1] == 3 or not include_preprocessing,
            "include_preprocessing needs 3 input channels (RGB)",
            include_preprocessing=include_preprocessing,
            **{_shape_argument(input_tensor): shape},
        )
        config.check(options)
        if include_top:
            config.check_pooling(pooling)
        found = source.read(self.name, weights)

        # Everything is checked; now build.
        images = input_tensor
        if images is None:
            images = keras.Input(shape, name=keras_name(f"{prefix}image"))
        x = images
        if include_preprocessing:
            stated = (found and found.preparation) or Preparation()
            x = blocks.normalize(x, stated.mean, stated.std, prefix)
        x = config.backbone(x, options)
        inputs = images if input_tensor is None else _inputs_of(input_tensor)
        state_dict = found and found.located_in(keras.Model(inputs, x), prefix)
        fresh_head = False
        if include_top:
            if config.embeds and classes is None:
                classifier_activation = None
            own_classes = fit.classes_in(state_dict, prefix) if state_dict else None
            fresh_head = found is not None and classes not in (None, own_classes)
            x = config.top(
                x,
                classes=classes or own_classes or self.classes,
                activation=classifier_activation,
                dropout=dropout,
                pooling=pooling,
                prefix=prefix,
            )
        elif pooling:
            x = config.pool(x, pooling, prefix)
        model_class = RematModel if remat else keras.Model
        model = model_class(inputs, x, name=name)
        if state_dict:
            fit.load_weights(
                model, state_dict, prefix=prefix, head="fresh" if fresh_head else "load"
            )
        if fresh_head:
            theirs = f"differs from the {own_classes} classes" if own_classes else "is no part"
            warnings.warn(
                f"classes={classes} {theirs} of {found.name!r}: "
                "the backbone is loaded and the classifier starts from random weights.",
                stacklevel=2,
            )
        return model


def public_names(namespace: dict[str, Any]) -> list[str]:
    """A family's `__all__`: the names of its variants. Its table is the public namespace."""
    return [name for name, value in namespace.items() if isinstance(value, Variant)]


@functools.cache  # One text for all variants: importing the package stays cheap.
def _documentation() -> tuple[str, str]:
    """Signature and docstring of a variant's call."""
    signature = inspect.signature(Variant.__call__)
    arguments = [p for name, p in signature.parameters.items() if name != "self"]
    return str(signature.replace(parameters=arguments)), inspect.getdoc(Variant.__call__)


def _arguments() -> list[str]:
    """Names of a builder's arguments."""
    own = inspect.signature(Variant.__call__).parameters
    return [name for name in own if name not in ("self", "config_changes")]


def _changed(config: NetworkConfig, changes: dict[str, Any]) -> NetworkConfig:
    """The configuration with some fields replaced."""
    fields = [field.name for field in dataclasses.fields(config)]
    for key in changes:
        if key not in fields:
            raise TypeError(
                f"{key!r} is neither an argument nor a field of {type(config).__name__}. "
                f"{nearest(key, [*_arguments(), *fields])}Its fields: {', '.join(fields)}. "
                f"Received: {described({key: changes[key]})}"
            )
    return dataclasses.replace(config, **{key: as_plain(value) for key, value in changes.items()})


def _check_names(**names: Any) -> None:
    for key, value in names.items():
        require(
            isinstance(value, str) and "/" not in value,
            f"{key} must be a string without '/'",
            **{key: value},
        )
    require(names["name"] != "", "name must not be empty", name=names["name"])


def _check_activation(activation: Any) -> None:
    try:
        keras.activations.get(activation)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            "classifier_activation must be None or an activation known to Keras, such as "
            f"'softmax'. Received: classifier_activation={activation!r}"
        ) from error


def _input_shape(
    input_shape: Any, input_tensor: Any, prefix: str, smallest: int
) -> tuple[int | None, int | None, int]:
    """The shape (height, width, channels) of the images, checked."""
    require(
        keras.config.image_data_format() == "channels_last",
        "image_data_format must be 'channels_last'; "
        "call keras.config.set_image_data_format('channels_last')",
        image_data_format=keras.config.image_data_format(),
    )
    argument = _shape_argument(input_tensor)
    if input_tensor is not None:
        if not isinstance(input_tensor, KerasTensor):
            raise TypeError(
                "input_tensor must be a keras.KerasTensor, such as keras.Input(...) returns. "
                f"Received: input_tensor={input_tensor!r}"
            )
        require(
            input_shape is None
            or (
                isinstance(input_shape, (tuple, list))
                and tuple(input_shape) == tuple(input_tensor.shape[1:])
            ),
            "input_shape must agree with input_tensor, or be left out",
            input_shape=input_shape,
            input_tensor=input_tensor,
        )
        require(
            len(input_tensor.shape) == 4 and input_tensor.shape[-1] is not None,
            "input_tensor must have the shape (batch, height, width, channels)",
            input_tensor=input_tensor,
        )
        names = _names_in_front_of(input_tensor)
        require(
            level_name("P1", prefix) not in names,
            "prefix must differ from that of the network which input_tensor comes from",
            prefix=prefix,
        )
        input_shape = tuple(input_tensor.shape[1:])
    if input_shape is None:
        input_shape = (None, None, 3)
    require(
        isinstance(input_shape, (tuple, list))
        and len(input_shape) == 3
        and is_count(input_shape[2])
        and all(size is None or is_count(size, 0) for size in input_shape[:2]),
        "input_shape must be (height, width, channels), with height and width ints or None and "
        "channels a positive int",
        input_shape=input_shape,
    )
    require(
        input_shape[0] not in (1, 3, 4) or input_shape[2] <= 16,
        f"{argument} must be (height, width, channels), channels last",
        **{argument: input_shape},
    )
    require(
        all(size is None or size >= smallest for size in input_shape[:2]),
        f"{argument}: height and width must be at least {smallest}, the network's stride, or None",
        **{argument: input_shape},
    )
    return tuple(input_shape)


def _names_in_front_of(tensor: KerasTensor) -> set[str]:
    """Names of the layers that a tensor is computed from."""
    inputs = keras.utils.get_source_inputs(tensor)
    if any(tensor is source for source in inputs):
        return set()  # Before Keras 3.14 an input alone is no model.
    return {layer.name for layer in keras.Model(inputs, tensor).layers}


def _shape_argument(input_tensor: Any) -> str:
    """The argument that the images' shape comes from, for messages."""
    return "input_shape" if input_tensor is None else "input_tensor"


def _inputs_of(tensor: KerasTensor) -> KerasTensor | list[KerasTensor]:
    """The input or inputs that a tensor is computed from."""
    inputs = keras.utils.get_source_inputs(tensor)
    return inputs[0] if len(inputs) == 1 else inputs
