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
    if recipe.multi_label:
        return MultiLabelCrossentropy(class_weights)
    return keras.losses.BinaryCrossentropy(from_logits=True)


class MultiLabelCrossentropy(keras.losses.Loss):
    """The sum over the classes of their binary cross-entropies, of logits.

    That is minus the logarithm of the probability of an image's labels, as the cross-entropy of one
    class is of its one. So the gradient of each logit is probability minus label in both, and the
    learning rate of a recipe holds. With Keras' `BinaryCrossentropy`, a mean, SGD learns slower by
    as many times as there are classes.

    Args:
        class_weights: what the part of each class is multiplied by; None for 1.
    """

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        super().__init__(name="multi_label_cross_entropy")
        self.class_weights = None if class_weights is None else tuple(class_weights)

    def call(self, y_true, y_pred):
        parts = ops.binary_crossentropy(y_true, y_pred, from_logits=True)
        if self.class_weights is not None:
            parts = parts * ops.array(self.class_weights, parts.dtype)
        return ops.sum(parts, axis=-1)


def loss_name(recipe: Recipe) -> str:
    """The name of the metric that is the loss."""
    return "cross_entropy" if recipe.multi_label else recipe.loss


def make_metrics(
    recipe: Recipe, classes: int, validated: np.ndarray | None = None
) -> list[keras.metrics.Metric]:
    """What is measured in every epoch, of logits; the loss' own metric is the last.

    Args:
        recipe: what is trained.
        classes: how many there are.
        validated: how many images of validation each class has, if that is known.
    """
    if recipe.multi_label:
        entropy = keras.metrics.MeanMetricWrapper(make_loss(recipe).call, name=loss_name(recipe))
        return [MeanAveragePrecision(classes, validated), entropy]
    metrics: list[Any] = [
        keras.metrics.CategoricalAccuracy(name="top1"),
        keras.metrics.TopKCategoricalAccuracy(min(5, classes), name="top5"),
        keras.metrics.CategoricalCrossentropy(from_logits=True, name="cross_entropy"),
    ]
    if recipe.loss == "binary_cross_entropy":
        metrics.append(keras.metrics.BinaryCrossentropy(from_logits=True, name=recipe.loss))
    return metrics


class MeanAveragePrecision(keras.metrics.AUC):
    """The mean over the classes of their average precisions, of logits.

    It is added up batch by batch, on all devices together, at 1001 thresholds, evenly spaced
    among the logits from -10 to 10; images between two of them count as equal. Otherwise it is what
    `multi_label.average_precision` says, which needs all answers at once. (Keras' own area under
    the curve has its thresholds among the probabilities, where rare classes are all below the
    first, interpolates, and counts classes without images as 0.) A mixture of images counts as what
    has the larger share.

    Args:
        classes: how many there are.
        counts: images of each class; one without any is left out.
    """

    highest = 10.0

    def __init__(self, classes: int, counts: np.ndarray | None = None) -> None:
        super().__init__(
            num_thresholds=1001,
            curve="PR",
            multi_label=True,
            num_labels=classes,
            name="mean_average_precision",
        )
        self.is_counted = np.ones(classes, bool) if counts is None else counts > 0

    def update_state(self, y_true, y_pred, sample_weight=None):
        logits = ops.cast(y_pred, "float32")
        scores = ops.clip(logits / (2 * self.highest) + 0.5, 0.0, 1.0)
        super().update_state(ops.cast(y_true > 0.5, "float32"), scores, sample_weight)

    def result(self):
        right = ops.convert_to_tensor(self.true_positives)  # By threshold, rising, and class.
        wrong = ops.convert_to_tensor(self.false_positives)
        precision = ops.divide_no_nan(right, right + wrong)
        gained = ops.divide_no_nan(right[:-1] - right[1:], right[:1])
        by_class = ops.sum(gained * precision[:-1], axis=0)
        counted = ops.array(self.is_counted, by_class.dtype)
        return ops.sum(by_class * counted) / self.is_counted.sum()


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
