"""Batches for training and evaluation, by tf.data on any Keras backend.

Every image is decoded to the pixels of `read_image`, with which predictions are made, too. The
orientation tag of cameras (EXIF) is ignored, so that a photograph that its tag turns upright is
seen as it was taken, as `keras_resnets.preprocessing` sees it.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnets.checks import is_count, is_number, listed, require, said
from keras_resnets.training import augment, images
from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.data import Examples

# How messages begin that are made while TensorFlow reads, by which they are found in its errors.
UNREADABLE = "images must be whole files that can be decoded (JPEG, PNG, GIF, WebP, BMP, ...)"
NONE_READABLE = "a batch must have at least one image that can be decoded"


def steps_per_epoch(examples: Examples, batch_size: int) -> int:
    """Full batches in an epoch, at least one. `batch_size` is that of one host."""
    _require_batch(batch_size)
    return max(examples.count // (batch_size * examples.shard[1]), 1)


def evaluation_steps(examples: Examples, batch_size: int) -> int:
    """Batches that `evaluation_batches` has, as many on every host."""
    _require_batch(batch_size)
    return math.ceil(math.ceil(examples.count / examples.shard[1]) / batch_size)


# TensorFlow's autograph has nothing to do here, as conditions are written as `tf.cond`; to look for
# some takes it a second.
@tf.autograph.experimental.do_not_convert
def training_batches(
    examples: Examples,
    augmentation: Augmentation,
    *,
    image_size: int,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    class_weights: Sequence[float] | None = None,
    multi_label: bool = False,
) -> tf.data.Dataset:
    """Endless batches of augmented images and soft labels.

    Every batch is a function of the seed and its step. Starting at step k therefore gives the
    batches k, k + 1, ... of an uninterrupted run, at no cost where images can be read by number
    (folders, arrays) and at that of skipping k batches of encoded records within the epoch where
    they cannot. Epochs follow each other without a gap: no image is dropped to fill a batch.

    An image that cannot be decoded is named in a warning, and the next readable one of the batch
    takes its place; if `examples.strict`, it stops the run.

    Args:
        examples: what `load` returned.
        augmentation: what to do with the images and labels.
        image_size: side of the square images.
        batch_size: images a batch, of this host.
        seed: of the order and the augmentation.
        start_step: how many batches to leave out.
        class_weights: the weight of each class in the loss.
        multi_label: whether each class is a question of its own, as it is where an image may have
            several labels; see `augment.soft_labels`.

    Returns:
        A dataset of `(images, labels)`: float32 `(batch_size, image_size, image_size, 3)`, RGB from
        0 to 255, and float32 `(batch_size, classes)`; with class weights also those of the images,
        float32 `(batch_size,)`.

    Raises:
        ValueError: if an argument is out of its range.
        tf.errors.InvalidArgumentError: while iterating, of an unreadable image if
            `examples.strict`, which the message names, and of a batch without any readable image;
            `read` turns it into a ValueError.

    Example:

    >>> batches = training_batches(
    ...     examples, Augmentation(mixup=0.2), image_size=224, batch_size=64, seed=0
    ... )
    """
    _require_batch(batch_size)
    _require_size(image_size)
    require(
        is_count(seed, 0) and seed < 2**31, "seed must be an int from 0 to 2**31 - 1", seed=seed
    )
    require(is_count(start_step, 0), "start_step must be a number of steps", start_step=start_step)
    index, hosts = examples.shard
    start = start_step * batch_size

    def seed_of(step, purpose):
        return tf.random.fold_in(tf.constant([seed, purpose]), step * hosts + index)

    def prepare(example):
        image_seed = tf.random.fold_in(tf.constant([seed, 1]), example["number"])
        crop_seed, change_seed = tf.unstack(tf.random.split(image_seed, 2))
        image = images.training_crop(example["image"], image_size, augmentation, crop_seed)
        return augment.augment_image(image, augmentation, change_seed)

    def cropped_one_by_one(step, batch):
        pixels, readable = _decoded(batch, prepare, image_size, batch_size, examples.strict)
        return _with_gaps_filled(pixels, batch["label"], readable)

    def cropped_at_once(step, batch):
        pixels = augment.crop_and_flip(batch["image"], augmentation, seed_of(step, 1))
        return images.decode(pixels), batch["label"]

    if _as_they_are(examples, image_size) and augment.is_crop_and_flip(augmentation):
        cropped = cropped_at_once
        batches = examples.source.shuffled_batches(seed, start, examples.shard, batch_size)
    else:
        cropped = cropped_one_by_one
        shuffled = examples.source.shuffled(seed, start, examples.shard)
        # A number that no other image of any host or epoch has.
        numbers = tf.data.Dataset.counter(start * hosts + index, hosts)
        numbered = tf.data.Dataset.zip(shuffled, numbers).map(
            lambda example, number: {**example, "number": number, "real": True}
        )
        batches = numbered.batch(batch_size, drop_remainder=True)

    def finish(step, batch):
        pixels, labels = cropped(step, batch)
        return augment.augment_batch(
            tf.cast(pixels, tf.float32),
            _targets(labels, examples),
            augmentation,
            seed_of(step, 2),
            class_weights,
            multi_label=multi_label or examples.multi_label,
        )

    batches = batches.enumerate(start_step)
    return batches.map(finish, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


@tf.autograph.experimental.do_not_convert
def evaluation_batches(
    examples: Examples,
    *,
    image_size: int,
    batch_size: int,
    crop_pct: float = 0.875,
    interpolation: str = "bicubic",
) -> tf.data.Dataset:
    """Batches in which every readable image of this host's share counts exactly once.

    Images are resized with antialiasing, the shorter side to `floor(image_size / crop_pct)`, and
    cropped at the centre: the geometry, and the rounding to whole grey levels, of
    `keras_resnets.preprocessing.Preprocessor`. The last batch is filled up with images of weight
    0, as is the place of an image that cannot be decoded (which is named in a warning, or stops
    the run if `examples.strict`). All hosts have the same number of batches. So metrics must be
    weighted ones: `weighted_metrics` in `model.compile`.

    Args:
        examples: what `load` returned.
        image_size: side of the square images.
        batch_size: images a batch, of this host.
        crop_pct: side of the crop as a fraction of the shorter side.
        interpolation: "bilinear" or "bicubic".

    Returns:
        A dataset of `(images, labels, weights)`: float32 `(batch_size, image_size, image_size,
        3)`, RGB from 0 to 255; float32 `(batch_size, classes)`, one-hot or with a 1 for each of an
        image's labels; float32 `(batch_size,)`.
        In the order of `examples.dataset`.

    Raises:
        ValueError: if an argument is out of its range.
        tf.errors.InvalidArgumentError: while iterating, of an unreadable image if
            `examples.strict`; the message names it. `read` turns it into a ValueError.

    Example:

    >>> for images, labels, weights in evaluation_batches(examples, image_size=224, batch_size=64):
    ...     correct += weights @ (model(images).argmax(1) == labels.argmax(1))
    """
    _require_batch(batch_size)
    _require_size(image_size)
    require(
        is_number(crop_pct) and 0 < crop_pct <= 1,
        "crop_pct must be a number above 0 and at most 1",
        crop_pct=crop_pct,
    )
    require(
        interpolation in ("bilinear", "bicubic"),
        "interpolation must be 'bilinear' or 'bicubic'",
        interpolation=interpolation,
    )

    def finish(batch, pixels, readable):
        labels = _targets(batch["label"], examples)
        return tf.cast(pixels, tf.float32), labels, tf.cast(readable, tf.float32)

    count = evaluation_steps(examples, batch_size) * batch_size
    crop = (image_size, crop_pct, interpolation)
    batches = _cropped(examples, examples.dataset, count, batch_size, *crop)
    return batches.map(finish, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


@tf.autograph.experimental.do_not_convert
def sample(
    examples: Examples, most: int, *, image_size: int, crop_pct: float, interpolation: str
) -> np.ndarray:
    """Some readable images of a split, cropped as for evaluation.

    Args:
        examples: what `load` returned.
        most: how many images at most; they are drawn from all over the split, always the same.
        image_size: side of the square images.
        crop_pct: side of the crop as a fraction of the shorter side.
        interpolation: "bilinear" or "bicubic".

    Returns:
        uint8 `(images, image_size, image_size, 3)`, RGB.

    Raises:
        ValueError: if an image cannot be read and `examples.strict`, or none can be.
    """
    batch_size = 32
    most = min(most, examples.count)
    count = math.ceil(most / batch_size) * batch_size
    rows = examples.source.shuffled(0, 0, (0, 1)).take(most)
    crop = (image_size, crop_pct, interpolation)
    cropped = _cropped(examples, rows, count, batch_size, *crop)
    found = [pixels.numpy()[readable.numpy()] for _, pixels, readable in read(cropped)]
    require(any(map(len, found)), "the data set must have readable images", data=examples.name)
    return np.concatenate(found)


def _cropped(
    examples: Examples,
    rows: tf.data.Dataset,
    count: int,
    batch_size: int,
    image_size: int,
    crop_pct: float,
    interpolation: str,
) -> tf.data.Dataset:
    """Batches of the rows, and of rows without an image behind them up to a count.

    Returns:
        A dataset of `(batch, images, readable)`; see `_decoded`.
    """

    def prepare(example):
        image = images.decode(example["image"])
        return images.centre_crop(image, image_size, crop_pct, interpolation)

    def decode(batch):
        return batch, *_decoded(batch, prepare, image_size, batch_size, examples.strict)

    rows = rows.map(lambda example: {**example, "real": True})
    # Of the whole split, as a host may have no image at all.
    filler = examples.source.in_order((0, 1)).take(1).map(_filler)
    rows = rows.concatenate(filler.repeat()).take(count)
    batches = rows.batch(batch_size, drop_remainder=True)
    return batches.map(decode, tf.data.AUTOTUNE)


# Decoding, and what becomes of images that cannot be decoded --------------------------------------


def _decoded(
    batch: dict[str, tf.Tensor],
    prepare: Callable[[dict[str, tf.Tensor]], tf.Tensor],
    image_size: int,
    batch_size: int,
    strict: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The images of a batch, each made by `prepare`, and which of them are readable.

    A graph cannot catch the error of an image that cannot be decoded, but a dataset can leave that
    image out. So the rows of a batch are a dataset of their own here, numbered, and what is missing
    in the end is seen by its number. That costs nothing to speak of, whereas to decode all images
    once before the training would cost as much as an epoch. An end mark is there in any case.

    Returns:
        uint8 (batch_size, image_size, image_size, 3), black where nothing is readable, and bool
        (batch_size,). Rows that are not `real` are not decoded, and not readable.
    """
    shape = [image_size, image_size, 3]

    def numbered_image(row):
        return row["row"], tf.ensure_shape(tf.cast(prepare(row) + 0.5, tf.uint8), shape)

    rows = tf.data.Dataset.from_tensor_slices({**batch, "row": tf.range(batch_size)})
    real = rows.filter(lambda row: row["real"])
    end = tf.data.Dataset.from_tensors((batch_size, tf.zeros(shape, tf.uint8)))
    readable = real.map(numbered_image, tf.data.AUTOTUNE).ignore_errors().concatenate(end)
    numbers, images = readable.batch(batch_size + 1).get_single_element()
    images = tf.cond(
        tf.size(numbers) > batch_size,
        lambda: images,
        lambda: tf.scatter_nd(numbers[:, None], images, [batch_size + 1, *shape]),
    )
    found = tf.reduce_any(numbers[:, None] == tf.range(batch_size), axis=0)
    with tf.control_dependencies([_report(batch["id"][batch["real"] & ~found], strict)]):
        return tf.ensure_shape(images[:batch_size], [batch_size, *shape]), tf.identity(found)


def _with_gaps_filled(
    images: tf.Tensor, labels: tf.Tensor, readable: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Puts the next readable image of the batch, and its label, where one is not readable."""
    check = tf.debugging.assert_equal(
        tf.reduce_any(readable),
        True,
        f"{NONE_READABLE}. Clean the data set, or take larger batches",
    )

    def filled():
        size = tf.size(readable)
        rows = tf.range(size)
        ahead = (rows[None] - rows[:, None]) % size  # Of each row (first axis): how far to others.
        nearest = tf.argmin(tf.where(readable, ahead, size), axis=1)
        return tf.gather(images, nearest), tf.gather(labels, nearest)

    with tf.control_dependencies([check]):
        return tf.cond(tf.reduce_all(readable), lambda: (images, labels), filled)


def _report(names: tf.Tensor, strict: bool) -> tf.Operation:
    """Names the images that could not be decoded: in a warning, or in an error if `strict`."""

    def report(names):
        names = [name.decode("utf-8", "backslashreplace") for name in names.numpy()]
        if strict:
            raise ValueError(f"{UNREADABLE}. Received: {listed(names, most=5)}")
        for name in names:  # One warning a file, so that Python shows each only once.
            warnings.warn(f"{UNREADABLE}. Skipped: {name}", stacklevel=1)

    def call():
        with tf.control_dependencies([tf.py_function(report, [names], [])]):
            return tf.constant(True)

    return tf.cond(tf.size(names) > 0, call, lambda: tf.constant(True)).op


def _as_they_are(examples: Examples, image_size: int) -> bool:
    """Whether the images lie in memory, and already have the size that they are to have."""
    shape = examples.source.image_shape
    return shape is not None and shape[:2] == (image_size, image_size)


def _targets(labels: tf.Tensor, examples: Examples) -> tf.Tensor:
    """Labels as float32 (B, classes)."""
    if examples.multi_label:
        return tf.cast(labels, tf.float32)
    return tf.one_hot(labels, len(examples.class_names))


def _filler(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A row like the example, without an image."""
    return {**{key: tf.zeros_like(value) for key, value in example.items()}, "real": False}


def _require_batch(batch_size: int) -> None:
    require(is_count(batch_size), "batch_size must be 1 or more", batch_size=batch_size)


def _require_size(image_size: int) -> None:
    require(is_count(image_size), "image_size must be 1 or more pixels", image_size=image_size)


# Errors -------------------------------------------------------------------------------------------


def read(dataset: tf.data.Dataset) -> Iterator[Any]:
    """The elements of a dataset; what TensorFlow says while it reads comes in our words.

    Raises:
        ValueError: if an image or a file cannot be read.
    """
    elements = iter(dataset)
    while True:
        try:
            element = next(elements)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            raise in_our_words(error) or error from error
        yield element


def in_our_words(error: Exception) -> ValueError | None:
    """What TensorFlow says of data that it cannot read; None for anything else."""
    known = "|".join(map(re.escape, (UNREADABLE, NONE_READABLE)))
    found = re.search(rf"({known})[^\n]*", str(error))
    if found:
        return ValueError(said(found[0]))
    of_files = (
        tf.errors.DataLossError,
        tf.errors.FailedPreconditionError,
        tf.errors.NotFoundError,
        tf.errors.PermissionDeniedError,
    )
    if isinstance(error, of_files) and "Iterator" in str(error):
        reason = said(error)
        return ValueError(f"data must stay readable while it is used. Received: {reason}")
    return None
