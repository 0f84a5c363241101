"""How good a classifier is where an image may have several labels, each a question of its own."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from keras_resnets.checks import listed, require
from keras_resnets.training.answers import Answer, Worst

# The columns of a table of thresholds.
THRESHOLD_COLUMNS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "mean_f1": "mean F1 of the classes",
}

# What the table of a report looks at.
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """The mean of the precisions at each right image, the images ranked by their scores.

    Args:
        labels: (images,): 1 for each that is right.
        scores: (images,). Images of equal scores have one rank.

    Returns:
        The sum of precision times gain in recall over the ranks, as scikit-learn has it; None where
        no image is right.

    Example:

    >>> average_precision(np.array([1, 0, 1]), np.array([0.9, 0.8, 0.7]))
    0.8333333333333333
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # Of equal scores.
    right = np.cumsum(labels[order], dtype=np.int64)[last]
    if not right[-1]:
        return None
    return float((right / (last + 1)) @ np.diff(right, prepend=0) / right[-1])


@dataclasses.dataclass(frozen=True)
class WorstImage:
    """An image whose labels a model is far from.

    Attributes:
        id: of the example, such as its path.
        labels: indices of its classes.
        predicted: indices of the classes that reach the threshold.
        cross_entropy: of the image, a sum over the classes.
        image: as the model saw it, uint8 (height, width, 3).
    """

    id: str
    labels: tuple[int, ...]
    predicted: tuple[int, ...]
    cross_entropy: float
    image: np.ndarray

    @property
    def is_wrong(self) -> bool:
        return self.labels != self.predicted

    def described(self, names: Sequence[str]) -> str:
        """What it is, and what it was taken for."""
        own, said = (
            listed((names[i] for i in chosen), most=3) for chosen in (self.labels, self.predicted)
        )
        return f"{own}: {self.cross_entropy:.2f}\n" + (
            f"taken for {said}" if self.is_wrong else "right"
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything but the picture, for JSON."""
        return {
            "id": self.id,
            "labels": list(self.labels),
            "predicted": list(self.predicted),
            "cross_entropy": self.cross_entropy,
        }


@dataclasses.dataclass(frozen=True)
class MultiLabelEvaluation:
    """What a model says of a split whose images may have several labels.

    Attributes:
        class_names: the classes of the data; others that the model knows are not asked about.
        labels: (images, classes): 1 for each class of an image.
        probabilities: (images, classes), by the model.
        threshold: the probability from which an image has a label.
        worst: the images of the highest cross-entropy, highest first.
    """

    columns: ClassVar[Mapping[str, str]] = {
        "average_precision": "average precision",
        "recall": "recall",
        "precision": "precision",
        "f1": "F1",
    }

    class_names: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    threshold: float
    worst: tuple[WorstImage, ...]

    @property
    def count(self) -> int:
        """Images that could be read."""
        return len(self.labels)

    @functools.cached_property
    def average_precisions(self) -> list[float | None]:
        """That of each class; None for one without an image."""
        return [
            average_precision(labels, scores)
            for labels, scores in zip(self.labels.T, self.probabilities.T, strict=True)
        ]

    @property
    def mean_average_precision(self) -> float:
        """The mean of the classes that have images."""
        return float(np.mean([value for value in self.average_precisions if value is not None]))

    @property
    def cross_entropy(self) -> float:
        """A sum over the classes, and a mean over the images."""
        return float(_cross_entropies(self.labels, self.probabilities).mean())

    @property
    def summary(self) -> str:
        """`"mean average precision 97.10%, F1 93.20% at the threshold 0.5 of 360 images"`."""
        f1 = self._at(self.threshold)["f1"] or 0.0
        return (
            f"mean average precision {self.mean_average_precision:.2%}, F1 {f1:.2%} at the "
            f"threshold {self.threshold:g} of {self.count:,} images"
        )

    def facts(self) -> dict[str, str]:
        """The main figures, in words."""
        best = max(self.by_threshold(), key=lambda row: row["f1"] or 0.0)
        return {
            "mean average precision": f"{self.mean_average_precision:.2%}",
            f"F1 at the threshold {self.threshold:g}": f"{self._at(self.threshold)['f1'] or 0:.2%}",
            "highest F1": f"{best['f1'] or 0:.2%}, at the threshold {best['threshold']:g}",
            "cross-entropy": f"{self.cross_entropy:.4f}",
        }

    def by_class(self) -> list[dict[str, Any]]:
        """For each class its name, images, average precision; recall, ... at the threshold."""
        right, said, there = self._counts(self.threshold)
        return [
            {
                "class": name,
                "images": int(there[i]),
                "average_precision": self.average_precisions[i],
                **_shares(right[i], said[i], there[i]),
            }
            for i, name in enumerate(self.class_names)
        ]

    def by_threshold(self) -> list[dict[str, float | None]]:
        """Precision, recall and F1 of all labels together, and the mean F1 of the classes."""
        return [self._at(threshold) for threshold in sorted({*THRESHOLDS, self.threshold})]

    def as_dict(self) -> dict[str, Any]:
        """Everything but the pictures and the answers of each image, for JSON."""
        return {
            "images": self.count,
            "mean_average_precision": self.mean_average_precision,
            "cross_entropy": self.cross_entropy,
            "threshold": self.threshold,
            "by_threshold": self.by_threshold(),
            "by_class": self.by_class(),
            "worst": [image.as_dict() for image in self.worst],
        }

    def _at(self, threshold: float) -> dict[str, float | None]:
        counts = self._counts(threshold)
        by_class = [_shares(*row)["f1"] or 0.0 for row in zip(*counts, strict=True) if row[2]]
        together = _shares(*(count.sum() for count in counts))
        return {"threshold": threshold, **together, "mean_f1": float(np.mean(by_class))}

    def _counts(self, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each class: images of which it is rightly said, is said, and is true."""
        said = self.probabilities >= threshold
        return (said & (self.labels > 0)).sum(0), said.sum(0), (self.labels > 0).sum(0)


def _shares(right: int, said: int, there: int) -> dict[str, float | None]:
    return {
        "recall": float(right / there) if there else None,
        "precision": float(right / said) if said else None,
        "f1": float(2 * right / (said + there)) if said + there else None,
    }


def _cross_entropies(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Of each image: the sum of the binary cross-entropies of its classes."""
    smallest = keras.config.epsilon()
    chosen = np.where(labels > 0, probabilities, 1 - probabilities)
    return -np.log(np.maximum(chosen, smallest)).sum(axis=-1)


def tally(
    answers: Iterable[Answer],
    names: Sequence[str],
    outputs: Sequence[int],
    *,
    threshold: float,
    worst: int,
    data: str,
) -> MultiLabelEvaluation:
    """Counts what a model says.

    Args:
        answers: of every image.
        names: of the model's outputs.
        outputs: which output stands for each class of the data.
        threshold: the probability from which an image has a label.
        worst: how many of the worst images are kept.
        data: the name of the data, for messages.

    Raises:
        ValueError: if no image can be read, or none has a label.
    """
    labels, probabilities, kept = [], [], Worst(worst)
    for answer in answers:
        own, said = answer.targets > 0, answer.probabilities[list(outputs)]
        labels.append(own)
        probabilities.append(said)
        entropy = float(_cross_entropies(own, said))
        if kept.wants(entropy):
            found = (tuple(np.flatnonzero(chosen).tolist()) for chosen in (own, said >= threshold))
            picture = answer.image.round().astype("uint8")
            kept.add(entropy, WorstImage(answer.id, *found, entropy, picture))
    require(bool(labels), "the split must have readable images", data=data)
    require(bool(np.any(labels)), "the split must have an image with a label", data=data)
    return MultiLabelEvaluation(
        class_names=tuple(names[output] for output in outputs),
        labels=np.array(labels, np.uint8),
        probabilities=np.array(probabilities),
        threshold=threshold,
        worst=tuple(kept.items),
    )
