"""Representative images: what int8 is calibrated with, and what an exported file is compared on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_resnets.checks import require
from keras_resnets.layers.preprocessor import Preprocessor

MOST_SAMPLES = 128  # Of a data set; ranges hardly change with more images.
CALIBRATION_BATCH = 8


def representative(
    data: Any,
    *,
    precision: str,
    shape: tuple[int | None, ...],
    uint8: bool,
    preprocessing: Preprocessor,
) -> np.ndarray | None:
    """Images as they go into the exported file; None if none are given and none are needed.

    Args:
        data: an array of images, or what `training.data.load` takes, of which it is at most
            `MOST_SAMPLES` images of the training split, drawn at random.
        precision: of the export.
        shape: of the images that go in, with the batch.
        uint8: whether they are uint8 RGB; otherwise they are normalised.
        preprocessing: resizes and normalises.

    Raises:
        ValueError: if int8 has no data, or the images are of another shape or range.
    """
    if data is None:
        require(
            precision != "int8",
            "data must be representative images for int8, which takes the ranges of activations "
            "from them: an array, or a data set such as 'folder:PATH'",
            data=data,
        )
        return None
    if not (hasattr(data, "shape") and hasattr(data, "dtype")):
        data = _from_data_set(data, preprocessing)
    images = _checked_images(np.asarray(data), shape, uint8, preprocessing)
    if images.dtype == np.uint8 and not uint8:
        images = normalized(images, preprocessing)
    return images


def normalized(rgb: np.ndarray, preprocessing: Preprocessor) -> np.ndarray:
    """uint8 RGB to the values that a model expects, by the definition."""
    mean, std = (np.float32(values) for values in (preprocessing.mean, preprocessing.std))
    return (rgb.astype("float32") / 255 - mean) / std


def batches(images: np.ndarray, batch: int | None) -> Iterator[np.ndarray]:
    """Images in batches of the size that a file is fixed to; what is left over is left out."""
    size = batch or min(CALIBRATION_BATCH, len(images))
    for start in range(0, len(images) - size + 1, size):
        yield images[start : start + size]


def _from_data_set(spec: Any, preprocessing: Preprocessor) -> np.ndarray:
    """uint8 RGB images of a data set's training split, resized and cropped."""
    from keras_resnets.training import data, images

    height, width = preprocessing.size
    require(height == width, "images of a data set become squares", image_size=(height, width))

    def crop(example):
        decoded = images.decode(example["image"])
        return images.centre_crop(
            decoded, height, preprocessing.crop_pct, preprocessing.interpolation
        )

    source = data.load(spec, "train").source
    rows = source.shuffled(0, 0, (0, 1)).take(min(source.count, MOST_SAMPLES))
    return np.stack(list(rows.map(crop).as_numpy_iterator())).round().astype("uint8")


def _checked_images(
    images: np.ndarray, shape: tuple[int | None, ...], uint8: bool, preprocessing: Preprocessor
) -> np.ndarray:
    """The images, if they have the shape, the type and the range that the model takes."""
    batch = shape[0] or 1
    wanted = ", ".join("any" if side is None else str(side) for side in ("images", *shape[1:]))
    require(
        images.ndim == 4
        and len(images) >= batch
        and all(
            side in (None, given) for side, given in zip(shape[1:], images.shape[1:], strict=True)
        ),
        f"data must be images ({wanted})" + (f", at least a batch of {batch}" if batch > 1 else ""),
        shape=images.shape,
    )
    if images.dtype == np.uint8:
        require(
            uint8 or images.shape[-1] == 3,
            "data must be float images as the model takes them, where they are not RGB",
            shape=images.shape,
        )
        return images
    require(
        not uint8,
        "data must be uint8 RGB, which is what goes into a file with preprocessing",
        dtype=str(images.dtype),
    )
    require(images.dtype.kind == "f", "data must be uint8 or float", dtype=str(images.dtype))
    images = images.astype("float32")
    _check_range(images, preprocessing)
    return images


def _check_range(images: np.ndarray, preprocessing: Preprocessor) -> None:
    """Raises a ValueError if the values of float images are not those that the model takes."""
    low, high = float(images.min()), float(images.max())
    require(bool(np.isfinite(images).all()), "data must be finite", smallest=low, largest=high)
    if images.shape[-1] != 3:
        return
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    lowest, highest = (-mean / std).min(), ((1 - mean) / std).max()
    room = (highest - lowest) / 20
    # Values of a hundredth of the range are those of another scale, too: 0 to 1 for 0 to 255.
    require(
        lowest - room <= low and high <= highest + room and high - low > (highest - lowest) / 100,
        f"data must be in the model's range, {lowest:.2f} to {highest:.2f} for RGB values 0 to "
        "255, and not all the same; uint8 images are normalised here",
        smallest=low,
        largest=high,
    )
