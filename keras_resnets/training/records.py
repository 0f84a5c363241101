"""Data sets in TFRecord files: anybody's, and those that tensorflow-datasets has prepared."""

from __future__ import annotations

import glob
import os
import pathlib
import re
import warnings

import numpy as np
import tensorflow as tf

from keras_resnets.checks import require, said
from keras_resnets.files import read_text
from keras_resnets.training.arrays import check_labels
from keras_resnets.training.sources import RecordSource
from keras_resnets.training.splits import (
    Splits,
    split_beginning,
    split_called,
    warn_left_out,
)

CLASSES_FILE = "classes.txt"
# What lies beside records and is none.
_OTHERS = (".txt", ".json", ".csv", ".md")


def find_records(pattern: str) -> Splits:
    """See `data.load`: `"tfrecord:GLOB"`, or a folder for all in it."""
    files = _record_files(pattern)
    labels = [_record_labels(file) for file in files]
    offset, class_names, numbered = _record_classes(np.concatenate(labels), files[0])
    by_split: dict[str | None, list[int]] = {}
    for number, file in enumerate(files):
        by_split.setdefault(split_beginning(os.path.basename(file)), []).append(number)
    if "train" not in by_split:
        by_split = {"train": list(range(len(files)))}
    unused = [files[number] for number in by_split.pop(None, [])]
    warn_left_out("files of records", unused, "Their names begin with no split's, as others do.")

    def parse(record):
        features = tf.io.parse_single_example(record, _features())
        return features["image/encoded"], features["image/class/label"] - offset

    def reader(numbers: list[int]) -> RecordSource:
        return RecordSource(
            tuple(files[number] for number in numbers),
            tuple(len(labels[number]) for number in numbers),
            parse,
            _compression(files[0]),
        )

    readers = {
        split: lambda numbers=numbers: reader(numbers) for split, numbers in by_split.items()
    }
    return Splits(f"tfrecord:{pattern}", class_names, readers, numbered)


def _record_files(pattern: str) -> list[str]:
    if os.path.isdir(pattern):
        pattern = os.path.join(glob.escape(pattern), "*")
    files = [file for file in sorted(glob.glob(pattern)) if os.path.isfile(file)]
    files = [file for file in files if not file.endswith(_OTHERS)]
    if not files:
        raise FileNotFoundError(f"tfrecord: must match at least one file. Received: {pattern!r}")
    return files


def _features() -> dict[str, tf.io.FixedLenFeature]:
    return {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }


def _compression(file: str) -> str:
    return "GZIP" if file.endswith((".gz", ".gzip")) else ""


def _record_labels(file: str) -> np.ndarray:
    """The labels of a file, all of whose records are read."""
    records = tf.data.TFRecordDataset(file, _compression(file)).batch(256)
    parsed = records.map(
        lambda batch: tf.io.parse_example(batch, _features())["image/class/label"],
        tf.data.AUTOTUNE,
    )
    try:
        return np.concatenate([np.zeros(0, np.int64), *parsed.as_numpy_iterator()])
    except tf.errors.OpError as error:
        raise ValueError(
            "tfrecord: files must hold whole records with image/encoded and image/class/label. "
            f"Received: {file!r} ({said(error)})"
        ) from error


def _record_classes(labels: np.ndarray, file: str) -> tuple[int, tuple[str, ...], bool]:
    """The label that counts as 0, the classes' names, and whether these are only numbers."""
    require(labels.size > 0, "tfrecord: files must hold records; there are none", file=file)
    names_file = pathlib.Path(file).with_name(CLASSES_FILE)
    if names_file.is_file():
        names = read_text(names_file).splitlines()
        require(
            labels.min() >= 0 and labels.max() < len(names),
            f"labels must be from 0 to {len(names) - 1}, the classes that {names_file} names",
            smallest=labels.min(),
            largest=labels.max(),
        )
        return 0, tuple(names), False
    offset = int(labels.min() == 1)
    if offset:
        warnings.warn(
            "The labels of the TFRecords count from 1; 1 is subtracted. Where 0 is a class without "
            f"images, name all classes in a file {CLASSES_FILE} beside the records.",
            stacklevel=5,
        )
    classes = check_labels(labels - offset, "the labels of the records")
    return offset, tuple(map(str, range(classes))), True


def find_tfds(name: str, data_dir: str | None) -> Splits:
    """See `data.load`: `"tfds:NAME"`."""
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "tfds: needs tensorflow-datasets, which is not installed; "
            "`pip install tensorflow-datasets`"
        ) from error
    builder = _prepared_tfds(tfds, name, data_dir)
    image, label = _supervised_keys(tfds, builder)

    def parse(record):
        example = builder.info.features.deserialize_example(
            record, decoders={image: tfds.decode.SkipDecoding()}
        )
        return example[image], tf.cast(example[label], tf.int64)

    def reader(info) -> RecordSource:
        files = tuple(map(os.fspath, info.filepaths))
        return RecordSource(files, tuple(info.shard_lengths), parse)

    readers = {
        split_called(key): lambda info=info: reader(info)
        for key, info in builder.info.splits.items()
        if info.num_examples and split_called(key)
    }
    if "test" in readers:
        readers.setdefault("validation", readers["test"])
    names = tuple(builder.info.features[label].names)
    numbered = names == tuple(map(str, range(len(names))))  # What it calls classes without names.
    return Splits(f"tfds:{name}", names, readers, numbered)


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
    except Exception as error:  # Names and files that are damaged make it raise whatever.
        raise ValueError(
            "tfds: must be followed by NAME, NAME/CONFIG or NAME/CONFIG:VERSION of a data set that "
            f"can be read ({said(error)}). Received: {name!r}"
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
