"""What a run minimises and measures: its loss, its metrics, and the weights of its classes."""

from __future__ import annotations

from typing import Any

import keras

from keras_resnets.checks import require
from keras_resnets.training.config import RunConfig
from keras_resnets.training.data import Examples
from keras_resnets.training.recipe import Recipe


def make_loss(recipe: Recipe) -> keras.losses.Loss:
    """The loss of a recipe, of logits."""
    if recipe.loss == "cross_entropy":
        return keras.losses.CategoricalCrossentropy(from_logits=True)
    return keras.losses.BinaryCrossentropy(from_logits=True)


def make_metrics(recipe: Recipe, classes: int) -> list[keras.metrics.Metric]:
    """What is measured in every epoch, of logits; the loss' own metric has its name and is last."""
    metrics: list[Any] = [
        keras.metrics.CategoricalAccuracy(name="top1"),
        keras.metrics.TopKCategoricalAccuracy(min(5, classes), name="top5"),
        keras.metrics.CategoricalCrossentropy(from_logits=True, name="cross_entropy"),
    ]
    if recipe.loss == "binary_cross_entropy":
        metrics.append(keras.metrics.BinaryCrossentropy(from_logits=True, name=recipe.loss))
    return metrics


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
