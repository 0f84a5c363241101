"""Distillation: a network learns from another one's outputs beside the labels."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_resnets.checks import require
from keras_resnets.graph.classifier import Classifier
from keras_resnets.graph.endings import output_activation
from keras_resnets.loading import locate
from keras_resnets.training.config import RunConfig
from keras_resnets.training.data import Examples
from keras_resnets.training.evaluate import match_classes
from keras_resnets.training.losses import make_loss
from keras_resnets.training.recipe import Recipe


class Student(keras.Model):
    """A model whose training loss is about its teacher's outputs, too; otherwise it is the model.

    With the share s and the temperature T the loss is

        (1 - s) loss(labels, logits) + s T^2 loss(f(teacher / T), logits / T)

    where f turns logits into probabilities, a softmax or, with binary cross-entropies, a sigmoid.
    Validation measures the loss of the labels alone. The teacher sees the images of the batch as
    they were augmented, and never changes.

    Args:
        model: from images to logits.
        teacher: the same, of the same classes.
        recipe: see `Recipe`: `loss`, `teacher_share`, `teacher_temperature`.

    Source:
        Hinton et al., arXiv:1503.02531, section 2.
    """

    def __init__(self, model: keras.Model, teacher: keras.Model, recipe: Recipe) -> None:
        super().__init__(inputs=model.input, outputs=model.output, name=model.name)
        teacher.trainable = False
        self.teacher = teacher
        self.share, self.temperature = recipe.teacher_share, recipe.teacher_temperature
        self.as_targets = ops.softmax if recipe.loss == "cross_entropy" else ops.sigmoid
        self.teacher_loss = make_loss(recipe)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        told = ops.cast(self.teacher(x, training=False), "float32") / self.temperature
        said = ops.cast(y_pred, "float32") / self.temperature
        theirs = self.teacher_loss(self.as_targets(told), said, sample_weight)
        return (1 - self.share) * loss + self.share * self.temperature**2 * theirs

    @property
    def variables(self) -> list[keras.Variable]:
        """Without the teacher's: no checkpoint needs them."""
        return self._own(super().variables)

    @property
    def weights(self) -> list[keras.Variable]:
        """Without the teacher's, which are not counted."""
        return self._own(super().weights)

    def _own(self, variables: list[keras.Variable]) -> list[keras.Variable]:
        theirs = set(map(id, self.teacher.variables)) if hasattr(self, "teacher") else set()
        return [variable for variable in variables if id(variable) not in theirs]


def with_teacher(model: keras.Model, config: RunConfig, examples: Examples) -> keras.Model:
    """The model of a run as the student of the run's teacher; as it is where there is none.

    Raises:
        ValueError: if there is no such teacher, it has other classes than the data, or takes images
            of another size.
    """
    if config.teacher is None:
        return model
    classifier = locate(config.teacher, config.teacher_weights).build_classifier()
    return Student(model, _logits(classifier, config, examples), config.recipe)


def _logits(classifier: Classifier, config: RunConfig, examples: Examples) -> keras.Model:
    """A teacher from images of training to logits of the data's classes, in their order."""
    model, size = classifier.model, config.recipe.image_size
    sides = tuple(model.inputs[0].shape[1:3])
    require(
        all(side in (None, size) for side in sides),
        "teacher must take images of the size of training, or of any",
        teacher_size=sides,
        image_size=size,
    )
    classes = model.outputs[0].shape[-1]
    _, outputs = match_classes(examples, classifier.class_names, classes, of="teacher")
    images = keras.Input((size, size, 3))
    logits = _as_logits(model(images), output_activation(model))
    if outputs != list(range(classes)):
        logits = ops.take(logits, ops.array(outputs), axis=-1)
    return keras.Model(images, logits, name="teacher")


def _as_logits(scores: Any, activation: str) -> Any:
    """Logits from what a model ends in; those of a softmax up to what a softmax does not see."""
    if activation not in ("softmax", "sigmoid"):
        return scores
    smallest = keras.config.epsilon()
    scores = ops.clip(scores, smallest, 1 - smallest)
    return ops.log(scores) - (ops.log(1 - scores) if activation == "sigmoid" else 0.0)
