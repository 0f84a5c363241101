"""Where images come from: arrays, files and TFRecords, read in order or shuffled without end.

A source yields encoded bytes (or uint8 arrays), never decoded photographs: shuffling and waiting in
buffers costs memory by what is stored. A shuffled stream is a function of its seed and the place
where it starts, so that an interrupted run can go on in the middle of an epoch.

Why not the readers of other libraries: `keras.utils.image_dataset_from_directory` decodes and
resizes before anyone can crop, and reading tensorflow-datasets' own records directly gives a
shuffled order that depends on seed and epoch alone, which `as_dataset` does not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable
from typing import ClassVar, Protocol

import numpy as np
import tensorflow as tf

from keras_resnets.checks import require

SHUFFLE_BUFFER = 8192  # Records, still encoded: about 1 GB of ImageNet.
FILES_AT_ONCE = 16
VALIDATION_SHARE = 10  # One in so many, where there is no validation split.


class Source(Protocol):
    """A split of a data set. Examples are dicts: image, label and id (string).

    A label is an int64; where an image may have several, a uint8 vector with a 1 for each class.
    `image_shape` is the (H, W, C) of images that lie in memory, and None for others.
    """

    count: int
    image_shape: tuple[int, int, int] | None

    def in_order(self, shard: tuple[int, int]) -> tf.data.Dataset:
        """Each example of this host's share once, always in the same order."""

    def shuffled(self, seed: int, start: int, shard: tuple[int, int]) -> tf.data.Dataset:
        """Endless epochs of this host's share, from its example number `start` on."""

    def part(self, validation: bool, seed: int) -> Source:
        """A tenth of the examples, drawn by the seed, for validation; or the others."""

    def class_counts(self, classes: int) -> np.ndarray:
        """How many examples there are of each class, over all hosts."""

    def fingerprint(self) -> str:
        """The same as long as the same examples are there; what is in them is not read."""


@dataclasses.dataclass(frozen=True)
class IndexedSource:
    """Examples that can be read by number: arrays and image files.

    Every epoch is a permutation of the whole split, from which hosts take turns.

    Attributes:
        labels: class of each example, int64 (N,); or its classes, (N, classes) of 0 and 1.
        ids: name of each example.
        read: from the number of an example, a scalar tensor, to its image.
        image_shape: (H, W, C) where all images lie in memory; `read` takes a vector of numbers,
            too, then. None for files.
    """

    labels: np.ndarray
    ids: np.ndarray
    read: Callable[[tf.Tensor], tf.Tensor]
    image_shape: tuple[int, int, int] | None = None

    @property
    def count(self) -> int:
        return len(self.labels)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.labels.ndim == 2

    def in_order(self, shard: tuple[int, int]) -> tf.data.Dataset:
        index, hosts = shard
        return self._examples(tf.data.Dataset.range(index, self.count, hosts))

    def shuffled(self, seed: int, start: int, shard: tuple[int, int]) -> tf.data.Dataset:
        return self._examples(self._shuffled_numbers(seed, start, shard))

    def shuffled_batches(
        self, seed: int, start: int, shard: tuple[int, int], batch_size: int
    ) -> tf.data.Dataset:
        """What `shuffled` yields in batches, of images in memory: in one reading a batch."""
        numbers = self._shuffled_numbers(seed, start, shard)
        return self._examples(numbers.batch(batch_size, drop_remainder=True))

    def _shuffled_numbers(self, seed: int, start: int, shard: tuple[int, int]) -> tf.data.Dataset:
        index, hosts = shard
        places = tf.data.Dataset.counter(start * hosts + index, hosts)

        def example_number(place):
            epoch, place = place // self.count, place % self.count
            order = tf.random.fold_in(tf.constant([seed, 0]), epoch)
            return tf.random.experimental.index_shuffle(place, order, self.count - 1)

        return places.map(example_number)

    def part(self, validation: bool, seed: int) -> IndexedSource:
        """See `Source`. A tenth of each class, but one image of two or more.

        An image of several classes is drawn as one of the rarest among them.
        """
        labels = _rarest(self.labels) if self.multi_label else self.labels
        chosen = _stratified(labels, validation, seed)
        return IndexedSource(
            self.labels[chosen],
            self.ids[chosen],
            lambda number: self.read(tf.gather(tf.constant(chosen), number)),
            self.image_shape,
        )

    def class_counts(self, classes: int) -> np.ndarray:
        if self.multi_label:
            return self.labels.sum(axis=0, dtype=np.int64)
        return np.bincount(self.labels, minlength=classes)

    def fingerprint(self) -> str:
        """See `Source`. A folder that is moved as a whole keeps it."""
        names = list(map(str, self.ids))
        above = os.path.commonprefix(names).rfind("/") + 1
        labels = self.labels
        if self.multi_label:
            labels = ("|".join(map(str, np.flatnonzero(row))) for row in labels)
        return _digest(f"{name[above:]} {label}" for name, label in zip(names, labels, strict=True))

    def _examples(self, numbers: tf.data.Dataset) -> tf.data.Dataset:
        with tf.device("CPU"):
            labels = tf.constant(self.labels, tf.uint8 if self.multi_label else tf.int64)
            ids = tf.constant(list(map(os.fsencode, self.ids)), tf.string)

        def example(number):
            return {
                "image": self.read(number),
                "label": tf.gather(labels, number),
                "id": tf.gather(ids, number),
            }

        return numbers.map(example, num_parallel_calls=tf.data.AUTOTUNE)


def from_arrays(images: np.ndarray, labels: np.ndarray) -> IndexedSource:
    """uint8 images (N, H, W, C) and their labels, named by their numbers."""
    with tf.device("CPU"):
        images = tf.constant(images)
    ids = np.arange(len(labels)).astype(str)
    return IndexedSource(
        labels, ids, lambda number: tf.gather(images, number), tuple(images.shape[1:])
    )


def from_files(paths: np.ndarray, labels: np.ndarray) -> IndexedSource:
    """Image files, named by their paths."""
    with tf.device("CPU"):
        names = tf.constant(list(map(os.fsencode, paths)), tf.string)  # Of whatever bytes.
    return IndexedSource(labels, paths, lambda number: tf.io.read_file(names[number]))


@dataclasses.dataclass(frozen=True)
class RecordSource:
    """Examples in TFRecord files, which can only be read from their beginnings.

    Every epoch reads the files in another order, several at once, and shuffles what they yield in
    a buffer of encoded examples. Where there are enough files, each host trains on files of its
    own.

    Attributes:
        files: the TFRecord files.
        lengths: how many records each holds.
        parse: from a serialised record to its image and label.
        compression: "" or "GZIP".
        part_of: None for all records; else `(first, last, seed)`, of a seeded permutation of the
            records the places from `first` up to, not including, `last`.
    """

    files: tuple[str, ...]
    lengths: tuple[int, ...]
    parse: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    compression: str = ""
    part_of: tuple[int, int, int] | None = None

    image_shape: ClassVar[None] = None

    @property
    def count(self) -> int:
        return sum(self.lengths) if self.part_of is None else self.part_of[1] - self.part_of[0]

    def in_order(self, shard: tuple[int, int]) -> tf.data.Dataset:
        index, hosts = shard
        files = tf.data.Dataset.range(len(self.files))
        return self._parsed(self._records(files).shard(hosts, index))

    def shuffled(self, seed: int, start: int, shard: tuple[int, int]) -> tf.data.Dataset:
        index, hosts = shard
        numbers, kept_of = np.arange(len(self.files)), self._kept_records()
        own_files = all(kept_of[host::hosts].sum() for host in range(hosts))
        mine = numbers[index::hosts] if own_files else numbers
        kept = kept_of[mine].sum()
        if not own_files:  # Every `hosts`-th record of the common order.
            kept = len(range(index, kept, hosts))
            require(kept > 0, "every host must have an image to train on", shard=shard)
        first_epoch, skipped = divmod(start, int(kept))

        def epoch_records(epoch):
            order = tf.random.fold_in(tf.constant([seed, 0]), epoch)
            places = tf.range(len(mine), dtype=tf.int64)
            places = tf.random.experimental.index_shuffle(places, order, len(mine) - 1)
            files = tf.data.Dataset.from_tensor_slices(tf.gather(tf.constant(mine), places))
            records = self._records(files)
            if not own_files:
                records = records.shard(hosts, index)
            buffer_seed = tf.random.stateless_uniform([], order, None, None, tf.int64)
            # Of this graph alone: the order is none of the process' seed, and beside a seed of 0
            # TensorFlow takes no tensor for the other.
            tf.compat.v1.set_random_seed(seed or 1)
            return records.shuffle(SHUFFLE_BUFFER, seed=buffer_seed)

        epochs = tf.data.Dataset.counter(first_epoch)
        return self._parsed(epochs.flat_map(epoch_records).skip(skipped))

    def part(self, validation: bool, seed: int) -> RecordSource:
        """See `Source`. Records are drawn without regard to their class."""
        first = _held_out(self.count)
        places = (0, first, seed) if validation else (first, self.count, seed)
        return dataclasses.replace(self, part_of=places)

    def class_counts(self, classes: int) -> np.ndarray:
        """See `Source`. All records are read."""
        labels = self.in_order((0, 1)).map(lambda example: example["label"])
        found = np.fromiter(labels.as_numpy_iterator(), np.int64)
        return np.bincount(found, minlength=classes)

    def fingerprint(self) -> str:
        """See `Source`."""
        files = (os.path.basename(file) for file in self.files)
        return _digest(map(str, (*zip(files, self.lengths, strict=True), self.part_of)))

    def _records(self, files: tf.data.Dataset) -> tf.data.Dataset:
        """Numbers of files to the records of this part: (id, serialised)."""
        names = tf.constant(self.files)
        firsts = tf.constant(np.cumsum([0, *self.lengths[:-1]]), tf.int64)

        def records_of(file):
            records = tf.data.TFRecordDataset(names[file], self.compression).enumerate()
            if self.part_of is not None:
                records = records.filter(lambda number, _: self._keeps(firsts[file] + number))
            return records.map(
                lambda number, record: (names[file] + ":" + tf.strings.as_string(number), record)
            )

        return files.interleave(
            records_of, cycle_length=FILES_AT_ONCE, num_parallel_calls=tf.data.AUTOTUNE
        )

    def _parsed(self, records: tf.data.Dataset) -> tf.data.Dataset:
        def example(name, record):
            image, label = self.parse(record)
            return {"image": image, "label": label, "id": name}

        return records.map(example, num_parallel_calls=tf.data.AUTOTUNE)

    def _keeps(self, number: tf.Tensor) -> tf.Tensor:
        """Whether records, by their numbers over all files, belong to this part."""
        first, last, seed = self.part_of
        place = tf.random.experimental.index_shuffle(number, [seed, 0], sum(self.lengths) - 1)
        return (place >= first) & (place < last)

    def _kept_records(self) -> np.ndarray:
        """How many records of each file belong to this part."""
        if self.part_of is None:
            return np.array(self.lengths)
        files = np.repeat(np.arange(len(self.files)), self.lengths)
        kept = self._keeps(tf.range(sum(self.lengths), dtype=tf.int64)).numpy()
        return np.bincount(files[kept], minlength=len(self.files))


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


# A validation split, where a data set has none ----------------------------------------------------


def _stratified(labels: np.ndarray, validation: bool, seed: int) -> np.ndarray:
    """Numbers of the examples of a split, drawn class by class: a tenth of each is validation.

    Of a class with at least two images, each split gets one.
    """
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        numbers = generator.permutation(np.flatnonzero(labels == label))
        first = _held_out(len(numbers))
        chosen.append(numbers[:first] if validation else numbers[first:])
    return np.sort(np.concatenate(chosen))


def _rarest(labels: np.ndarray) -> np.ndarray:
    """Of each row's classes the one with the fewest examples; -1 for a row without any."""
    order = np.argsort(labels.sum(axis=0, dtype=np.int64), kind="stable")
    return np.where(labels.any(axis=1), order[labels[:, order].argmax(axis=1)], -1)


def _held_out(count: int) -> int:
    """How many of some images are for validation: a tenth, but one of two or more."""
    return max(round(count / VALIDATION_SHARE), int(count > 1))
