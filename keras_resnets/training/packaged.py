"""Data sets in one file: `npz:FILE`, and those that come with Keras, `keras:NAME`."""

from __future__ import annotations

import os
import pathlib
import zipfile

import keras
import numpy as np

from keras_resnets.checks import nearest, require
from keras_resnets.training.arrays import find_arrays
from keras_resnets.training.splits import Splits

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")

# Names of the classes in the order of the labels, by the data sets' own pages.
_DIGITS = tuple("0123456789")
_FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag"),
    "Ankle boot",
)
_CIFAR10 = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
_CIFAR100 = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab
    crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
    lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """.split()
)
_KERAS = {
    "cifar10": _CIFAR10,
    "cifar100": _CIFAR100,
    "mnist": _DIGITS,
    "fashion_mnist": _FASHION,
}


def find_npz(path: pathlib.Path) -> Splits:
    """See `data.load`: `"npz:FILE"`."""
    if not path.is_file():
        raise FileNotFoundError(f"the data set must be a file. Received: npz:{path}")
    broken = f"an npz must be a whole file of NumPy's savez. Received: npz:{path}"
    if not zipfile.is_zipfile(path):
        raise ValueError(broken)
    try:
        with np.load(path, allow_pickle=False) as file:
            require(
                all(name in file for name in _ARRAYS),
                f"an npz must hold the arrays {', '.join(_ARRAYS)}",
                npz=str(path),
                arrays=list(file),
            )
            arrays = {name: file[name] for name in _ARRAYS}
            names = [str(name) for name in file["class_names"]] if "class_names" in file else None
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(broken) from error
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        raise ValueError(
            "an npz must hold arrays of numbers, not Python's objects, which are not read. "
            f"Received: npz:{path}"
        ) from error
    return _with_test_as_validation(arrays, path.name, names)


def find_keras(name: str) -> Splits:
    """See `data.load`: `"keras:NAME"`; Keras downloads it at the first time, and keeps it."""
    require(
        name in _KERAS,
        f"keras: must be followed by one of {', '.join(_KERAS)}",
        nearest(name, _KERAS),
        data=f"keras:{name}",
    )
    try:
        train, test = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises plain Exceptions where a download fails.
        cache = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras"), "datasets")
        raise ConnectionError(
            f"keras:{name} must be in {cache} or be downloaded by Keras, which failed: {error}. "
            "Remove a damaged file from that folder; without a connection pass the arrays as "
            f"npz:FILE. Received: data='keras:{name}'"
        ) from error
    # CIFAR's labels come as columns.
    arrays = dict(
        zip(_ARRAYS, (train[0], np.ravel(train[1]), test[0], np.ravel(test[1])), strict=True)
    )
    return _with_test_as_validation(arrays, name, list(_KERAS[name]))


def _with_test_as_validation(
    arrays: dict[str, np.ndarray], name: str, class_names: list[str] | None
) -> Splits:
    train, test = ((arrays[f"x_{split}"], arrays[f"y_{split}"]) for split in ("train", "test"))
    require(
        len(test[0]) > 0, "the data set must have images for the split 'test'", x_test=test[0].shape
    )
    return find_arrays({"train": train, "validation": test, "test": test}, name, class_names)
