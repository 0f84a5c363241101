"""The graph of a model, however it was put together, and that reading it leaves no trace."""

import gc

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_resnets.graph.walk import graph_of, require_functional

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype("float32")


def convolution(**arguments):
    return layers.Conv2D(3, 3, padding="same", **arguments)


def head():
    return [layers.GlobalAveragePooling2D(), layers.Dense(2)]


def shared() -> keras.Model:
    image, twice = keras.Input((8, 8, 3)), convolution(name="twice")
    return keras.Model(image, layers.Add()([twice(layers.ReLU()(twice(image))), image]))


def added() -> keras.Model:
    """Keras connects all layers anew with every `add`."""
    model = keras.Sequential([keras.Input((8, 8, 3))])
    for layer in (convolution(), layers.BatchNormalization(), *head()):
        model.add(layer)
    return model


def nested() -> keras.Model:
    image = keras.Input((8, 8, 3))
    first = keras.Sequential([layers.Rescaling(1 / 255), layers.GaussianNoise(0.5)])
    inner = keras.Sequential([keras.Input((8, 8, 3)), convolution(), *head()], name="inner")
    outer = keras.Sequential([first, inner], name="outer")
    return keras.Model(image, [outer(image), inner(image * 2)])


def of_another_type() -> keras.Model:
    image = keras.Input((8, 8, 3), dtype="uint8")
    inner = keras.Sequential([keras.Input((8, 8, 3)), convolution(), *head()])
    return keras.Model(image, inner(image))


def of_dicts() -> keras.Model:
    a, b = keras.Input((8, 8, 3), name="a"), keras.Input((8, 8, 3), name="b")
    inner = keras.Model({"a": a, "b": b}, {"sum": a + 2 * b, "a": layers.Identity()(a)})
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    made = inner({"b": right, "a": convolution()(left)})
    return keras.Model([left, right], [made["sum"], made["a"]])


def with_a_subclassed_model() -> keras.Model:
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.inside = convolution(name="inside")

        def call(self, inputs):
            return self.inside(inputs)

    image = keras.Input((8, 8, 3))
    return keras.Model(image, layers.ReLU()(Subclassed()(image)))


NESTED = [nested, of_another_type, of_dicts]
MODELS = [shared, added, *NESTED, with_a_subclassed_model]


@pytest.mark.backend
@pytest.mark.parametrize("opens", [True, False], ids=["opened", "closed"])
@pytest.mark.parametrize("make", MODELS)
def test_a_graph_computes_what_its_model_does(make, opens):
    model = make()
    graph = graph_of(model, opens=lambda nested: opens)
    inputs = [IMAGES.astype(tensor.dtype) for tensor in model.inputs]
    expected = keras.tree.flatten(model(inputs if len(inputs) > 1 else inputs[0], training=False))
    given = {
        id(tensor): ops.convert_to_tensor(x) for tensor, x in zip(graph.inputs, inputs, strict=True)
    }
    for ours, theirs in zip(graph.run(given, graph.outputs), expected, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs), rtol=1e-5, atol=1e-5
        )
    closed = any(isinstance(call.operation, keras.Model) for call in graph.calls)
    assert closed == (make is with_a_subclassed_model or (not opens and make in NESTED))
    # The model's own layers are called, in an order in which all that is read has been made.
    made = set(map(id, graph.inputs))
    for call in graph.calls:
        assert set(map(id, call.inputs)) <= made
        made |= set(map(id, call.outputs))


def test_producers_readers_and_ways_back():
    graph = graph_of(model := shared())
    first, relu, second, add = graph.calls
    assert first.operation is second.operation is model.get_layer("twice")
    assert graph.calls_of(first.operation) == [first, second]
    assert graph.producers[id(relu.inputs[0])] is first
    assert graph.readers[id(graph.inputs[0])] == [first, add]
    assert list(graph.trunk()) == [add, second, relu, first]
    assert graph.upstream(relu.outputs) == [first, relu]
    # What is given needs nothing in front of it.
    assert graph.upstream(graph.outputs, {id(relu.outputs[0])}) == [second, add]


def test_another_shape_goes_through_nested_models_too():
    model = keras.Sequential(
        [keras.Input((None, None, 3)), keras.Sequential([layers.AveragePooling2D(2)])]
    )
    assert graph_of(model, (1, 12, 20, 3)).outputs[0].shape == (1, 6, 10, 3)


def test_training_is_what_is_asked_for_whatever_a_layer_was_called_with():
    """As in `keras.Model`: `predict` drops nothing even then."""
    image = keras.Input((8, 8, 3))
    graph = graph_of(keras.Model(image, layers.Dropout(0.9)(image, training=True)))
    given = {id(graph.inputs[0]): ops.convert_to_tensor(IMAGES)}
    same = [
        np.array_equal(ops.convert_to_numpy(graph.run(given, graph.outputs, training)[0]), IMAGES)
        for training in (False, True)
    ]
    assert same == [True, False]


def test_reading_a_graph_leaves_no_trace():
    model = nested()
    made = [layer.output for layer in model.layers]

    def alive() -> int:
        gc.collect()
        return sum(
            isinstance(thing, (keras.KerasTensor, keras.Operation)) for thing in gc.get_objects()
        )

    graph_of(model)
    before = alive()
    for _ in range(3):
        graph_of(model, (1, 16, 16, 3))
    assert alive() == before
    assert all(layer.output is output for layer, output in zip(model.layers, made, strict=True))


def subclassed() -> keras.Model:
    return with_a_subclassed_model().layers[1]


def two_inputs() -> keras.Model:
    return of_dicts()


@pytest.mark.parametrize(
    ("model", "wanted", "message"),
    [
        (lambda: "resnet50", {}, "sequential keras.Model. Received: model='resnet50'"),
        (subclassed, {}, r"make one of a subclassed model with keras.Model\(x, model\(x\)\)"),
        (keras.Sequential, {}, "build it first, for example with model.build"),
        (two_inputs, dict(one_input=True), "must have one input. Received: .*8, 8, 3.*8, 8, 3"),
        (two_inputs, dict(one_output=True), "model must have one output"),
        (two_inputs, dict(images=True, one_output=True), "one image input .* and one output"),
        (
            lambda: keras.Sequential([keras.Input((8,)), layers.Dense(2)]),
            dict(images=True),
            "model must have one image input",
        ),
    ],
)
def test_what_cannot_be_walked_is_refused_with_a_way_out(model, wanted, message):
    with pytest.raises(ValueError, match=message):
        require_functional(model(), **wanted)
