"""What a run minimises and measures: its loss, its metrics, and the weights of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnets.checks import require
from keras_resnets.training.config import RunConfig
from keras_resnets.training.data import Examples
from keras_resnets.training.recipe import Recipe


def make_loss(recipe: Recipe, class_weights: Sequence[float] | None = None) -> keras.losses.Loss:
    """The loss of a recipe, of logits.

    Args:
        recipe: what is trained.
        class_weights: of each class, where an image may have several. Where it has one, the weight
            of its class comes with the image, as that of a sample.
    """
    if recipe.loss == "cross_entropy":
        return keras.losses.CategoricalCrossentropy(from_logits=True)
    if recipe.multi_label and class_weights is not None:
        return WeightedBinaryCrossentropy(class_weights)
    return keras.losses.BinaryCrossentropy(from_logits=True)


class WeightedBinaryCrossentropy(keras.losses.Loss):
    """The mean over the classes of their binary cross-entropies, each times its class' weight.

    Args:
        class_weights: a number for each class.
    """

    def __init__(self, class_weights: Sequence[float]) -> None:
        super().__init__(name="weighted_binary_cross_entropy")
        self.class_weights = tuple(class_weights)

    def call(self, y_true, y_pred):
        terms = ops.binary_crossentropy(y_true, y_pred, from_logits=True)
        return ops.mean(terms * ops.array(self.class_weights, terms.dtype), axis=-1)


def loss_name(recipe: Recipe) -> str:
    """The name of the metric that is the loss."""
    return "binary_cross_entropy" if recipe.multi_label else recipe.loss


def make_metrics(
    recipe: Recipe, classes: int, validated: np.ndarray | None = None
) -> list[keras.metrics.Metric]:
    """What is measured in every epoch, of logits; the loss' own metric is the last.

    Args:
        recipe: what is trained.
        classes: how many there are.
        validated: how many images of validation each class has, if that is known.
    """
    binary = keras.metrics.BinaryCrossentropy(from_logits=True, name=loss_name(recipe))
    if recipe.multi_label:
        return [MeanAveragePrecision(classes, validated), binary]
    metrics: list[Any] = [
        keras.metrics.CategoricalAccuracy(name="top1"),
        keras.metrics.TopKCategoricalAccuracy(min(5, classes), name="top5"),
        keras.metrics.CategoricalCrossentropy(from_logits=True, name="cross_entropy"),
    ]
    return [*metrics, binary] if recipe.loss == "binary_cross_entropy" else metrics


class MeanAveragePrecision(keras.metrics.AUC):
    """The area under the curve of precision over recall, a mean over the classes, of logits.

    It is measured at 200 thresholds, batch by batch and on all devices together;
    `multi_label.average_precision` is exact, and needs all answers at once. Keras' own thresholds
    lie between the probabilities 0.005 and 0.995, and rare classes below; these are evenly spaced
    among the logits from -10 to 10. A mixture of images counts as what has the larger share.

    Args:
        classes: how many there are.
        counts: images of each class; one without any has no precision, and is left out.
    """

    highest = 10.0

    def __init__(self, classes: int, counts: np.ndarray | None = None) -> None:
        super().__init__(
            curve="PR",
            multi_label=True,
            num_labels=classes,
            label_weights=None if counts is None else (counts > 0).astype("float32").tolist(),
            name="mean_average_precision",
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        logits = ops.cast(y_pred, "float32")
        scores = ops.clip(logits / (2 * self.highest) + 0.5, 0.0, 1.0)
        super().update_state(ops.cast(y_true > 0.5, "float32"), scores, sample_weight)


def check_labels(recipe: Recipe, examples: Examples) -> None:
    """Raises a ValueError unless a recipe is for the labels of the data."""
    require(
        recipe.multi_label or not examples.multi_label,
        "loss must be 'multi_label' for data whose images may have several labels: pass --loss "
        "multi_label",
        loss=recipe.loss,
        data=examples.name,
    )
    require(
        len(examples.class_names) > 1 or examples.multi_label,
        "the data must have two classes or more, to be told apart",
        classes=examples.class_names,
    )


def class_weights(config: RunConfig, examples: Examples) -> list[float] | None:
    """The weight of each class, in the order of the labels.

    Raises:
        ValueError: if they are not of the data's classes.
    """
    names = examples.class_names
    if config.class_weights is None:
        return None
    if config.class_weights == "balanced":
        counts = examples.source.class_counts(len(names))
        present = int((counts > 0).sum())
        return [float(counts.sum() / (present * max(count, 1))) for count in counts]
    require(
        set(config.class_weights) == set(names),
        f"class_weights must name every class: {', '.join(names)}",
        class_weights=dict(config.class_weights),
    )
    return [float(config.class_weights[name]) for name in names]
