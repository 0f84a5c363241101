"""Data sets: `load` finds one and checks what can be checked before its images are read."""

from __future__ import annotations

import dataclasses
import pathlib
import warnings
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from keras_resnets.checks import is_count, listed, require, require_flag, require_one_of
from keras_resnets.training import arrays, folders, packaged, records, specs, tables
from keras_resnets.training.sources import IndexedSource, Source
from keras_resnets.training.splits import ALL, SPLITS, Splits


@dataclasses.dataclass(frozen=True)
class Examples:
    """One split of a data set, as `load` found it.

    Attributes:
        name: where it came from.
        split: "train", "validation", "test" or "all".
        class_names: in the order of the labels.
        source: reads the examples.
        strict: whether an image that cannot be read stops the run.
        shard: `(index, count)`: this host and how many there are.
        numbered: whether the classes have no names of their own, only numbers.
        is_drawn: whether the split is a part of the training images, drawn by the seed.
        multi_label: whether an image may have several labels, or none.
    """

    name: str
    split: str
    class_names: tuple[str, ...]
    source: Source
    strict: bool = False
    shard: tuple[int, int] = (0, 1)
    numbered: bool = False
    is_drawn: bool = False

    @property
    def multi_label(self) -> bool:
        return isinstance(self.source, IndexedSource) and self.source.multi_label

    @property
    def class_counts(self) -> np.ndarray | None:
        """How many images each class has; None for records, all of which would have to be read."""
        if not isinstance(self.source, IndexedSource):
            return None
        return self.source.class_counts(len(self.class_names))

    @property
    def count(self) -> int:
        """How many images the split has over all hosts; unreadable ones, still unknown, count."""
        return self.source.count

    @property
    def dataset(self) -> tf.data.Dataset:
        """This host's examples once, in a fixed order.

        Each is a dict: image, encoded bytes or uint8 (H, W, C); label, int64, or uint8 (classes,)
        where images may have several; id, a string: the path, or file and number of the record, or
        the number in the array.
        """
        return self.source.in_order(self.shard)


def load(
    spec: str | tuple | Mapping[str, tuple],
    split: str | None,
    *,
    data_dir: str | None = None,
    seed: int = 0,
    strict: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> Examples:
    """Finds a split of a data set and checks it, without reading the images.

    Args:
        spec: what to load:

            - `"folder:PATH"`: a subfolder for each class, named after it, with images anywhere
              below. If PATH has a folder `train` of such class folders, that is the training split,
              and `validation` and `test` beside it are the others; usual names (`training`,
              `valid`, `val`, `dev`, `testing`, `eval`; `training_set`, `val2017`, `seg_test`) in
              any case of letters will do. Hidden folders and those of systems are passed over.
            - `"csv:FILE"`: a table in UTF-8 whose first line names its columns: one for the path of
              the image (`path`, `file`, `filename`, `image`, ...), absolute or from the folder of
              the table, one for its label (`label`, `class`, ...) or labels (`labels`, `tags`,
              ...), separated by `|`, and perhaps one for the split (`split`, `set`, `subset`),
              which says `train`, `val` and the like. `|` alone stands for an image of none of the
              classes. Others are named behind a question mark:
              `"csv:FILE?path=photo&labels=species&split=part&separator=;"`; `split=` for none.
            - `"tfds:NAME"`, `"tfds:NAME/CONFIG"` or `"tfds:NAME/CONFIG:VERSION"`: a data set
              that tensorflow-datasets has already prepared; nothing is downloaded. A colon may
              stand for the slash in front of CONFIG. Where it has no validation split, its test
              split is that.
            - `"tfrecord:GLOB"`, or a folder: TFRecords with `image/encoded` and
              `image/class/label`, gzipped if named so. Files whose names begin with the name of a
              split are that. Names of classes are the lines of `classes.txt` in their folder, if
              there is one. All records are read once, to count them and check their labels.
            - `"keras:NAME"`: one of `keras.datasets`: cifar10, cifar100, mnist or fashion_mnist.
              Keras downloads it once. Its test split is the validation split, too.
            - `"npz:FILE"`: arrays `x_train`, `y_train`, `x_test`, `y_test`, as in Keras' mnist.npz,
              and optionally `class_names`; split likewise.
            - `"digits"`: scikit-learn's 8x8 digits, always split into 1,437 and 360.
            - `(images, labels)`: uint8 arrays (N, H, W) or (N, H, W, 1 or 3) and integers (N,); or,
              where an image may have several labels, (N, classes) of 0 and 1.
            - a mapping of splits to such pairs.

            Where there is no validation split, it is a seeded tenth of the training images: of
            each class a tenth, except of records, which are drawn without regard to class.
        split: "train", "validation" or "test"; "all" for all images of a data set without splits;
            None for what a model is usually evaluated on: validation images if the data set comes
            with such, else its test images, else all.
        data_dir: where prepared tfds data sets are; None is tfds' usual place.
        seed: of that tenth.
        strict: whether unreadable and empty image files are errors instead of warnings.
        shard: `(index, count)`: which host this is, and of how many.

    Returns:
        The `Examples` of the split.

    Raises:
        FileNotFoundError: if there is no such folder, file or prepared data set, or an image of a
            table is missing.
        ConnectionError: if Keras cannot download a data set.
        ValueError: if an argument is wrong, the data set has no such split, a class has no image, a
            label is out of range, the splits have other classes, or folders are no classes.

    Warns:
        UserWarning: of files and folders that are left out, because they are empty, of another
            format or beside the splits; of classes of which a split has no images; of images that
            a table has in several splits.

    Example:

    >>> examples = load("folder:flowers", "train")
    >>> examples.class_names, examples.count
    (('daisy', 'rose'), 1280)
    """
    require(split is None or isinstance(split, str), "split must be a name or None", split=split)
    if split is not None:
        require_one_of((*SPLITS, ALL), split=split)
    require(
        is_count(seed, 0) and seed < 2**31, "seed must be an int from 0 to 2**31 - 1", seed=seed
    )
    require_flag(strict=strict)
    require(
        isinstance(shard, tuple)
        and len(shard) == 2
        and is_count(shard[1])
        and shard[0] in range(shard[1]),
        "shard must be (index, count), with an index from 0 to count - 1",
        shard=shard,
    )
    found = _find(spec, data_dir, strict)
    split = found.usual if split is None else split
    source = found.source(split, seed)
    require(
        source.count > 0,
        f"the data set must have images for the split {split!r}; {found.name} has none",
        split=split,
    )
    examples = Examples(
        found.name,
        split,
        found.class_names,
        source,
        strict,
        shard,
        found.numbered,
        found.is_drawn(split),
    )
    if (counts := examples.class_counts) is not None:
        missing = [name for name, n in zip(found.class_names, counts, strict=True) if not n]
        if missing:
            names = listed(missing, most=5)
            warnings.warn(
                f"The split {split!r} has no images of these classes: {names}.", stacklevel=2
            )
    return examples


def described(train: Examples, validation: Examples) -> str:
    """Which images a run rests on, in a line: the same as long as the same ones are there."""
    prints = (examples.source.fingerprint()[:16] for examples in (train, validation))
    return f"{train.count} and {validation.count} images ({' and '.join(prints)})"


def _find(spec: str | tuple | Mapping[str, tuple], data_dir: str | None, strict: bool) -> Splits:
    if isinstance(spec, Mapping):
        return arrays.find_arrays(spec)
    if isinstance(spec, (tuple, list)):
        return arrays.find_arrays({"train": spec})
    kind, rest = specs.parsed(spec)
    if kind == "digits":
        return arrays.find_digits()
    if kind == "npz":
        return packaged.find_npz(pathlib.Path(rest))
    if kind == "keras":
        return packaged.find_keras(rest)
    if kind == "folder":
        return folders.find_folder(pathlib.Path(rest), strict)
    if kind == "csv":
        return tables.find_csv(rest, strict)
    return records.find_tfds(rest, data_dir) if kind == "tfds" else records.find_records(rest)
