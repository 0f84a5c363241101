"""Data sets in memory: arrays, and scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keras_resnets.checks import listed, require
from keras_resnets.training import sources
from keras_resnets.training.splits import SPLITS, Splits, split_called

DIGITS_VALIDATION = 360


def find_arrays(
    splits: Mapping[str, tuple], name: str = "arrays", class_names: Sequence[str] | None = None
) -> Splits:
    """See `data.load`: pairs of images and labels by split; classes are numbers without names."""
    named = {split_called(key) if isinstance(key, str) else None: key for key in splits}
    require(
        None not in named and "train" in named and len(named) == len(splits),
        f"arrays must be given for 'train' and otherwise for {', '.join(map(repr, SPLITS))}",
        splits=list(splits),
    )
    checked = {split: _checked_arrays(key, splits[key]) for split, key in named.items()}
    labels = {split: labels for split, (_, labels) in checked.items()}
    classes = check_labels(labels["train"], "the training labels")
    for split, own in labels.items():
        require(
            own.shape[1:] == labels["train"].shape[1:],
            f"labels must have the shape of the training labels, (N, {classes}) where these say of "
            "each class whether it is there, else (N,)",
            split=named[split],
            shape=own.shape,
        )
        require(
            own.ndim == 2 or own.max(initial=0) < classes,
            f"labels must be from 0 to {classes - 1}, as in the training split",
            split=named[split],
            largest=own.max(initial=0),
        )
    require(
        class_names is None or len(class_names) == classes,
        f"class_names must be {classes}, one for each label from 0 to {classes - 1}",
        class_names=class_names,
    )
    return Splits(
        name,
        tuple(class_names or map(str, range(classes))),
        {split: lambda pair=pair: sources.from_arrays(*pair) for split, pair in checked.items()},
        numbered=class_names is None,
    )


def _checked_arrays(key: str, arrays: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Images as uint8 (N, H, W, C) and labels as int64 (N,), or as uint8 (N, classes)."""
    require(
        isinstance(arrays, (tuple, list)) and len(arrays) == 2,
        "arrays must be (images, labels)",
        split=key,
        data=type(arrays).__name__,
    )
    images, labels = map(np.asarray, arrays)
    require(
        images.dtype == np.uint8
        and (images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3)))
        and 0 not in images.shape[1:],
        "images must be uint8, from 0 to 255, of the shape (N, H, W), (N, H, W, 1) or (N, H, W, 3)",
        dtype=str(images.dtype),
        shape=images.shape,
    )
    images = images[..., None] if images.ndim == 3 else images
    if labels.ndim == 2:
        return images, _checked_multi_hot(labels, len(images))
    require(
        labels.shape == images.shape[:1] and np.issubdtype(labels.dtype, np.integer),
        f"labels must be {len(images)} integers, one an image; or, where an image may have several "
        f"classes, ({len(images)}, classes) of 0 and 1",
        dtype=str(labels.dtype),
        shape=labels.shape,
    )
    return images, labels.astype(np.int64)


def _checked_multi_hot(labels: np.ndarray, count: int) -> np.ndarray:
    """A row for each image, in which a 1 stands for each of its classes, as uint8."""
    require(
        len(labels) == count
        and labels.shape[1] > 0
        and labels.dtype.kind in "biuf"
        and bool(np.isin(labels, (0, 1)).all()),
        f"labels of several classes must be of the shape ({count}, classes), 1 for each class that "
        "is in the image and 0 for the others; labels of one class are integers (N,)",
        dtype=str(labels.dtype),
        shape=labels.shape,
    )
    return labels.astype(np.uint8)


def check_labels(labels: np.ndarray, whose: str) -> int:
    """How many classes there are, each of which must have an image."""
    require(len(labels) > 0, f"{whose} must not be empty: there are no images", count=0)
    if labels.ndim == 2:
        missing = np.flatnonzero(~labels.any(axis=0))
        require(
            missing.size == 0,
            f"{whose} must have an image of every class. Leave out the columns of the others",
            missing=missing[:12].tolist(),
        )
        return labels.shape[1]
    require(labels.min() >= 0, f"{whose} must count from 0", smallest=labels.min())
    present = np.unique(labels)
    classes = int(labels.max()) + 1
    if len(present) < classes:
        # Not by counting up to the largest: a label out of range may be a huge number.
        missing = np.setdiff1d(np.arange(min(classes, 2 * len(present) + 1)), present)
        raise ValueError(
            f"{whose} must be from 0 to one less than the number of classes, and every class must "
            f"have an image. Received: largest={labels.max()}, classes without an image: "
            f"{listed(map(str, missing), most=5)}"
        )
    return classes


def find_digits() -> Splits:
    """scikit-learn's digits, always split alike."""
    try:
        import sklearn.datasets
        import sklearn.model_selection
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "'digits' needs scikit-learn, which is not installed; `pip install scikit-learn`"
        ) from error
    digits = sklearn.datasets.load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    parts = sklearn.model_selection.train_test_split(
        np.arange(len(images)),
        test_size=DIGITS_VALIDATION,
        stratify=digits.target,
        random_state=0,
    )
    return Splits(
        "digits",
        tuple(map(str, digits.target_names)),
        {
            split: lambda chosen=chosen: sources.from_arrays(images[chosen], digits.target[chosen])
            for split, chosen in zip(("train", "validation"), parts, strict=True)
        },
    )
