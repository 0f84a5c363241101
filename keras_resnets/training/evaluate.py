"""How good a classifier is: accuracy, by class too, and which images it gets most wrong."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnets import catalog
from keras_resnets.checks import require
from keras_resnets.training import data
from keras_resnets.training.data import Examples
from keras_resnets.weights.published import Pretrained


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
    model: keras.Model,
    examples: Examples,
    *,
    image_size: int,
    crop_pct: float,
    batch_size: int,
    interpolation: str = "bicubic",
    worst: int = 16,
) -> Evaluation:
    """Runs a model once over every image of a split.

    Args:
        model: from RGB images 0 to 255, float32 (batch, height, width, 3), to probabilities
            (batch, classes).
        examples: the split, whole; see `data.load`.
        image_size: side of the images.
        crop_pct: side of the central crop as a fraction of the shorter side.
        batch_size: images a step; it changes nothing but the speed.
        interpolation: how images are resized.
        worst: how many of the worst images are kept.

    Raises:
        ValueError: if the model has other classes than the data, or no image can be read.
    """
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
        image_size=image_size,
        crop_pct=crop_pct,
        batch_size=batch_size,
        interpolation=interpolation,
    ):
        images = np.asarray(images)
        probabilities = keras.ops.convert_to_numpy(model.predict_on_batch(images))
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


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model to be evaluated and how its images are prepared.

    Attributes:
        model: from RGB images 0 to 255 to probabilities.
        image_size: side of its images.
        crop_pct: side of the central crop as a fraction of the shorter side.
        interpolation: how images are resized.
        published: what is known of its checkpoint, if it is one of the catalog.
    """

    model: keras.Model
    image_size: int
    crop_pct: float
    interpolation: str
    published: Pretrained | None = None


def load_subject(
    source: str | os.PathLike,
    weights: str | None = None,
    *,
    classes: int | None = None,
    image_size: int | None = None,
    crop_pct: float | None = None,
) -> Subject:
    """What `keras-resnets evaluate --model` names.

    Args:
        source: a run's folder (its best weights), a `.keras` file that takes RGB values 0 to 255
            and returns probabilities, or the name of an architecture or published checkpoint.
        weights: for the name of an architecture, as for `create_model`.
        classes: of the data, for a message before a model is built.
        image_size: instead of the model's own.
        crop_pct: instead of the model's own.

    Raises:
        ValueError: if there is no such model or file.
    """
    path = Path(source)
    interpolation, published = "bicubic", None
    if (path / "best.keras").is_file() or path.suffix == ".keras":
        require(weights is None, "weights must be left out: the model has its own", weights=weights)
        config = {}
        if path.is_dir():
            from keras_resnets.training.run_folder import RunFolder

            config = RunFolder(path).read_json("config.json")["recipe"]
            path = path / "best.keras"
        require(path.is_file(), "model must be a file that exists", model=os.fspath(source))
        model = keras.saving.load_model(path, compile=False)
        own_size = config.get("eval_image_size") or config.get("image_size")
        own_size, own_crop = own_size or model.input_shape[1] or 224, config.get("crop_pct", 0.875)
    else:
        variant, published = catalog.find_tagged(os.fspath(source))
        if published is None and (weights is None or weights in variant.pretrained):
            published = variant.pretrained.get(weights or "") or _imagenet(variant)
            weights = published.tag
        require(
            published is None or classes in (None, published.classes),
            f"model must have the classes of the data; {os.fspath(source)} has "
            f"{published and published.classes}",
            classes=classes,
        )
        model = variant(weights=weights or published.tag, include_preprocessing=True)
        own_size, own_crop = 224, 0.875
        if published is not None:
            own_size = published.input_size[0]
            own_crop, interpolation = published.crop_pct, published.interpolation
            if published.test_input_size is not None:
                own_size = published.test_input_size[0]
                own_crop = published.test_crop_pct or own_crop
    return Subject(model, image_size or own_size, crop_pct or own_crop, interpolation, published)


def _imagenet(variant) -> Pretrained:
    from keras_resnets.weights import published

    return published.find(variant.name, "imagenet")
