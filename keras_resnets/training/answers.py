"""What a classifier says of every image of a split, and the images that it gets most wrong."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from keras_resnets.checks import require
from keras_resnets.graph.classifier import Classifier
from keras_resnets.preparation import Preparation
from keras_resnets.training.batches import evaluation_batches, read
from keras_resnets.training.data import Examples


class Answer(NamedTuple):
    """What is said of an image.

    Attributes:
        id: of the example, such as its path.
        image: as the model saw it, (height, width, 3).
        targets: (classes of the data,): 1 for each class of the image, 0 for the others.
        probabilities: (outputs of the model,).
    """

    id: str
    image: np.ndarray
    targets: np.ndarray
    probabilities: np.ndarray


def answers(
    classifier: Classifier,
    examples: Examples,
    *,
    batch_size: int,
    preparation: Preparation,
    flip: bool,
) -> Iterator[Answer]:
    """Runs a model once over every image that can be read; see `evaluate.evaluate`."""
    require(
        preparation.size[0] == preparation.size[1],
        "image_size must be that of a square",
        image_size=preparation.size,
    )
    ids = _ids(examples)
    batches = evaluation_batches(
        examples,
        image_size=preparation.size[0],
        crop_pct=preparation.crop_pct,
        interpolation=preparation.interpolation,
        batch_size=batch_size,
    )
    for images, targets, weights in read(batches):
        images = np.asarray(images)
        probabilities = classifier.probabilities(images)
        if flip:
            probabilities = (probabilities + classifier.probabilities(images[:, :, ::-1])) / 2
        real = np.asarray(weights) > 0
        batch_ids = list(itertools.islice(ids, len(real)))
        targets = np.asarray(targets)
        for i in np.flatnonzero(real):
            yield Answer(batch_ids[i], images[i], targets[i], probabilities[i])


def _ids(examples: Examples) -> Iterator[str]:
    """The examples' ids in order; nothing is decoded."""
    ids = examples.dataset.map(lambda example: example["id"])
    return (name.numpy().decode("utf-8", "backslashreplace") for name in read(ids))


class Worst:
    """Keeps the worst of many.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most, self._order = most, itertools.count()
        # A heap: the smallest is the best of the kept, so it is the one to go.
        self._kept: list[tuple[float, int, Any]] = []

    def wants(self, badness: float) -> bool:
        """Whether one so bad is kept, so that others need not be made."""
        return len(self._kept) < self._most or badness >= self._kept[0][0]

    def add(self, badness: float, item: Any) -> None:
        entry = (badness, next(self._order), item)
        (heapq.heappush if len(self._kept) < self._most else heapq.heappushpop)(self._kept, entry)

    @property
    def items(self) -> list[Any]:
        """The kept ones, the worst first."""
        return [item for *_, item in sorted(self._kept, reverse=True)]
