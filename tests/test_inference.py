"""Layers that do nothing at inference are taken out, and only those."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_resnets as kr
from keras_resnets.graph.inference import only_trains, without_training_layers

IMAGES = np.random.default_rng(0).integers(20, 200, (2, 12, 12, 3)).astype("float32")

# Where Keras wants arguments; sizes that would leave such an image alone prove nothing.
ARGUMENTS = {
    "ActivityRegularization": dict(l2=0.1),
    "CenterCrop": dict(height=4, width=4),
    "RandomZoom": dict(height_factor=0.5),
    "RandomTranslation": dict(height_factor=0.5, width_factor=0.5),
    "RandomColorJitter": dict(value_range=(0, 255), brightness_factor=0.5),
    "RandomHue": dict(factor=0.5, value_range=(0, 255)),
    "RandomColorDegeneration": dict(factor=0.5, value_range=(0, 255)),
    "RandomSharpness": dict(factor=0.5, value_range=(0, 255)),
    "Resizing": dict(height=4, width=4),
    "SpatialDropout1D": dict(rate=0.5),
    "SpatialDropout3D": dict(rate=0.5),
    "RandomPosterization": dict(factor=4),
    "RandomContrast": dict(factor=0.5),
    "RandomBrightness": dict(factor=0.5),
    "RandomSaturation": dict(factor=0.5),
    "RandomRotation": dict(factor=0.5),
    "RandomInvert": dict(factor=1.0),
    "RandomGaussianBlur": dict(factor=1.0),
}
RATES = ("AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "SpatialDropout2D")
INPUTS = {"SpatialDropout1D": IMAGES[..., 0], "SpatialDropout3D": IMAGES[:, None]}


def regularizers_and_augmentation() -> list[str]:
    """All of both that the installed Keras has, found by where it keeps them."""
    return [
        name
        for name, value in vars(layers).items()
        if isinstance(value, type)
        and any(
            f".{part}." in value.__module__ for part in ("regularization", "image_preprocessing")
        )
        # The one is about boxes beside images. The other returns whole images in Keras 3.15 but
        # says that it crops them at inference: nothing should rest on what it does.
        and name not in ("MaxNumBoundingBoxes", "RandomCrop")
    ]


@pytest.mark.parametrize("name", regularizers_and_augmentation())
def test_the_table_has_the_layers_that_return_their_input_and_no_other(name):
    arguments = dict(rate=0.5) if name in RATES and name != "GaussianNoise" else {}
    arguments |= dict(stddev=0.5) if name == "GaussianNoise" else ARGUMENTS.get(name, {})
    layer = getattr(layers, name)(**arguments)
    images = INPUTS.get(name, IMAGES)
    made = keras.ops.convert_to_numpy(layer(images, training=False))
    assert only_trains(layer) == np.array_equal(made, images)


def test_layers_of_ours_are_in_it():
    assert not only_trains(layers.RandomCrop(4, 4))
    assert only_trains(kr.layers.DropPath(0.1))
    assert only_trains(kr.layers.DropBlock2D(0.1, 3))
    assert not only_trains(layers.Identity())


class AlwaysDrops(layers.Dropout):
    def call(self, inputs, training=False):
        return super().call(inputs, training=True)


def test_a_subclass_stays():
    assert not only_trains(AlwaysDrops(0.5))


def augmentation(kind: str) -> layers.Layer:
    steps = [layers.RandomFlip(), layers.RandomContrast(0.5)]
    if kind == "pipeline":
        return layers.Pipeline(steps)
    return keras.Sequential([layers.Rescaling(2.0), *steps] if kind == "partly" else steps)


def with_augmentation(kind: str) -> keras.Model:
    """Layers that go: in front of a network, inside it and in its head."""
    image = keras.Input((32, 32, 3), dtype="uint8")
    network = kr.ResNet18(
        weights=None,
        depths=(1, 2),
        planes=(8, 16),
        drop_path=0.2,
        drop_block=0.1,
        dropout=0.3,
        classes=4,
        name="network",
    )
    return keras.Model(image, network(augmentation(kind)(image)), name="augmented")


@pytest.mark.parametrize("kind", ["sequential", "pipeline", "partly"])
def test_predictions_stay_and_the_layers_go(kind):
    model = with_augmentation(kind)
    images = np.random.default_rng(1).integers(0, 255, (2, 32, 32, 3)).astype("uint8")
    expected = model.predict_on_batch(images)
    weights = [weight.copy() for weight in model.get_weights()]
    bare = without_training_layers(model)
    np.testing.assert_array_equal(bare.predict_on_batch(images), expected)
    # In training, too, nothing is random.
    flat = [layer for outer in bare.layers for layer in getattr(outer, "layers", [outer])]
    assert not any(map(only_trains, flat))
    assert bare.name == "augmented"
    kept = {layer.name for layer in model.get_layer("network").layers if not only_trains(layer)}
    assert {layer.name for layer in bare.get_layer("network").layers} == kept
    # Partly, what remains is still a model of its own.
    nested = [layer.name for layer in bare.layers if isinstance(layer, keras.Model)]
    assert len(nested) == (2 if kind == "partly" else 1)
    assert list(kr.feature_levels(bare)) == list(kr.feature_levels(model))
    # The argument stays as it was, and shares nothing.
    for variable in bare.weights:
        variable.assign(keras.ops.zeros_like(variable))
    for weight, old in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, old)
    np.testing.assert_array_equal(model.predict_on_batch(images), expected)


def test_a_model_without_them_is_returned_itself():
    model = kr.ResNet18(weights=None, depths=(1,), planes=(8,))
    assert without_training_layers(model) is model


def test_a_half_type_goes_on_as_it_would_have():
    """Dropout in bfloat16 hands bfloat16 on to a layer that computes in float32."""
    image = keras.Input((8, 8, 3))
    x = layers.Dropout(0.5, dtype="mixed_bfloat16")(image)
    model = keras.Model(image, layers.Rescaling(1 / 3, dtype="float32")(x))
    bare = without_training_layers(model)
    images = IMAGES[:, :8, :8] / 7
    np.testing.assert_array_equal(bare.predict_on_batch(images), model.predict_on_batch(images))


def test_what_stood_between_a_convolution_and_its_norm_folds():
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.RandomFlip(),
            layers.Conv2D(4, 3),
            layers.SpatialDropout2D(0.5),
            layers.BatchNormalization(),
            kr.layers.DropBlock2D(0.1, 3),
        ]
    )
    folded = kr.fold_batch_norms(model)
    assert [type(layer) for layer in folded.layers] == [layers.InputLayer, layers.Conv2D]
    np.testing.assert_allclose(
        folded.predict_on_batch(IMAGES), model.predict_on_batch(IMAGES), rtol=1e-4, atol=1e-4
    )
