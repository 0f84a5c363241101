"""What is known of every published checkpoint of our architectures, without a network.

`pretrained.csv` and `imagenet_classes.csv` are data, made by `tools/build_catalog.py`; they are
read when something first asks for them. The facts come from timm 1.0.31 (Apache-2.0): its
configuration, the accuracies that its maintainers report, and WordNet's names of ImageNet's
classes. `bundled.csv` has the small networks whose weights are in this package, in `bundled/`, and
how `tools/train_cifar_weights.py` made and measured them.

A checkpoint's licence is its author's, as timm states it. It is passed on, not judged, except for
two things: what `weights="imagenet"` means is chosen among permissive licences only, and a licence
that forbids commercial use, or that nobody knows, is marked wherever it is shown.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib.resources
from pathlib import Path
from typing import Any

from keras_resnets.checks import nearest
from keras_resnets.preparation import Preparation

# What the parts of a tag mean that name data, by timm's convention.
_DATA = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "ig1b": "Instagram-1B",
    "yfcc100m": "YFCC100M",
    "yfcc15m": "YFCC15M",
    "cc12m": "CC12M",
}

BUNDLED = Path(__file__).parent / "bundled"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How weights that come along were made.

    Attributes:
        command: that trained them.
        seed: of the training.
        epochs: passes over the training images; the best of them is kept.
        best_epoch: which one that was.
        hours: that it took.
        date: when it ended.
        machine: on what.
    """

    command: str
    seed: int
    epochs: int
    best_epoch: int
    hours: float
    date: str
    machine: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A published checkpoint.

    Attributes:
        architecture: timm's name of the network, ours too.
        tag: what tells it from the architecture's other checkpoints: who trained it, how, on what.
        hub_id: its repository on the Hugging Face hub; empty for weights that come along.
        classes: how many its classifier has; 0 where it was published without one.
        input_size: `(height, width)` of the images that it was trained with.
        test_input_size: the larger size that it is best evaluated at, if one is stated.
        crop_pct: side of the central crop, as a fraction of the resized image's shorter side.
        test_crop_pct: the same at `test_input_size`.
        interpolation: how images are resized: `"bilinear"` or `"bicubic"`.
        mean: of each channel, for RGB values from 0 to 1.
        std: of each channel.
        license: identifier of its licence, or `"unknown"`.
        origin_url: where its author published it; may be empty.
        top1: accuracy in percent: on ImageNet-1k's validation set, as timm reports it, or on all
            test images of `dataset`, as we measured it.
        top5: the same of the five likeliest classes.
        results_size: side of the images that these accuracies were measured with.
        imagenet: whether it is the architecture's choice for `weights="imagenet"`.
        dataset: what these accuracies were measured on.
        training: how it was made, where its weights come along; None for those on the hub.
    """

    architecture: str
    tag: str
    hub_id: str
    classes: int
    input_size: tuple[int, int]
    test_input_size: tuple[int, int] | None
    crop_pct: float
    test_crop_pct: float | None
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    license: str
    origin_url: str
    top1: float | None
    top5: float | None
    results_size: int | None
    imagenet: bool
    dataset: str = "ImageNet"
    training: Training | None = None

    @property
    def name(self) -> str:
        """What `create_model` takes: `"resnest50d.in1k"`."""
        return f"{self.architecture}.{self.tag}"

    @property
    def source(self) -> str:
        """Where the file is: `"hf://timm/resnest50d.in1k"`, or its path in this package."""
        return f"hf://{self.hub_id}" if self.training is None else str(self.bundled)

    @property
    def bundled(self) -> Path | None:
        """The file of weights that come along; None for those on the hub."""
        return None if self.training is None else BUNDLED / f"{self.name}.safetensors"

    @property
    def preparation(self) -> Preparation:
        """How images are prepared for it."""
        return Preparation.stated_in(dataclasses.asdict(self))

    @property
    def training_data(self) -> tuple[str, ...]:
        """The data sets that its tag names; none where the tag names no data."""
        if self.training is not None:
            return (self.dataset,)
        return tuple(_DATA[part] for part in self.tag.split("_") if part in _DATA)

    @property
    def permissive(self) -> bool:
        """Whether the licence is known to allow any use, also commercial."""
        return is_permissive(self.license)

    @property
    def non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return "-nc" in self.license

    @property
    def caution(self) -> str:
        """What to know before using it, or nothing: `"non-commercial"`, `"licence unknown"`."""
        if self.non_commercial:
            return "non-commercial"
        if self.license == "unknown":
            return "licence unknown"
        return "" if self.permissive else "licence not known to be permissive"

    def as_dict(self) -> dict[str, Any]:
        """Everything in it, for JSON."""
        computed = ("name", "source", "permissive", "non_commercial", "caution")
        return {key: getattr(self, key) for key in computed} | dataclasses.asdict(self)


def is_permissive(license: str) -> bool:
    """Whether a licence is known to allow any use: Apache-2.0, MIT or one of the BSD licences."""
    license = license.lower()
    return license in ("apache-2.0", "mit") or license.startswith("bsd-")


@functools.cache
def table() -> dict[str, dict[str, Pretrained]]:
    """The checkpoints by architecture and tag. It is shared by all callers: do not change it."""
    architectures: dict[str, dict[str, Pretrained]] = {}
    for row in _rows("pretrained.csv"):
        _add(architectures, _checkpoint(row))
    for row in _rows("bundled.csv"):
        training = Training(**{key: read(row[key]) for key, read in _TRAINING.items()})
        known = dict.fromkeys(_TEXTS | _READERS.keys(), "") | row
        made = dict(dataset=row["dataset"], training=training)
        _add(architectures, dataclasses.replace(_checkpoint(known), **made))
    return architectures


def _checkpoint(row: dict[str, str]) -> Pretrained:
    return Pretrained(
        **{key: row[key] for key in _TEXTS},
        **{key: read(row[key]) if row[key] else None for key, read in _READERS.items()},
    )


def _add(architectures: dict[str, dict[str, Pretrained]], checkpoint: Pretrained) -> None:
    architectures.setdefault(checkpoint.architecture, {})[checkpoint.tag] = checkpoint


def find(architecture: str, tag: str) -> Pretrained:
    """The checkpoint of a tag.

    Args:
        architecture: timm's name of the network.
        tag: one of its tags, or `"imagenet"` for the one with the best reported accuracy among
            those with ImageNet's 1,000 classes and a permissive licence.

    Returns:
        What is known of the checkpoint.

    Raises:
        ValueError: if the architecture has no such tag, or no checkpoint at all, or, for
            `"imagenet"`, none whose licence is known to be permissive. The message lists the tags
            and their licences.

    Example:

    >>> find("resnest50d", "imagenet").tag
    'in1k'
    """
    tags = table().get(architecture, {})
    if not tags:
        raise ValueError(
            f"weights must be None or a file: no checkpoint of {architecture!r} is published. "
            f"Received: weights={tag!r}"
        )
    if tag in tags:
        return tags[tag]
    listed = ", ".join(f"{known} ({row.license})" for known, row in tags.items())
    if tag == "imagenet":
        for row in tags.values():
            if row.imagenet:
                return row
        if not any(row.classes == 1000 for row in tags.values()):
            raise ValueError(
                f'weights="imagenet" means a checkpoint with ImageNet\'s 1,000 classes, and '
                f"{architecture!r} has none. Name a tag: {listed}. Received: weights={tag!r}"
            )
        raise ValueError(
            f'weights="imagenet" means a checkpoint whose licence is known to be permissive, and '
            f"{architecture!r} has none. Accept a licence by naming its tag: {listed}. "
            f"Received: weights={tag!r}"
        )
    # The beginning of a tag is the likeliest slip: "a1" for "a1_in1k".
    longer = next((known for known in tags if tag and known.startswith(tag)), tag)
    raise ValueError(
        f"weights must be a published tag of {architecture!r}: {listed}. "
        f"{nearest(longer, tags)}Received: weights={tag!r}"
    )


@functools.cache
def class_names() -> list[tuple[str, str]]:
    """ImageNet's 1,000 classes in the checkpoints' order: `("n01440764", "tench, Tinca tinca")`.

    A synset is unique, a name is not: WordNet has two cranes, the bird and the machine. The list is
    shared by all callers: do not change it.
    """
    return [(row["synset"], row["name"]) for row in _rows("imagenet_classes.csv")]


def _rows(file: str) -> list[dict[str, str]]:
    text = importlib.resources.files(__package__).joinpath(file).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split()))


def _size(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("x")))


# How the columns are read; an empty cell that is no text is None.
_TEXTS = {"architecture", "tag", "hub_id", "interpolation", "license", "origin_url"}
_READERS = {
    "classes": int,
    "input_size": _size,
    "test_input_size": _size,
    "crop_pct": float,
    "test_crop_pct": float,
    "mean": _numbers,
    "std": _numbers,
    "top1": float,
    "top5": float,
    "results_size": int,
    "imagenet": lambda text: text == "1",
}
_TRAINING = {
    "command": str,
    "seed": int,
    "epochs": int,
    "best_epoch": int,
    "hours": float,
    "date": str,
    "machine": str,
}
