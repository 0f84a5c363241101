"""A model as a classifier of RGB images: what it takes, and what its scores mean."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import keras

from keras_resnets.graph.endings import output_activation
from keras_resnets.preparation import Preparation


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A model that classifies RGB images.

    Attributes:
        model: from RGB values 0 to 255 `(batch, height, width, 3)` to scores `(batch, classes)`.
        preparation: how images are resized and cropped for it.
        class_names: label and description of each output, or None.
        threshold: the probability from which an image has a label; None where it has one class.
    """

    model: keras.Model
    preparation: Preparation
    class_names: tuple[tuple[str, str], ...] | None
    threshold: float | None = None

    @functools.cached_property
    def _ends_in_logits(self) -> bool:
        """Found out once: it walks the model's graph."""
        return output_activation(self.model) not in ("softmax", "sigmoid")

    def probabilities(self, images: Any) -> Any:
        """Class probabilities of a batch."""
        return self.as_probabilities(self.model.predict_on_batch(images))

    def as_probabilities(self, scores: Any) -> Any:
        """The model's outputs as probabilities: logits get their softmax, or sigmoids."""
        if self._ends_in_logits and self.threshold is not None:
            scores = keras.ops.sigmoid(keras.ops.cast(scores, "float32"))
        elif self._ends_in_logits and scores.shape[-1] >= 2:
            scores = keras.ops.softmax(keras.ops.cast(scores, "float32"))
        return keras.ops.convert_to_numpy(scores)
