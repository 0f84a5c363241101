"""Another classifier on a finished model."""

from __future__ import annotations

import keras
from keras import layers

from keras_resnets.checks import is_count, require
from keras_resnets.graph.walk import graph_of, require_functional
from keras_resnets.layers import PointwiseDense


def reset_classifier(
    model: keras.Model, classes: int, activation: str | None = "softmax"
) -> keras.Model:
    """A model of the same backbone and weights with a new classifier.

    Args:
        model: a functional classifier that ends in a dense layer, of this package or not.
        classes: how many the new classifier has; 0 for none: the model then returns what the old
            classifier read, the pre-logits `(batch, channels)`.
        activation: of the new classifier: `"softmax"`, another Keras activation, or None.

    Returns:
        A model that shares all other layers, and their weights, with `model`. The new classifier
        has the old one's name, and random weights.

    Raises:
        ValueError: if the model does not end in a dense layer or has several outputs, or `classes`
            is no number of them.

    Example:

    >>> model = keras_resnets.ResNet50(weights=None)
    >>> keras_resnets.reset_classifier(model, 5).output_shape
    (None, 5)
    >>> keras_resnets.reset_classifier(model, 0).output_shape
    (None, 2048)
    """
    model = require_functional(model, one_output=True)
    require(is_count(classes, 0), "classes must be an int from 0 up", classes=classes)
    calls = graph_of(model, opens=lambda nested: False).trunk()
    classifier = next(
        (call.operation for call in calls if not _is_activation(call.operation)), None
    )
    require(
        isinstance(classifier, layers.Dense),
        "model must end in a dense layer, the classifier",
        # One hides what it ends in.
        f"Give the model inside, model.get_layer({classifier.name!r}), another classifier. "
        if isinstance(classifier, keras.Model)
        else "",
        model=model.name,
        last_layer=getattr(classifier, "name", None),
    )
    x = classifier.input
    if classes:
        # Logits and loss stay in the type of the weights under mixed precision, as before.
        kind = PointwiseDense if isinstance(classifier, PointwiseDense) else layers.Dense
        x = kind(
            int(classes), activation=activation, name=classifier.name, dtype=classifier.dtype_policy
        )(x)
    return type(model)(model.input, x, name=model.name)


def _is_activation(step: keras.Operation) -> bool:
    """Whether a step behind the classifier only turns logits into probabilities."""
    return isinstance(step, (layers.Activation, layers.Softmax, layers.Identity))
