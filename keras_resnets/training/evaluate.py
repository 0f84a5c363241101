"""How good a classifier is: accuracy, by class too, and which images it gets most wrong."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from keras_resnets.checks import canonical, listed, nearest, require
from keras_resnets.graph.classifier import Classifier
from keras_resnets.graph.endings import output_activation
from keras_resnets.preparation import Preparation
from keras_resnets.training import multi_label
from keras_resnets.training.answers import Worst, answers
from keras_resnets.training.data import Examples
from keras_resnets.training.multi_label import MultiLabelEvaluation
from keras_resnets.weights.facts import THRESHOLD


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

    @property
    def is_wrong(self) -> bool:
        return self.label != self.predicted

    def described(self, names: Sequence[str]) -> str:
        """What it is, and what it was taken for."""
        return f"{names[self.label]}: {self.probability:.1%}\n" + (
            f"taken for {names[self.predicted]}" if self.is_wrong else "right"
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything but the picture, for JSON."""
        own = {field: getattr(self, field) for field in ("id", "label", "predicted")}
        return own | {"probability": self.probability}


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

    columns: ClassVar[Mapping[str, str]] = {
        "recall": "recall",
        "precision": "precision",
        "top5": "top-5",
    }

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

    def facts(self) -> dict[str, str]:
        """The main figures, in words."""
        return {
            "top-1": f"{self.top1:.2%}",
            "top-5": f"{self.top5:.2%}",
            "cross-entropy": f"{self.cross_entropy:.4f}",
        }

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
            "worst": [image.as_dict() for image in self.worst],
        }


def percent(share: float | None) -> str:
    """A share as text; one of nothing has none."""
    return "-" if share is None else f"{share:.1%}"


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def evaluate(
    classifier: Classifier,
    examples: Examples,
    *,
    batch_size: int,
    preparation: Preparation | None = None,
    flip: bool = False,
    worst: int = 16,
) -> Evaluation | MultiLabelEvaluation:
    """Runs a model once over every image of a split.

    A model of several labels an image is asked about each of them, whatever the data.

    Args:
        classifier: what `Located.build_classifier` returns.
        examples: the split, whole; see `data.load`.
        batch_size: images a step; it changes nothing but the speed.
        preparation: how images are resized and cropped; default: the classifier's.
        flip: average the probabilities of each image and of its mirror image.
        worst: how many of the worst images are kept.

    Raises:
        ValueError: if the data has classes that the model does not have, or several labels an image
            of which the model knows nothing; or no image can be read.
    """
    classes = classifier.model.outputs[0].shape[-1]
    names, outputs = match_classes(examples, classifier.class_names, classes)
    threshold = _threshold(classifier, examples)
    found = answers(
        classifier,
        examples,
        batch_size=batch_size,
        preparation=preparation or classifier.preparation,
        flip=flip,
    )
    if threshold is not None:
        return multi_label.tally(
            found, names, outputs, threshold=threshold, worst=worst, data=examples.name
        )
    confusion, in_top5 = np.zeros((classes, classes), np.int64), np.zeros(classes, np.int64)
    entropy, kept = 0.0, Worst(worst)
    for answer in found:
        # Stable, so that equal probabilities stay in the classes' order.
        ranking = np.argsort(-answer.probabilities, kind="stable")[:5]
        label, predicted = outputs[int(np.argmax(answer.targets))], int(ranking[0])
        probability = float(answer.probabilities[label])
        confusion[label, predicted] += 1
        in_top5[label] += label in ranking
        entropy -= float(np.log(max(probability, keras.config.epsilon())))
        if kept.wants(-probability):
            picture = answer.image.round().astype("uint8")
            kept.add(-probability, WorstImage(answer.id, label, predicted, probability, picture))
    require(confusion.sum() > 0, "the split must have readable images", data=examples.name)
    return Evaluation(
        class_names=names,
        confusion=confusion,
        in_top5=in_top5,
        cross_entropy=entropy / int(confusion.sum()),
        worst=tuple(kept.items),
    )


def _threshold(classifier: Classifier, examples: Examples) -> float | None:
    """From which probability an image has a label; None where an image has one class.

    Raises:
        ValueError: if images may have several labels and the model knows of one.
    """
    if classifier.threshold is not None or not examples.multi_label:
        return classifier.threshold
    activation = output_activation(classifier.model)
    require(
        activation == "sigmoid",
        "model must say of each class by itself whether it is there (a sigmoid, as after training "
        "with --loss multi_label), where images may have several labels",
        data=examples.name,
        activation=activation,
    )
    return THRESHOLD


def match_classes(
    examples: Examples,
    known: Sequence[tuple[str, str]] | None,
    classes: int,
    *,
    of: str = "model",
) -> tuple[tuple[str, ...], list[int]]:
    """Which output of a model stands for each class of the data: that of the same name.

    Args:
        examples: the data. Classes of it may be missing; where it only numbers them, a number is a
            place among the outputs.
        known: label and description of each output, as in `Classifier`. Where they are not known,
            classes are matched by their places, and have to be as many.
        classes: how many outputs the model has.
        of: what a message calls the model.

    Returns:
        Names of the model's outputs, and the number of the output of each class of the data.

    Raises:
        ValueError: if the data has a class that the model does not have.
    """
    theirs = examples.class_names
    rule = f"{of} must have the classes of the data"
    if known is None or examples.numbered:
        require(
            len(theirs) == classes or (examples.numbered and len(theirs) < classes),
            f"{rule}; {examples.name} has {len(theirs)} and the {of} {classes}",
            classes=listed(theirs),
        )
        names = tuple(label for label, _ in known) if known else theirs
        return names + tuple(map(str, range(len(names), classes))), list(range(len(theirs)))
    labels = [canonical(label) for label, _ in known]
    # A description of ImageNet is a list of names, and has two cranes: both have to be labelled.
    texts = [{text, *text.split(", ")} for text in (canonical(text) for _, text in known)]
    counts = Counter(itertools.chain(*texts))
    places = {name: place for place, text in enumerate(texts) for name in text if counts[name] == 1}
    places |= {label: place for place, label in enumerate(labels)}
    unknown = [name for name in theirs if canonical(name) not in places]
    require(
        not unknown,
        f"{rule}; {examples.name} has others, and it has {listed(label for label, _ in known)}",
        nearest(unknown[0], labels) if unknown else "",
        unknown=unknown[:12],
    )
    return tuple(label for label, _ in known), [places[canonical(name)] for name in theirs]
