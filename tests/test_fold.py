"""fold_batch_norms: an equal model without batch norms, and what it refuses."""

import keras
import numpy as np
import pytest
from deterministic import random_images
from goldens_io import build, relative_error
from keras import layers
from nets import CASES

import keras_resnets as kr

TOLERANCE = 1e-5
FAMILIES = [
    "basic-d",
    "se-bottleneck-t",
    "resnext-se",
    "resnest-0s2x-first",
    "resnest-1s2x-first",
    "resnest-2s2x",
    "res2net-d",
    "res2next",
    "rexnet",
    "rexnetr",
    "rexnet-no-se",
]


def batch_norms(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers if isinstance(layer, layers.BatchNormalization)]


def randomise(model: keras.Model) -> keras.Model:
    """Gives every batch norm statistics and factors of its own."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            randomise(layer)
        elif isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folded_network_gives_the_same_logits_without_a_batch_norm(name):
    case = CASES[name]
    model = build(case)
    images = random_images(75, 97, case.input_channels, batch=2)
    before = [weight.copy() for weight in model.get_weights()]
    expected = model.predict_on_batch(images)
    folded = kr.fold_batch_norms(model)
    assert batch_norms(model)
    assert not batch_norms(folded)
    assert relative_error(folded.predict_on_batch(images), expected) < TOLERANCE
    # The argument stays as it was.
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    np.testing.assert_array_equal(model.predict_on_batch(images), expected)


def test_layers_keep_their_names_and_the_pyramid_its_levels():
    model = build(CASES["resnest-2s2x"])
    folded = kr.fold_batch_norms(model)
    gone = set(batch_norms(model))
    assert [layer.name for layer in folded.layers] == [
        layer.name for layer in model.layers if layer.name not in gone
    ]
    assert kr.feature_levels(folded).keys() == kr.feature_levels(model).keys()
    images = random_images(64, 64)
    levels = kr.feature_pyramid(model)(images)
    for name, feature_map in kr.feature_pyramid(folded)(images).items():
        assert relative_error(feature_map, levels[name]) < TOLERANCE
    # One class for grouped convolutions, one for the others, as in every model of the package.
    for layer in folded.layers:
        if isinstance(layer, layers.Conv2D):
            assert isinstance(layer, kr.layers.GroupedConv2D) == (layer.groups > 1)


def test_a_model_with_preprocessing_is_folded_behind_it():
    model = randomise(
        kr.ResNet18(weights=None, include_preprocessing=True, depths=(1, 1), planes=(16, 16))
    )
    folded = kr.fold_batch_norms(model)
    images = np.random.default_rng(0).uniform(0, 255, (2, 48, 48, 3)).astype("float32")
    assert (
        relative_error(folded.predict_on_batch(images), model.predict_on_batch(images)) < TOLERANCE
    )


def test_a_folded_model_is_saved_and_loaded(tmp_path):
    folded = kr.fold_batch_norms(build(CASES["resnext-se"]))
    folded.save(tmp_path / "folded.keras")
    images = random_images(64, 64)
    np.testing.assert_array_equal(
        keras.saving.load_model(tmp_path / "folded.keras").predict_on_batch(images),
        folded.predict_on_batch(images),
    )


def test_a_compiled_mixed_precision_model_is_folded_in_full_precision():
    model = randomise(kr.ResNet18(weights=None, depths=(1, 1), planes=(16, 16), classes=4))
    half = randomise(
        keras.models.clone_model(
            model,
            clone_function=lambda layer: type(layer).from_config(
                {**layer.get_config(), "dtype": "mixed_bfloat16"}
            ),
        )
    )
    half.set_weights(model.get_weights())
    half.compile("sgd", "categorical_crossentropy")
    folded, folded_half = kr.fold_batch_norms(model), kr.fold_batch_norms(half)
    assert folded_half.get_layer("conv1").compute_dtype == "bfloat16"
    for weight, full in zip(folded_half.get_weights(), folded.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, full)


def chain(*steps: layers.Layer) -> keras.Model:
    return randomise(keras.Sequential([keras.Input((8, 8, 4)), *steps], name="chain"))


@pytest.mark.parametrize(
    "host",
    [
        lambda: layers.Conv2D(6, 3, strides=2),
        lambda: layers.Conv2D(6, 3, use_bias=False),
        lambda: kr.layers.GroupedConv2D(8, 3, groups=2),
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=3),
        lambda: layers.Dense(5),
    ],
)
@pytest.mark.parametrize("settings", [dict(), dict(scale=False), dict(center=False, epsilon=0.1)])
def test_every_kind_of_layer_takes_the_norm_behind_it(host, settings):
    model = chain(host(), layers.BatchNormalization(**settings), layers.ReLU())
    folded = kr.fold_batch_norms(model)
    images = random_images(8, 8, channels=4, batch=3)
    assert not batch_norms(folded)
    assert (
        relative_error(folded.predict_on_batch(images), model.predict_on_batch(images)) < TOLERANCE
    )


def test_models_of_others_and_nested_models_are_folded():
    backbone = randomise(keras.applications.MobileNetV2(weights=None, alpha=0.35, classes=5))
    classifier = keras.Sequential([keras.Input((224, 224, 3)), backbone, layers.Dense(2)])
    folded = kr.fold_batch_norms(classifier)
    assert not batch_norms(folded.layers[1])
    images = random_images(224, 224)
    assert (
        relative_error(folded.predict_on_batch(images), classifier.predict_on_batch(images))
        < TOLERANCE
    )


def test_a_dict_of_inputs_and_outputs_stays_one():
    image = keras.Input((8, 8, 3), name="picture")
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="conv")(image))
    folded = kr.fold_batch_norms(keras.Model({"picture": image}, {"features": x}))
    assert folded({"picture": np.zeros((1, 8, 8, 3))})["features"].shape == (1, 6, 6, 4)


def shared_convolution() -> keras.Model:
    image = keras.Input((8, 8, 4))
    conv, norm = layers.Conv2D(4, 3, padding="same", name="conv"), layers.BatchNormalization()
    return keras.Model(image, norm(conv(conv(image))))


def convolution_with_another_reader() -> keras.Model:
    image = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, name="conv")(image)
    return keras.Model(image, layers.Add()([layers.BatchNormalization()(x), x]))


def convolution_that_is_an_output() -> keras.Model:
    image = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, name="conv")(image)
    return keras.Model(image, [layers.BatchNormalization()(x), x])


def norm_that_is_called_twice() -> keras.Model:
    image = keras.Input((8, 8, 4))
    norm = layers.BatchNormalization(name="norm")
    first = norm(layers.Conv2D(4, 3, name="a")(image))
    return keras.Model(image, layers.Add()([first, norm(layers.Conv2D(4, 3, name="b")(image))]))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: chain(layers.BatchNormalization()), "its input is the model's"),
        (lambda: chain(layers.ReLU(name="act"), layers.BatchNormalization()), "'act' (ReLU)"),
        (
            lambda: chain(
                layers.Conv2D(3, 1, activation="relu", name="conv"), layers.BatchNormalization()
            ),
            "'conv' has the activation 'relu'",
        ),
        (
            lambda: chain(layers.Conv2D(6, 3, name="conv"), layers.BatchNormalization(axis=1)),
            "it normalises axis 1 and the channels of 'conv' are axis 3",
        ),
        (shared_convolution, "'conv' is called more than once"),
        (norm_that_is_called_twice, "it is called more than once"),
        (convolution_with_another_reader, "the output of 'conv' is used elsewhere, too"),
        (convolution_that_is_an_output, "the output of 'conv' is used elsewhere, too"),
        (lambda: keras.applications.ResNet50V2(weights=None), "(MaxPooling2D)"),
    ],
)
def test_a_norm_that_cannot_be_folded_is_named_with_the_reason(model, reason):
    with pytest.raises(ValueError, match="every batch norm must stand alone") as error:
        kr.fold_batch_norms(model())
    assert reason in str(error.value)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize("model", [None, "resnet50", Subclassed(), keras.Sequential()], ids=str)
def test_what_is_no_graph_of_layers_is_refused(model):
    with pytest.raises(ValueError, match="model must be a functional or a built sequential"):
        kr.fold_batch_norms(model)
