"""A tiny net of every family, filled, and what tests do with nets that train."""

import functools

import keras
import numpy as np
from deterministic import random_images, random_state
from nets import CASES

import keras_resnets as kr

# Two stages: a block that changes the shape, one that changes stride and width, one that does not.
_STAGES = dict(depths=(1, 2), planes=(8, 16))
# Wider where a 1x1 convolution of stride 2 would have 8 channels and 16 filters: its gradient in
# TensorFlow 2.21 (oneDNN with AVX-512) writes beyond its memory on larger images.
_WIDER = dict(depths=(1, 2), planes=(24, 32), stem_width=16)
_REXNET = dict(initial_channels=8, final_channels=40, depth=0.5)

# One tiny net of every family and of every block that learns in another way.
NETS = {
    **{
        name: (CASES[name].variant, CASES[name].changes | _STAGES)
        for name in (
            "bottleneck-d",
            "resnext-se",
            "resnest-2s2x",
            "resnest-1s2x-first",
            "res2net-4s",
            "res2next",
        )
    },
    "basic": ("resnet18", _WIDER),
    "cifar": ("resnet20", _WIDER),
    "wide": ("wide_resnet28_10", _WIDER),
    "rexnet": ("rexnet_100", _REXNET),
    "rexnet-lite": ("rexnet_lite_100", _REXNET),
}

LEAVES = dict(
    kernel="weight",
    gamma="weight",
    bias="bias",
    beta="bias",
    moving_mean="running_mean",
    moving_variance="running_var",
    position_embedding="pos_embed",
)


def tiny_net(net: str, **arguments) -> keras.Model:
    """A filled net that returns the logits of 10 classes.

    An initialiser's values would not do: the last gamma of a block starts at zero, so nothing of a
    residual branch would reach the output, and no gradient would reach the branch.
    """
    variant, changes = NETS[net]
    arguments = dict(weights=None, classes=10, classifier_activation=None) | arguments
    return fill(kr.create_model(variant, **changes, **arguments))


def fill(model: keras.Model) -> keras.Model:
    """Give a model deterministic weights; a layer's name stands for its path in a checkpoint."""
    shapes = {
        f"{layer.name}.{LEAVES[variable.name]}": _pytorch_shape(variable)
        for layer in model.layers
        for variable in layer.weights
        if variable.name in LEAVES
    }
    kr.load_weights(model, random_state(shapes))
    return model


def _pytorch_shape(variable: keras.Variable) -> tuple[int, ...]:
    # A kernel (h, w, in, out) is square, so reversed it has PyTorch's shape (out, in, w, h).
    return variable.shape[::-1] if variable.name == "kernel" else variable.shape


def compiled(model: keras.Model, rate: float = 0.01, **arguments) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss, **arguments)
    return model


@functools.cache
def batch(height: int = 64, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    return random_images(height, width, batch=4), np.array([0, 3, 6, 9])


def fit(model: keras.Model, data=None, **arguments) -> list[float]:
    """Train on one batch, once an epoch; return the losses."""
    images, labels = data or batch()
    arguments = dict(batch_size=len(images), shuffle=False, verbose=0) | arguments
    return model.fit(images, labels, **arguments).history["loss"]


def values(variables) -> dict[str, np.ndarray]:
    return {variable.path: keras.ops.convert_to_numpy(variable) for variable in variables}


def unchanged(variables, before: dict[str, np.ndarray]) -> set[str]:
    return {
        path for path, after in values(variables).items() if np.array_equal(after, before[path])
    }


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def call(model: keras.Model, images: np.ndarray, **arguments) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(images, **arguments))
