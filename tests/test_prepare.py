"""The graph that is exported: the activation of the output, wherever it stands."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_resnets.deploy.prepare import set_activation


def functional(end) -> keras.Model:
    """A model whose pooled features go through a function."""
    image = keras.Input((8, 8, 3))
    return keras.Model(image, end(layers.GlobalAveragePooling2D()(image)))


def nested(activation: str) -> keras.Model:
    image = keras.Input((8, 8, 3))
    inner = functional(lambda x: layers.Dense(4, activation=activation)(x))
    return keras.Model(image, inner(image))


def sequential(*end: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 3)), layers.GlobalAveragePooling2D(), *end])


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (lambda: sequential(layers.Dense(4, activation="softmax")), "softmax"),
        (lambda: sequential(layers.Dense(4), layers.Activation("sigmoid")), "sigmoid"),
        (lambda: sequential(layers.Dense(4), layers.Softmax()), "softmax"),
        (lambda: sequential(layers.Dense(4), layers.ReLU()), "relu"),
        (lambda: sequential(layers.Dense(1)), "linear"),
        (
            lambda: sequential(
                layers.Dense(4, activation="softmax"), layers.Activation("linear", dtype="float32")
            ),
            "softmax",
        ),
        (
            lambda: sequential(layers.Dense(4, activation="sigmoid"), layers.Reshape((4,))),
            "sigmoid",
        ),
        (lambda: functional(lambda x: ops.softmax(layers.Dense(4)(x))), "softmax"),
        (lambda: functional(lambda x: ops.log_softmax(layers.Dense(4)(x))), "log_softmax"),
        (lambda: functional(lambda x: layers.Dense(4)(x) + 1.0), "linear"),
        (lambda: nested("softmax"), "softmax"),
        (lambda: nested("tanh"), "tanh"),
    ],
)
def test_the_activation_of_the_output_is_found_wherever_it_stands(model, name):
    assert set_activation(model(), "unchanged") == name


def test_the_activation_of_a_nested_model_is_changed():
    model = nested("softmax")
    assert set_activation(model, "linear") == "linear"
    assert set_activation(model, "unchanged") == "linear"
    outputs = model(np.random.default_rng(0).standard_normal((3, 8, 8, 3), "float32"))
    assert np.abs(np.sum(outputs, 1) - 1).max() > 0.01


def test_an_operation_without_an_activation_is_not_changed():
    with pytest.raises(ValueError, match="activation can be changed where the last layer has one"):
        set_activation(sequential(layers.Dense(4), layers.Softmax()), "linear")
