"""Grad-CAM's heat lies where a class's evidence lies, on every backend and in every family."""

import gc
import weakref

import keras
import numpy as np
import pytest
from deterministic import random_images
from tiny_nets import NETS, tiny_net

import keras_resnets as kr
from keras_resnets.graph import grad_cam
from keras_resnets.graph.grad_cam import overlay, run
from keras_resnets.graph.walk import graph_of

# Red in the upper left corner, blue in the lower right one.
SPOTS = np.zeros((1, 32, 32, 3), "float32")
SPOTS[:, :16, :16, 0] = 1
SPOTS[:, 16:, 16:, 2] = 1


def spotter(activation: str | None = "softmax", pool=keras.layers.GlobalAveragePooling2D):
    """Class 0 is red, class 1 blue, and class 2 has only what speaks against it."""
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(2, 1, use_bias=False, name="colours")(images)
    x = keras.layers.AveragePooling2D(4)(x)
    x = pool()(x)
    outputs = keras.layers.Dense(3, activation=activation, name="classes")(x)
    model = keras.Model(images, outputs)
    colours = np.zeros((1, 1, 3, 2), "float32")
    colours[0, 0, 0, 0] = colours[0, 0, 2, 1] = 1
    model.get_layer("colours").kernel.assign(colours)
    model.get_layer("classes").kernel.assign(np.float32([[9, 0, -9], [0, 9, -9]]))
    return model


def where(heat: np.ndarray) -> list[float]:
    """The mean heat of the four quarters: upper left, upper right, lower left, lower right."""
    rows, columns = (side // 2 for side in heat.shape)
    return [
        float(part.mean())
        for half in (heat[:rows], heat[rows:])
        for part in (half[:, :columns], half[:, columns:])
    ]


@pytest.mark.backend
@pytest.mark.parametrize(
    "pool", [keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D]
)
def test_the_heat_is_where_the_class_is(pool):
    images = np.concatenate([SPOTS, SPOTS[:, ::-1]])
    heat = kr.grad_cam(spotter(pool=pool), images, 0)
    assert heat.shape == (2, 32, 32)
    assert heat.dtype == np.float32
    assert heat.min() == 0
    np.testing.assert_array_equal(heat.max(axis=(1, 2)), 1)
    upper_left, *others = where(heat[0])
    assert upper_left > 0.9
    assert max(others) < 0.1
    np.testing.assert_allclose(heat[1], heat[0, ::-1], atol=1e-6)


@pytest.mark.backend
def test_every_image_can_have_its_own_class():
    model = spotter()
    heat = kr.grad_cam(model, np.repeat(SPOTS, 3, axis=0), [0, 1, 2])
    assert np.argmax(where(heat[0])) == 0
    assert np.argmax(where(heat[1])) == 3
    assert not heat[2].any(), "nothing speaks for the third class"
    # By default it is the likeliest one.
    brighter = SPOTS * np.float32([1, 1, 2])
    np.testing.assert_array_equal(kr.grad_cam(model, brighter), kr.grad_cam(model, brighter, 1))


@pytest.mark.backend
def test_a_certain_softmax_has_the_heat_of_its_logits():
    """A probability of 1 has no gradient; the heat would be noise or nothing."""
    images = 1000 * SPOTS * np.float32([2, 1, 1])
    probabilities = spotter()
    assert keras.ops.convert_to_numpy(probabilities(images))[0, 0] == 1
    heat = kr.grad_cam(probabilities, images, 0)
    assert np.argmax(where(heat[0])) == 0
    np.testing.assert_allclose(heat, kr.grad_cam(spotter(None), images, 0), atol=1e-6)


@pytest.mark.backend
@pytest.mark.parametrize("net", [net for net in NETS if net != "rexnet-lite"])
def test_every_family_has_the_heat_that_follows_from_its_classifier(net):
    """Behind an average and one dense layer the gradient is known: the dense layer's weights.

    ReXNet-lite has more behind its average; it runs in the next test.
    """
    model = tiny_net(net, classifier_activation="softmax")
    images = random_images(64, 96, batch=2)
    head = next(layer for layer in reversed(model.layers) if hasattr(layer, "kernel"))
    pool = next(layer for layer in model.layers if layer.name.endswith("global_pool"))
    maps = keras.ops.convert_to_numpy(run(keras.Model(model.input, pool.input), images))
    kernel = keras.ops.convert_to_numpy(head.kernel)
    classes = [3, 7]
    expected = np.stack([map_ @ kernel[:, c] for map_, c in zip(maps, classes, strict=True)])
    expected = np.maximum(expected, 0)[..., None]
    expected = keras.ops.image.resize(expected, (64, 96), "bilinear")
    expected = keras.ops.convert_to_numpy(expected)[..., 0]
    highest = expected.max(axis=(1, 2), keepdims=True)
    heat = kr.grad_cam(model, images, classes)
    np.testing.assert_allclose(heat, expected / np.where(highest > 0, highest, 1), atol=1e-3)


@pytest.mark.backend
def test_a_head_of_several_layers_is_gone_through():
    model = tiny_net("rexnet-lite")
    images = random_images(64, 64)
    heats = [kr.grad_cam(model, images, index) for index in range(10)]
    assert {heat.shape for heat in heats} == {(1, 64, 64)}
    assert any(heat.max() == 1 for heat in heats)
    assert not np.array_equal(heats[0], heats[1])


def test_models_with_preprocessing_or_a_flatten_or_from_a_file_work(tmp_path):
    path = tmp_path / "model.keras"
    tiny_net("basic", include_preprocessing=True).save(path)
    model = keras.models.load_model(path)
    assert kr.grad_cam(model, np.full((1, 64, 64, 3), 128, "uint8")).shape == (1, 64, 64)
    images = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, 4)(images)
    flat = keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    assert kr.grad_cam(flat, SPOTS).shape == (1, 32, 32)


def test_the_model_and_the_images_stay_as_they_are():
    model = spotter()
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in model.weights]
    images = SPOTS.copy()
    kr.grad_cam(model, images)
    np.testing.assert_array_equal(images, SPOTS)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), value)


# What is kept between calls -----------------------------------------------------------------------


class Counting(keras.layers.Layer):
    """Counts how often its Python code runs."""

    runs = 0

    def call(self, inputs):
        self.runs += 1
        return inputs


def counting_classifier() -> tuple[keras.Sequential, Counting]:
    counting = Counting()
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(4, 3, name="conv"),
            counting,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, name="classes"),
        ]
    )
    return model, counting


@pytest.mark.backend
def test_a_second_call_looks_at_the_graph_no_more(monkeypatch):
    read = []
    monkeypatch.setattr(
        grad_cam, "graph_of", lambda model: read.append(model.name) or graph_of(model)
    )
    (model, counting), (other, _) = counting_classifier(), counting_classifier()
    first = kr.grad_cam(model, SPOTS, 1)
    before = counting.runs
    np.testing.assert_array_equal(kr.grad_cam(model, SPOTS, 1), first)
    # What JAX has compiled needs no Python; elsewhere layers run one by one.
    assert (counting.runs == before) == (keras.backend.backend() == "jax")
    kr.grad_cam(other, SPOTS)
    kr.grad_cam(model, SPOTS, 0)
    assert read == [model.name, other.name]


@pytest.mark.backend
def test_new_weights_give_new_heat():
    model = spotter()
    red = kr.grad_cam(model, SPOTS, 0)
    kernel = model.get_layer("classes").kernel
    kernel.assign(keras.ops.flip(kernel, axis=0))
    blue = kr.grad_cam(model, SPOTS, 0)
    assert np.argmax(where(red[0])) == 0
    assert np.argmax(where(blue[0])) == 3


def test_a_model_with_another_end_is_looked_at_again():
    model, _ = counting_classifier()
    kr.grad_cam(model, SPOTS, 2)
    model.pop()
    model.add(keras.layers.Dense(7))
    assert kr.grad_cam(model, SPOTS, 6).shape == (1, 32, 32)
    model.pop()
    with pytest.raises(ValueError, match="model must end in a global pooling"):
        kr.grad_cam(model, SPOTS)


@pytest.mark.backend
def test_a_model_is_forgotten_with_all_that_was_kept_of_it():
    gc.collect()
    kept = len(grad_cam._EXPLAINERS)
    model, counting = counting_classifier()
    outer = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Rescaling(1 / 3), model])
    for each in (model, outer):
        kr.grad_cam(each, SPOTS)
    assert len(grad_cam._EXPLAINERS) == kept + 2
    gone = [weakref.ref(thing) for thing in (outer, model, counting, model.layers[0].kernel)]
    del model, counting, outer, each
    # What was kept of the outer model holds the inner one: they go one after the other.
    for _ in range(3):
        gc.collect()
    assert [reference() for reference in gone] == [None] * 4
    assert len(grad_cam._EXPLAINERS) == kept


# What is refused ---------------------------------------------------------------------------------


def headless():
    return kr.ResNet18(weights=None, include_top=False, depths=(1,), planes=(8,))


@pytest.mark.parametrize(
    ("model", "images", "classes", "message"),
    [
        (spotter, SPOTS[0], None, "images must have the shape"),
        (spotter, SPOTS[:0], None, "images must have the shape"),
        (spotter, SPOTS[..., :1], None, "images must have the shape"),
        (spotter, SPOTS, 3, "class_index must be an int from 0 to 2"),
        (spotter, SPOTS, -1, "class_index must be an int from 0 to 2"),
        (spotter, SPOTS, [0, 1], "class_index must be an int from 0 to 2"),
        (spotter, SPOTS, 1.0, "class_index must be an int from 0 to 2"),
        (headless, SPOTS, None, "model must end in a global pooling"),
        (lambda: "resnet50", SPOTS, None, "model must be a functional or a built sequential"),
    ],
)
def test_what_does_not_fit_is_refused(model, images, classes, message):
    with pytest.raises(ValueError, match=message):
        kr.grad_cam(model(), images, classes)


# The picture -------------------------------------------------------------------------------------


def test_an_overlay_is_the_image_with_the_heat_upon_it():
    image = np.full((40, 60, 3), 128, "uint8")
    heat = np.zeros((20, 30), "float32")
    heat[:, :15] = 1
    picture = overlay(image, heat)
    assert picture.shape == image.shape
    assert picture.dtype == np.uint8
    assert (picture[:, :20] > 128).all(), "hot is light"
    assert (picture[:, 40:] == 64).all(), "cold is dark"
    np.testing.assert_array_equal(overlay(image, heat, alpha=0), image)
    assert overlay(image, heat, alpha=1).max() > 250
    assert (image == 128).all()
    # Lightness rises with the heat.
    scale = overlay(np.zeros((1, 256, 3)), np.linspace(0, 1, 256)[None], alpha=1)
    assert (np.diff(scale[0].astype(int) @ [299, 587, 114]) >= 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(image=np.zeros((8, 8))), "image must be RGB"),
        (dict(heat=np.zeros((1, 8, 8))), "heat must have the shape"),
        (dict(heat=np.full((8, 8), 1.5)), "heat must have the shape .* values from 0 to 1"),
        (dict(alpha=2), "alpha must be a number from 0 to 1"),
    ],
)
def test_an_overlay_of_something_else_is_refused(change, message):
    arguments = dict(image=np.zeros((8, 8, 3)), heat=np.zeros((4, 4))) | change
    with pytest.raises(ValueError, match=message):
        overlay(**arguments)
