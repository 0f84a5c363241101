"""Keras models of several projects: a training step and inference, on any backend."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

BLOCKS = (3, 4, 6, 3)
PLANES = (64, 128, 256, 512)


def training_step(
    source: str, variant: str, size: int, batch: int, dtype: str, jit_compile: bool
) -> Callable[[], None]:
    """Prepares a step of `train_on_batch`: forward, loss, backward, SGD with momentum.

    Args:
        source: a key of `SOURCES`.
        variant: name of the network, as in timm.
        size: height and width of the images.
        batch: images a step.
        dtype: `"float32"` or `"bfloat16"`, which is Keras' mixed precision: float32 variables.
        jit_compile: whether XLA compiles the step. JAX always does.
    """
    model = build(source, variant, size, dtype)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    images = keras.ops.convert_to_tensor(random_images(size, batch))
    labels = keras.ops.convert_to_tensor(np.arange(batch, dtype="int32") % 1000)
    # It returns the loss as a number, so the step is over when it returns.
    return lambda: model.train_on_batch(images, labels)


def inference(
    source: str, variant: str, size: int, batch: int, dtype: str, jit_compile: bool, folded: bool
) -> Callable[[], None]:
    """Prepares `predict_on_batch`, from images to logits; the arguments are those above.

    Args:
        folded: whether batch norms are folded first, by `keras_resnets.fold_batch_norms`.
    """
    model = build(source, variant, size, dtype)
    if folded:
        import keras_resnets

        model = keras_resnets.fold_batch_norms(model)
    model.compile(jit_compile=jit_compile)
    images = keras.ops.convert_to_tensor(random_images(size, batch))
    # It returns a NumPy array.
    return lambda: model.predict_on_batch(images)


def random_images(size: int, batch: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, size, size, 3), "float32")


def build(source: str, variant: str, size: int, dtype: str) -> keras.Model:
    """A network with random weights that returns the logits of 1000 classes.

    Raises:
        KeyError: if the source is unknown or does not have the variant.
    """
    keras.config.set_dtype_policy("mixed_bfloat16" if dtype == "bfloat16" else dtype)
    return SOURCES[source](variant, (size, size, 3))


Shape = tuple[int, int, int]


def keras_resnets_model(variant: str, shape: Shape, **options: bool) -> keras.Model:
    import keras_resnets

    return keras_resnets.create_model(
        variant, weights=None, input_shape=shape, classifier_activation=None, **options
    )


def remat_model(variant: str, shape: Shape) -> keras.Model:
    """Ours with its blocks computed twice, to need less memory."""
    return keras_resnets_model(variant, shape, remat=True)


def stock_groups_model(variant: str, shape: Shape) -> keras.Model:
    """Our graph with `keras.layers.Conv2D(groups=)` in place of our layer."""
    from keras_resnets.layers import GroupedConv2D

    known = keras.layers.Conv2D(1, 1).get_config().keys()

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if not isinstance(layer, GroupedConv2D):
            return type(layer).from_config(config)
        return keras.layers.Conv2D.from_config({key: config[key] for key in known})

    return keras.models.clone_model(keras_resnets_model(variant, shape), clone_function=clone)


def keras_applications_model(variant: str, shape: Shape) -> keras.Model:
    constructor = {"resnet50": keras.applications.ResNet50}[variant]
    return constructor(weights=None, input_shape=shape, classifier_activation=None)


def keras_hub_model(variant: str, shape: Shape) -> keras.Model:
    import keras_hub

    backbone = keras_hub.models.ResNetBackbone(
        stackwise_num_filters=PLANES,
        stackwise_num_blocks={"resnet50": BLOCKS}[variant],
        stackwise_num_strides=(1, 2, 2, 2),
        block_type="bottleneck_block",
        input_conv_filters=(64,),
        input_conv_kernel_sizes=(7,),
        image_shape=shape,
    )
    return keras_hub.models.ResNetImageClassifier(backbone, num_classes=1000)


def zeromodels_model(variant: str, shape: Shape) -> keras.Model:
    from zeromodels.models import res2net, resnet, resnext

    # The settings of ZeroModels' own converter from timm.
    constructor, settings = {
        "resnet50": (resnet.ResNetImageClassify, dict(depths=BLOCKS, filters=PLANES)),
        "resnext50_32x4d": (
            resnext.ResNeXtImageClassify,
            dict(depths=BLOCKS, filters=PLANES, groups=32, width_factor=2),
        ),
        "res2net50_26w_4s": (
            res2net.Res2NetImageClassify,
            dict(depth=BLOCKS, base_width=26, scale=4, cardinality=1),
        ),
    }[variant]
    return constructor(image_size=shape[0], num_classes=1000, **settings)


SOURCES = {
    "keras_resnets": keras_resnets_model,
    "keras_resnets, remat": remat_model,
    "stock groups=": stock_groups_model,
    "keras.applications": keras_applications_model,
    "KerasHub": keras_hub_model,
    "ZeroModels": zeromodels_model,
}
"""By project: builds a variant for images of a shape."""
