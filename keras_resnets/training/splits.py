"""The splits of a data set: what people call them, and how one is drawn where there is none."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Callable, Mapping

from keras_resnets.checks import listed, require
from keras_resnets.training.sources import Source

SPLITS = ("train", "validation", "test")
ALL = "all"  # The images of a data set without splits.
# What they are called in data sets, in small letters. Names of several files begin so.
NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing", "eval", "evaluation"),
}


# What stands around them in folders of published data: `training_set`, `val2017`, `seg_test`.
_AROUND = re.compile(r"^(?:seg|images?|data)[ _-]|[ _-]?(?:set|data|dataset|images?|split|\d{4})$")


def split_called(name: str) -> str | None:
    """The split that a name stands for, in any case of letters."""
    return next((split for split, names in NAMES.items() if name.casefold() in names), None)


def split_of_folder(name: str) -> str | None:
    """The split that a folder's name stands for.

    Example:

    >>> split_of_folder("Training"), split_of_folder("test_set"), split_of_folder("contest")
    ('train', 'test', None)
    """
    return split_called(_AROUND.sub("", name.casefold()))


def split_beginning(name: str) -> str | None:
    """The split that a file's name begins with."""
    name = name.casefold()
    return next((split for split, names in NAMES.items() if name.startswith(names)), None)


@dataclasses.dataclass(frozen=True)
class Splits:
    """A data set that was found.

    Attributes:
        name: what to call it.
        class_names: in the order of the labels.
        readers: by split, what finds its examples.
        numbered: whether the classes have no names of their own, only numbers.
    """

    name: str
    class_names: tuple[str, ...]
    readers: Mapping[str, Callable[[], Source]]
    numbered: bool = False

    @property
    def usual(self) -> str:
        """What a model is evaluated on: validation or test images if there are such, else all."""
        return next((split for split in ("validation", "test") if split in self.readers), ALL)

    def is_drawn(self, split: str) -> bool:
        """Whether a split is a part of the training images that is drawn by a seed."""
        return split in ("train", "validation") and "validation" not in self.readers

    def source(self, split: str, seed: int) -> Source:
        """What reads a split.

        Raises:
            ValueError: if the data set has no such split, or none can be drawn.
        """
        own = self.readers
        if split == ALL:
            require(
                list(own) == ["train"],
                f"the split must be one of {', '.join(own)}, which {self.name} has; 'all' is for "
                "data sets without splits",
                split=split,
            )
            return own["train"]()
        if self.is_drawn(split) and "train" in own:
            return _drawn(own["train"](), split, seed, self)
        require(
            split in own,
            f"the split must be one that the data set has; {self.name} has not",
            split=split,
        )
        return own[split]()


def _drawn(source: Source, split: str, seed: int, splits: Splits) -> Source:
    """A tenth of the training images for validation, or the others."""
    part = source.part(split == "validation", seed)
    require(
        part.count > 0,
        "a tenth of the images is held out for validation, so there must be two or more of a "
        f"class; {splits.name} has {source.count} of {len(splits.class_names)} classes. Add images "
        "or a validation split",
        split=split,
    )
    return part


def warn_left_out(what: str, names: list[str], why: str) -> None:
    """Names what a data set has and nobody reads."""
    if names:
        text = f"Left out {len(names)} {what}: {listed(names, most=5)}. {why}"
        warnings.warn(text.rstrip(), stacklevel=2)
