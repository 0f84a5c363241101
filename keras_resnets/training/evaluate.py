"""How good a classifier is: accuracy, by class too, and which images it gets most wrong."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from typing import Any

import keras
import numpy as np

from keras_resnets.checks import require
from keras_resnets.loading import Classifier
from keras_resnets.preparation import Preparation
from keras_resnets.training import data
from keras_resnets.training.data import Examples


@dataclasses.dataclass(frozen=True)
class WorstImage:
    """An image to whose class a model gave little probability.

    Attributes:
        id: of the example, such as its path.
        label: index of its class.
        predicted: index of the likeliest class.
        probability: of its class.
        image: as the model saw it, uint8 (height, width, 3).
    """

    id: str
    label: int
    predicted: int
    probability: float
    image: np.ndarray


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a model says of a split.

    Attributes:
        class_names: in the order of the labels.
        confusion: (classes, classes): images of the row's class taken for the column's.
        in_top5: (classes,): images of a class that is among their five likeliest.
        cross_entropy: mean over the images.
        worst: the images whose class got the least probability, least first.
    """

    class_names: tuple[str, ...]
    confusion: np.ndarray
    in_top5: np.ndarray
    cross_entropy: float
    worst: tuple[WorstImage, ...]

    @property
    def count(self) -> int:
        """Images that could be read."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Share of the images whose class is the likeliest."""
        return float(np.trace(self.confusion) / self.count)

    @property
    def top5(self) -> float:
        """Share of the images whose class is among the five likeliest."""
        return float(self.in_top5.sum() / self.count)

    @property
    def summary(self) -> str:
        """`"top-1 97.22%, top-5 100.00% of 360 images"`."""
        return f"top-1 {self.top1:.2%}, top-5 {self.top5:.2%} of {self.count:,} images"

    def by_class(self) -> list[dict[str, Any]]:
        """For each class its name, images, recall (its own accuracy), precision and top-5."""
        images, taken = self.confusion.sum(1), self.confusion.sum(0)
        right = np.diag(self.confusion)
        return [
            {
                "class": name,
                "images": int(images[i]),
                "recall": _ratio(right[i], images[i]),
                "precision": _ratio(right[i], taken[i]),
                "top5": _ratio(self.in_top5[i], images[i]),
            }
            for i, name in enumerate(self.class_names)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Everything but the pictures, for JSON."""
        return {
            "images": self.count,
            "top1": self.top1,
            "top5": self.top5,
            "cross_entropy": self.cross_entropy,
            "by_class": self.by_class(),
            "confusion": self.confusion.tolist(),
            "worst": [
                {field: getattr(image, field) for field in ("id", "label", "predicted")}
                | {"probability": image.probability}
                for image in self.worst
            ],
        }


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def evaluate(
    classifier: Classifier,
    examples: Examples,
    *,
    batch_size: int,
    preparation: Preparation | None = None,
    worst: int = 16,
) -> Evaluation:
    """Runs a model once over every image of a split.

    Args:
        classifier: what `Located.build_classifier` returns.
        examples: the split, whole; see `data.load`.
        batch_size: images a step; it changes nothing but the speed.
        preparation: how images are resized and cropped; default: the classifier's.
        worst: how many of the worst images are kept.

    Raises:
        ValueError: if the model has other classes than the data, or no image can be read.
    """
    model, preparation = classifier.model, preparation or classifier.preparation
    require(
        preparation.size[0] == preparation.size[1],
        "image_size must be that of a square",
        image_size=preparation.size,
    )
    classes = len(examples.class_names)
    require(
        model.output_shape[-1] == classes,
        f"model must have the classes of the data; {examples.name} has {classes} and the model "
        f"{model.output_shape[-1]}",
        model=model.name,
    )
    confusion, in_top5 = np.zeros((classes, classes), np.int64), np.zeros(classes, np.int64)
    entropy, kept, order = 0.0, [], itertools.count()
    ids = (example["id"].decode() for example in _ids(examples))
    for images, labels, weights in data.evaluation_batches(
        examples,
        image_size=preparation.size[0],
        crop_pct=preparation.crop_pct,
        interpolation=preparation.interpolation,
        batch_size=batch_size,
    ):
        images = np.asarray(images)
        probabilities = classifier.probabilities(images)
        real = np.asarray(weights) > 0
        names = list(itertools.islice(ids, len(real)))
        # Stable, so that equal probabilities stay in the classes' order.
        ranking = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
        for i in np.flatnonzero(real):
            label = int(np.argmax(labels[i]))
            probability = float(probabilities[i, label])
            confusion[label, ranking[i, 0]] += 1
            in_top5[label] += label in ranking[i]
            entropy -= float(np.log(max(probability, keras.config.epsilon())))
            # A heap of the worst: the smallest is the best of them, so it is the one to go.
            item = (-probability, next(order), i, names[i], label, int(ranking[i, 0]), images[i])
            (heapq.heappush if len(kept) < worst else heapq.heappushpop)(kept, item)
    require(confusion.sum() > 0, "the split must have readable images", data=examples.name)
    return Evaluation(
        class_names=examples.class_names,
        confusion=confusion,
        in_top5=in_top5,
        cross_entropy=entropy / int(confusion.sum()),
        worst=tuple(
            WorstImage(name, label, predicted, -negative, image.round().astype("uint8"))
            for negative, _, _, name, label, predicted, image in sorted(kept, reverse=True)
        ),
    )


def _ids(examples: Examples):
    """The examples' ids in order; nothing is decoded."""
    return examples.dataset.map(lambda example: {"id": example["id"]}).as_numpy_iterator()
