"""Backbones nested in other models: levels, pyramids, freezing, MACs and heat maps find them."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_resnets as kr

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 32, 48, 3)).astype("float32")
CLASSES = 5


def backbone(builder=kr.ResNet18, **arguments) -> keras.Model:
    arguments = dict(include_top=False, pooling="avg", weights=None) | arguments
    if builder is kr.ResNet18:
        arguments |= dict(depths=(1, 1), planes=(8, 16))
    else:
        arguments |= dict(initial_channels=8, final_channels=40, depth=0.5)
    return builder(**arguments)


def in_a_sequence(inner: keras.Model) -> keras.Model:
    return keras.Sequential([inner, layers.Dense(CLASSES, name="classes")])


def added_to_a_sequence(inner: keras.Model) -> keras.Model:
    model = keras.Sequential([keras.Input((None, None, 3))])
    for layer in (layers.Rescaling(1 / 255), inner, layers.Dense(CLASSES, name="classes")):
        model.add(layer)
    return model


def behind_other_layers(inner: keras.Model) -> keras.Model:
    image = keras.Input((None, None, 3), dtype="uint8")
    x = inner(layers.Rescaling(1 / 255)(image), training=False)
    return keras.Model(image, layers.Dense(CLASSES, name="classes")(layers.Dropout(0.2)(x)))


def between_models(inner: keras.Model) -> keras.Model:
    image = keras.Input((None, None, 3))
    augment = keras.Sequential([layers.Rescaling(1 / 255), layers.RandomFlip()])
    head = keras.Sequential([layers.Dropout(0.2), layers.Dense(CLASSES, name="classes")])
    body = keras.Model(x := keras.Input((None, None, 3)), inner(augment(x)))
    return keras.Model(image, head(body(image)))


NESTINGS = [in_a_sequence, added_to_a_sequence, behind_other_layers, between_models]


@functools.cache
def nested(nesting) -> tuple[keras.Model, keras.Model]:
    """A model and the backbone in it."""
    inner = backbone()
    return nesting(inner), inner


def seen_by_the_backbone(nesting, images: np.ndarray) -> np.ndarray:
    images = images.astype("uint8") if nesting is behind_other_layers else images
    return images / np.float32(1 if nesting is in_a_sequence else 255)


def dense_of(model: keras.Model) -> layers.Dense:
    found = [layer for layer in model.layers if isinstance(layer, (layers.Dense, keras.Model))]
    return dense_of(found[-1]) if isinstance(found[-1], keras.Model) else found[-1]


@pytest.mark.parametrize("nesting", NESTINGS)
def test_levels_are_those_of_the_backbone(nesting):
    model, inner = nested(nesting)
    assert kr.feature_levels(model) == kr.feature_levels(inner)
    assert [level.stride for level in kr.feature_levels(model).values()] == [2, 4, 8]


@pytest.mark.parametrize("nesting", NESTINGS)
def test_a_pyramid_takes_what_the_whole_model_takes(nesting, tmp_path):
    model, inner = nested(nesting)
    pyramid = kr.feature_pyramid(model, ["P3", "P2"])
    images = IMAGES.astype(model.inputs[0].dtype)
    expected = kr.feature_pyramid(inner, ["P3", "P2"])(seen_by_the_backbone(nesting, IMAGES))
    maps = pyramid(images, training=False)
    assert list(maps) == ["P3", "P2"]
    for level, values in expected.items():
        np.testing.assert_allclose(maps[level], values, rtol=1e-4, atol=1e-5)
    pyramid.save(tmp_path / "pyramid.keras")
    loaded = keras.models.load_model(tmp_path / "pyramid.keras")
    np.testing.assert_array_equal(loaded(images, training=False)["P2"], maps["P2"])


@pytest.mark.parametrize("nesting", NESTINGS)
def test_all_layers_count_wherever_they_are(nesting):
    model, inner = nested(nesting)
    assert kr.count_macs(model, (64, 96, 3)) == kr.count_macs(inner, (64, 96, 3)) + 16 * CLASSES


@pytest.mark.parametrize("nesting", NESTINGS)
def test_a_stage_of_the_backbone_is_frozen_and_nothing_behind_it(nesting):
    inner = backbone()
    model = nesting(inner)
    alone = kr.freeze(backbone(), until="layer1")
    assert kr.freeze(model, until="layer1") == alone
    trainable = {variable.path.split("/")[-2] for variable in model.trainable_variables}
    assert "classes" in trainable
    assert "layer2_0_conv1" in trainable
    assert not trainable & set(alone)
    # The name of a nested model means all of it.
    name = next(layer.name for layer in model.layers if isinstance(layer, keras.Model))
    assert kr.freeze(model, until=name) == [layer.name for layer in inner.layers if layer.weights]


def test_layers_in_front_of_the_backbone_are_frozen_with_it():
    image = keras.Input((32, 32, 5))
    x = backbone()(layers.Conv2D(3, 1, name="adapter")(image))
    model = keras.Model(image, layers.Dense(2, name="classes")(x))
    assert kr.freeze(model, until="P1") == ["adapter", "conv1", "bn1"]
    assert kr.freeze(model, until="adapter") == ["adapter"]


@pytest.mark.backend
@pytest.mark.parametrize("nesting", NESTINGS)
def test_heat_comes_from_the_feature_map_inside(nesting):
    """Behind an average and one dense layer the gradient is known: the dense layer's weights."""
    model, inner = nested(nesting)
    images = IMAGES.astype(model.inputs[0].dtype)
    maps = kr.feature_pyramid(inner, ["P3"]).predict_on_batch(seen_by_the_backbone(nesting, IMAGES))
    kernel = ops.convert_to_numpy(dense_of(model).kernel)
    expected = np.maximum(maps["P3"] @ kernel[:, [1]], 0)
    expected = ops.convert_to_numpy(ops.image.resize(expected, IMAGES.shape[1:3], "bilinear"))
    expected = expected[..., 0] / np.maximum(expected.max(axis=(1, 2, 3)), 1e-12)[:, None, None]
    np.testing.assert_allclose(kr.grad_cam(model, images, 1), expected, atol=1e-3)


def side_by_side() -> keras.Model:
    image = keras.Input((32, 32, 3))
    left, right = backbone(name="left"), backbone(kr.ReXNet100, name="right")
    x = layers.Concatenate()([left(image), right(image)])
    return keras.Model(image, layers.Dense(CLASSES)(x), name="pair")


def test_of_two_backbones_one_must_be_passed():
    model = side_by_side()
    for call in (
        kr.feature_levels,
        kr.feature_pyramid,
        functools.partial(kr.freeze, until="layer1"),
    ):
        with pytest.raises(ValueError, match="model must have one backbone") as error:
            call(model)
        assert "model.get_layer('left') or model.get_layer('right')" in str(error.value)
    left, right = model.get_layer("left"), model.get_layer("right")
    assert len(kr.feature_levels(left)) == 3
    assert "layer1_0_conv1" in kr.freeze(left, until="layer1")
    assert kr.freeze(model, until="right")[0] == "stem_conv"
    macs = kr.count_macs(left, (32, 32, 3)) + kr.count_macs(right, (32, 32, 3))
    assert kr.count_macs(model) == macs + (16 + right.output_shape[-1]) * CLASSES
    assert kr.grad_cam(model, IMAGES[:, :32, :32]).shape == (2, 32, 32)


def test_prefixes_tell_nested_backbones_apart():
    image = keras.Input((32, 32, 3))
    pair = [backbone(prefix=f"{side}.", name=side) for side in ("left", "right")]
    deeper = keras.Model(x := keras.Input((32, 32, 3)), pair[1](x), name="deeper")
    model = keras.Model(image, layers.Add()([pair[0](image), deeper(image)]))
    assert kr.feature_levels(model, "right.") == kr.feature_levels(pair[1], "right.")
    assert kr.freeze(model, until="P1", prefix="right.") == ["right_conv1", "right_bn1"]
    with pytest.raises(ValueError, match=r"\(found: 'left_', 'right_'\)"):
        kr.freeze(model, until="layer1")


def test_a_backbone_that_is_called_twice_counts_twice_and_has_no_one_pyramid():
    left, right = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    inner = backbone(name="both")
    pair = keras.Model([left, right], layers.Concatenate()([inner(left), inner(right)]))
    image = keras.Input((32, 32, 3))
    model = keras.Model(image, pair([image, layers.Rescaling(2.0)(image)]), name="siamese")
    assert kr.count_macs(model) == 2 * kr.count_macs(inner, (32, 32, 3))
    assert kr.freeze(model, until="P1") == ["conv1", "bn1"]
    path = rf"model.get_layer\('{pair.name}'\).get_layer\('both'\)"
    with pytest.raises(ValueError, match=f"model must call its nested backbone once.*{path}"):
        kr.feature_pyramid(model)


class Subclassed(keras.Model):
    def __init__(self, inner):
        super().__init__(name="subclassed")
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs)


def test_what_a_subclassed_model_hides_is_not_guessed():
    image = keras.Input((32, 32, 3))
    hidden = Subclassed(backbone(name="inside"))
    model = keras.Model(image, hidden(image))
    assert len(kr.feature_levels(model)) == 3
    with pytest.raises(ValueError, match=r"nested in the model must be functional.*'subclassed'"):
        kr.count_macs(model)
    with pytest.raises(ValueError, match="model must call the layers that until names"):
        kr.freeze(model, until="layer1")
    path = r"model.get_layer\('subclassed'\).get_layer\('inside'\)"
    with pytest.raises(ValueError, match=path):
        kr.feature_pyramid(model)
    assert all(layer.trainable for layer in hidden.inner.layers)
    # Nothing is hidden from who freezes all of it, or what stands behind it.
    behind = keras.Model(image, layers.Dense(2, name="classes")(model.output))
    frozen = [layer.name for layer in hidden.inner.layers if layer.weights] + ["classes"]
    assert kr.freeze(behind, until="classes") == frozen
    assert kr.freeze(model, until="subclassed") == frozen[:-1]
    with pytest.raises(ValueError, match="make one of a subclassed model"):
        kr.freeze(hidden, until="layer1")


@pytest.mark.parametrize("wrapper", [layers.TimeDistributed, layers.SpectralNormalization])
def test_what_a_wrapper_hides_is_not_counted_as_nothing(wrapper):
    timed = wrapper is layers.TimeDistributed
    shape = (4, 8, 8, 3) if timed else (8, 8, 3)
    wrapped = wrapper(layers.Conv2D(4, 3), name="wrapped")
    model = keras.Sequential([keras.Input(shape), wrapped])
    with pytest.raises(ValueError, match=r"and not wrapped.*'wrapped'"):
        kr.count_macs(model)


def test_a_model_of_others_has_layers_to_name():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(3, 1, name="block_conv")])
    assert kr.freeze(model, until="block") == ["block_conv"]
    with pytest.raises(ValueError, match="its layers are block_conv"):
        kr.freeze(model, until="layer1")
