"""Finds data sets by their specification and checks them, before any image is decoded."""

from __future__ import annotations

import collections
import glob
import os
import pathlib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_resnets.checks import require
from keras_resnets.training import sources

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp")
SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
VALIDATION_SHARE = 10  # One in so many, where there is no validation split.
DIGITS_VALIDATION = 360


class Found(NamedTuple):
    """A split of a data set: what to call it, its classes and what reads it."""

    name: str
    class_names: Sequence[str]
    source: sources.Source


def find(
    spec: str | tuple | Mapping[str, tuple],
    split: str,
    *,
    data_dir: str | None,
    seed: int,
    strict: bool,
) -> Found:
    """See `keras_resnets.training.data.load`."""
    if isinstance(spec, Mapping):
        return _find_arrays(dict(spec), split, seed)
    if isinstance(spec, (tuple, list)):
        return _find_arrays({"train": spec}, split, seed)
    require(
        isinstance(spec, str),
        "the data set must be a string such as 'folder:PATH', or arrays (images, labels)",
        data=type(spec).__name__,
    )
    kind, _, rest = spec.partition(":")
    if kind == "digits" and not rest:
        return _find_digits(split)
    require(
        kind in ("folder", "tfds", "tfrecord") and bool(rest),
        "the data set must be 'folder:PATH', 'tfds:NAME', 'tfrecord:GLOB' or 'digits'",
        data=spec,
    )
    if kind == "folder":
        return _find_folder(pathlib.Path(rest), split, seed, strict)
    if kind == "tfds":
        return _find_tfds(rest, split, data_dir, seed)
    return _find_records(rest, split, seed)


def listed(names: Iterable[object], most: int = 5) -> str:
    """Names for a message, the first few of many."""
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in names]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


# Arrays -------------------------------------------------------------------------------------------


def _find_arrays(splits: dict[str, tuple], split: str, seed: int) -> Found:
    unknown = set(splits) - set(SPLIT_NAMES)
    require(
        not unknown and "train" in splits,
        f"arrays must be given for 'train' and otherwise for {', '.join(map(repr, SPLIT_NAMES))}",
        splits=list(splits),
    )
    checked = {key: _checked_arrays(key, value) for key, value in splits.items()}
    classes = _checked_labels(checked["train"][1], "the training labels")
    for key, (_, labels) in checked.items():
        require(
            labels.size == 0 or labels.max() < classes,
            f"labels must be from 0 to {classes - 1}, as in the training split",
            split=key,
            largest=labels.max(initial=0),
        )
    if split not in checked or (split == "train" and "validation" not in checked):
        _require_split(split in ("train", "validation"), split, "the arrays")
        images, labels = checked["train"]
        chosen = _part(labels, split, seed)
        checked[split] = images[chosen], labels[chosen]
    names = [str(label) for label in range(classes)]
    return Found("arrays", names, sources.from_arrays(*checked[split]))


def _checked_arrays(key: str, arrays: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Images as uint8 (N, H, W, C) and labels as int64 (N,)."""
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
    require(
        labels.shape == images.shape[:1] and np.issubdtype(labels.dtype, np.integer),
        f"labels must be {len(images)} integers, one an image",
        dtype=str(labels.dtype),
        shape=labels.shape,
    )
    return (images[..., None] if images.ndim == 3 else images), labels.astype(np.int64)


def _checked_labels(labels: np.ndarray, whose: str) -> int:
    """How many classes there are, each of which must have an image."""
    require(labels.size > 0, f"{whose} must not be empty: there are no images", count=0)
    require(labels.min() >= 0, f"{whose} must count from 0", smallest=labels.min())
    present = np.unique(labels)
    classes = int(labels.max()) + 1
    if len(present) < classes:
        # Not by counting up to the largest: a label out of range may be a huge number.
        missing = np.setdiff1d(np.arange(min(classes, 2 * len(present) + 1)), present)
        raise ValueError(
            f"{whose} must be from 0 to one less than the number of classes, and every class must "
            f"have an image. Received: largest={labels.max()}, classes without an image: "
            f"{listed(missing)}"
        )
    return classes


def _find_digits(split: str) -> Found:
    _require_split(split in ("train", "validation"), split, "digits")
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
    chosen = parts[split == "validation"]
    names = [str(name) for name in digits.target_names]
    return Found("digits", names, sources.from_arrays(images[chosen], digits.target[chosen]))


# Folders ------------------------------------------------------------------------------------------


def _find_folder(path: pathlib.Path, split: str, seed: int, strict: bool) -> Found:
    if not path.is_dir():
        raise FileNotFoundError(
            f"folder: must be followed by a folder of images. Received: {str(path)!r}"
        )
    folders = {
        key: path / name
        for key, names in SPLIT_NAMES.items()
        for name in reversed(names)
        if _subfolders(path / name)
    }
    if "train" not in folders:
        folders = {"train": path}
    class_names = [folder.name for folder in _subfolders(folders["train"])]
    require(
        bool(class_names),
        "the folder must have a subfolder with images for each class",
        folder=str(path),
    )
    name = f"folder:{path}"
    if split in folders:
        _check_same_classes(class_names, folders[split], split)
        paths, labels = _image_files(folders[split], class_names, strict, may_miss=split != "train")
        if split != "train" or "validation" in folders:
            return Found(name, class_names, sources.from_files(paths, labels))
    else:
        _require_split(split == "validation", split, name)
        paths, labels = _image_files(folders["train"], class_names, strict, may_miss=False)
    chosen = _part(labels, split, seed)
    return Found(name, class_names, sources.from_files(paths[chosen], labels[chosen]))


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Class folders, in alphabetical order."""
    if not folder.is_dir():
        return []
    return sorted(child for child in folder.iterdir() if child.is_dir() and child.name[0] != ".")


def _check_same_classes(class_names: list[str], folder: pathlib.Path, split: str) -> None:
    names = {child.name for child in _subfolders(folder)}
    unknown = sorted(names - set(class_names))
    require(
        not unknown,
        f"the classes of the split {split!r} must be those of the training split",
        unknown=unknown,
    )
    missing = sorted(set(class_names) - names)
    if missing:
        warnings.warn(
            f"The split {split!r} has no images of these classes: {listed(missing)}.", stacklevel=5
        )


def _image_files(
    folder: pathlib.Path, class_names: list[str], strict: bool, may_miss: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Paths and labels of the images of a split, in alphabetical order."""
    paths, labels, empty, others = [], [], [], []
    for label, name in enumerate(class_names):
        for parent, folders, files in os.walk(folder / name, followlinks=True):
            folders.sort()
            for file in sorted(files):
                path = os.path.join(parent, file)
                if file.startswith("."):
                    continue
                if not file.lower().endswith(EXTENSIONS):
                    others.append(path)
                elif os.path.getsize(path) == 0:
                    empty.append(path)
                else:
                    paths.append(path)
                    labels.append(label)
    if empty and strict:
        raise ValueError(f"image files must not be empty. Received: {listed(empty)}")
    if empty:
        warnings.warn(f"Left out {len(empty)} empty image files: {listed(empty)}.", stacklevel=5)
    if others:
        warnings.warn(
            f"Left out {len(others)} files that are not {', '.join(EXTENSIONS)}: {listed(others)}. "
            "PIL converts other images: `Image.open(path).convert('RGB').save('image.png')`.",
            stacklevel=5,
        )
    require(bool(paths), "the folder must have images", folder=str(folder))
    if not may_miss:
        found = collections.Counter(labels)
        missing = [name for label, name in enumerate(class_names) if not found[label]]
        require(
            not missing,
            "every class folder must have images. Remove the folder, or fill it",
            folder=str(folder),
            empty=missing,
        )
    return np.array(paths), np.array(labels, np.int64)


# Records ------------------------------------------------------------------------------------------


def _find_records(pattern: str, split: str, seed: int) -> Found:
    files = sorted(glob.glob(pattern))
    if not files:
        raise FileNotFoundError(f"tfrecord: must match at least one file. Received: {pattern!r}")
    labels = [_record_labels(file) for file in files]
    offset, class_names = _record_classes(np.concatenate(labels), files[0])
    by_split = {
        key: [number for number, file in enumerate(files) if _begins(file, names)]
        for key, names in SPLIT_NAMES.items()
    }
    if not by_split["train"]:
        by_split = {"train": range(len(files))}

    def parse(record):
        features = tf.io.parse_single_example(record, _features())
        return features["image/encoded"], features["image/class/label"] - offset

    def source(key: str, part: tuple[int, int, int] | None = None) -> sources.RecordSource:
        return sources.RecordSource(
            tuple(files[number] for number in by_split[key]),
            tuple(len(labels[number]) for number in by_split[key]),
            parse,
            _compression(files[0]),
            part,
        )

    name = f"tfrecord:{pattern}"
    if by_split.get(split) and (split != "train" or by_split.get("validation")):
        return Found(name, class_names, source(split))
    _require_split(split in ("train", "validation"), split, name)
    total = source("train").count
    return Found(name, class_names, source("train", _record_part(total, split, seed)))


def _features() -> dict[str, tf.io.FixedLenFeature]:
    return {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }


def _compression(file: str) -> str:
    return "GZIP" if file.endswith((".gz", ".gzip")) else ""


def _begins(file: str, names: tuple[str, ...]) -> bool:
    return os.path.basename(file).startswith(names)


def _record_labels(file: str) -> np.ndarray:
    """The labels of a file, all of whose records are read."""
    records = tf.data.TFRecordDataset(file, _compression(file)).batch(256)
    parsed = records.map(
        lambda batch: tf.io.parse_example(batch, _features())["image/class/label"],
        tf.data.AUTOTUNE,
    )
    try:
        return np.concatenate([np.zeros(0, np.int64), *parsed.as_numpy_iterator()])
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(
            "tfrecord: files must hold whole records with image/encoded and image/class/label. "
            f"Received: {file!r} ({error.message.splitlines()[0]})"
        ) from error


def _record_classes(labels: np.ndarray, file: str) -> tuple[int, list[str]]:
    """The label that counts as 0, and the classes' names."""
    require(labels.size > 0, "tfrecord: files must hold records; there are none", file=file)
    names_file = pathlib.Path(file).with_name("classes.txt")
    if names_file.is_file():
        names = names_file.read_text(encoding="utf-8").splitlines()
        require(
            labels.min() >= 0 and labels.max() < len(names),
            f"labels must be from 0 to {len(names) - 1}, the classes that {names_file} names",
            smallest=labels.min(),
            largest=labels.max(),
        )
        return 0, names
    offset = int(labels.min() == 1)
    if offset:
        warnings.warn(
            "The labels of the TFRecords count from 1; 1 is subtracted. Where 0 is a class without "
            "images, name all classes in a file classes.txt beside the records.",
            stacklevel=5,
        )
    classes = _checked_labels(labels - offset, "the labels of the records")
    return offset, [str(label) for label in range(classes)]


def _find_tfds(name: str, split: str, data_dir: str | None, seed: int) -> Found:
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "tfds: needs tensorflow-datasets, which is not installed; "
            "`pip install tensorflow-datasets`"
        ) from error
    builder = _prepared_tfds(tfds, name, data_dir)
    image, label = _supervised_keys(tfds, builder)
    splits = {key: info for key, info in builder.info.splits.items() if info.num_examples}
    carved = "validation" not in splits and "test" not in splits
    if split == "validation" and "validation" not in splits and "test" in splits:
        key = "test"
    else:
        key = "train" if carved and split == "validation" else split
    _require_split(key in splits, split, f"tfds:{name}")
    info = splits[key]

    def parse(record):
        example = builder.info.features.deserialize_example(
            record, decoders={image: tfds.decode.SkipDecoding()}
        )
        return example[image], tf.cast(example[label], tf.int64)

    part = _record_part(info.num_examples, split, seed) if carved else None
    files = tuple(map(os.fspath, info.filepaths))
    source = sources.RecordSource(files, tuple(info.shard_lengths), parse, part=part)
    return Found(f"tfds:{name}", builder.info.features[label].names, source)


def _prepared_tfds(tfds, name: str, data_dir: str | None):
    """The builder of a data set that is on disk."""
    first, _, second = name.partition(":")
    is_version = re.fullmatch(r"[\d*]+(\.[\d*]+)*", second)
    path = f"{first}/{second}" if second and not is_version else name
    try:
        builder = tfds.core.read_only_builder.builder_from_files(path, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        where = "" if data_dir is None else f", data_dir={os.fspath(data_dir)!r}"
        raise FileNotFoundError(
            f"tfds: data sets must have been prepared before; nothing is downloaded here. Prepare "
            f"it with `tfds.load({path!r}{where})`. Received: {name!r}"
        ) from error
    require(
        builder.info.file_format == tfds.core.FileFormat.TFRECORD,
        "tfds: data sets must be stored as TFRecords; prepare it anew with file_format='tfrecord'",
        data=name,
        file_format=builder.info.file_format.value,
    )
    return builder


def _supervised_keys(tfds, builder) -> tuple[str, str]:
    """The names of the features that are the image and its class."""
    keys = builder.info.supervised_keys or ("image", "label")
    features = dict(builder.info.features.items())
    require(
        len(keys) == 2
        and isinstance(features.get(keys[0]), tfds.features.Image)
        and isinstance(features.get(keys[1]), tfds.features.ClassLabel),
        "tfds: the data set must pair an image with a class label",
        features={key: type(feature).__name__ for key, feature in features.items()},
    )
    return keys


# Splits -------------------------------------------------------------------------------------------


def _require_split(present: bool, split: str, name: str) -> None:
    require(present, f"the split must be one that the data set has; {name} has not", split=split)


def _part(labels: np.ndarray, split: str, seed: int) -> np.ndarray:
    """Numbers of the examples of a split, drawn class by class: a tenth of each is validation.

    Of a class with at least two images, each split gets one.
    """
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        numbers = generator.permutation(np.flatnonzero(labels == label))
        validation = max(round(len(numbers) / VALIDATION_SHARE), int(len(numbers) > 1))
        chosen.append(numbers[:validation] if split == "validation" else numbers[validation:])
    return np.sort(np.concatenate(chosen))


def _record_part(count: int, split: str, seed: int) -> tuple[int, int, int]:
    """Places of the records of a split in a seeded permutation; see `RecordSource`."""
    validation = max(round(count / VALIDATION_SHARE), int(count > 1))
    return (0, validation, seed) if split == "validation" else (validation, count, seed)
