"""Representative images: what int8 is calibrated with, and what an exported file is compared on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_resnets.checks import require
from keras_resnets.deploy.inputs import ImageInputs

CALIBRATED = ("int8",)  # The precisions that need representative images.
MOST_SAMPLES = 128  # To calibrate with, of a data set; ranges hardly change with more images.
CALIBRATION_BATCH = 8


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images as they go into the exported file.

    Attributes:
        compared: what file and model are compared on; None if no images are given.
        calibration: what int8 is calibrated with, other images than those; None if nothing is.
    """

    compared: np.ndarray | None = None
    calibration: np.ndarray | None = None


def representative(
    data: Any, *, precision: str, shape: tuple[int | None, ...], uint8: bool, inputs: ImageInputs
) -> Samples:
    """Reads and checks the images that `export` is given.

    Where int8 is calibrated, that is done with three quarters of the images, and the last quarter
    is for comparing: on images that it was calibrated with, it is better than elsewhere.

    Args:
        data: an array of images, or what `training.data.load` takes, of which images of the
            training split are drawn at random, `MOST_SAMPLES` of them to calibrate with.
        precision: of the export.
        shape: of the images that go in, with the batch.
        uint8: whether they are uint8 RGB; otherwise they are as the model takes them.
        inputs: how images are prepared.

    Raises:
        ValueError: if int8 has no data, or the images are too few, of another shape or range, or
            all the same.
    """
    calibrates = precision in CALIBRATED
    if data is None:
        require(
            not calibrates,
            "data must be representative images for int8, which takes the ranges of activations "
            "from them: an array, or a data set such as 'folder:PATH'",
            data=data,
        )
        return Samples()
    if not (hasattr(data, "shape") and hasattr(data, "dtype")):
        data = _from_data_set(data, inputs)
    images = np.asarray(data)
    _check_images(images, shape, uint8, 2 if calibrates else 1)
    parts = _split(images, shape[0] or 1) if calibrates else (images,)
    samples = Samples(*(_as_taken(part, uint8, inputs) for part in parts))
    require(
        not calibrates or bool((images != images[:1]).any()),
        "data must be different images: int8 is calibrated with some and compared on others",
        images=len(images),
    )
    return samples


def batches(images: np.ndarray, batch: int | None) -> Iterator[np.ndarray]:
    """Images in batches of the size that a file is fixed to; what is left over is left out."""
    size = batch or min(CALIBRATION_BATCH, len(images))
    for start in range(0, len(images) - size + 1, size):
        yield images[start : start + size]


def _split(images: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Images to compare on and images to calibrate with, drawn at random."""
    order = np.random.default_rng(0).permutation(len(images))  # Images often come class by class.
    compared = max(len(images) // 4, batch)
    return images[order[:compared]], images[order[compared:]]


def _from_data_set(spec: Any, inputs: ImageInputs) -> np.ndarray:
    """uint8 RGB images of a data set's training split, resized and cropped."""
    from keras_resnets.training import batches, data

    preparation = inputs.require_preparation("images of a data set are resized and cropped")
    height, width = preparation.size
    require(height == width, "images of a data set become squares", image_size=(height, width))
    return batches.sample(
        data.load(spec, "train"),
        MOST_SAMPLES * 4 // 3,
        image_size=height,
        crop_pct=preparation.crop_pct,
        interpolation=preparation.interpolation,
    )


def _check_images(
    images: np.ndarray, shape: tuple[int | None, ...], uint8: bool, parts: int
) -> None:
    """Raises a ValueError unless images have the shape and the type, and are enough batches."""
    least = parts * (shape[0] or 1)
    wanted = ", ".join("any" if side is None else str(side) for side in ("images", *shape[1:]))
    enough = f", at least {least} of them" if least > 1 else ""
    if parts > 1:
        enough += ": int8 is calibrated with some and compared on others"
    require(
        images.ndim == 4
        and len(images) >= least
        and all(
            side in (None, given) for side, given in zip(shape[1:], images.shape[1:], strict=True)
        ),
        f"data must be images ({wanted}){enough}",
        shape=images.shape,
    )
    require(
        images.dtype == np.uint8 or (images.dtype.kind == "f" and not uint8),
        "data must be uint8 RGB, which is what goes into a file with preprocessing"
        if uint8
        else "data must be uint8 or float",
        dtype=str(images.dtype),
    )
    require(
        images.dtype != np.uint8 or uint8 or images.shape[-1] == 3,
        "data must be float images as the model takes them, where they are not RGB",
        shape=images.shape,
    )


def _as_taken(images: np.ndarray, uint8: bool, inputs: ImageInputs) -> np.ndarray:
    """Images as they go into the file; raises a ValueError if their values cannot be right."""
    if images.dtype == np.uint8:
        _check_range(images, 0, 255)
        if uint8:
            return images
        inputs.require_normalization("uint8 images are normalised")
        return inputs.normalized(images)
    images = images.astype("float32")
    if inputs.normalization is None or images.shape[-1] != 3:
        _check_range(images, None, None)
    else:
        mean, std = map(np.array, inputs.normalization)
        _check_range(images, float((-mean / std).min()), float(((1 - mean) / std).max()))
    return images


def _check_range(images: np.ndarray, lowest: float | None, highest: float | None) -> None:
    """Raises a ValueError if values are not from a range, as far as it is known, or all the same.

    Values of a hundredth of the range are those of another scale, too: 0 to 1 for 0 to 255.
    """
    low, high = float(images.min()), float(images.max())
    require(bool(np.isfinite(images).all()), "data must be finite", smallest=low, largest=high)
    if lowest is None or highest is None:
        require(high > low, "data must be images that are not all the same", value=low)
        return
    room = (highest - lowest) / 20
    require(
        lowest - room <= low and high <= highest + room and high - low > (highest - lowest) / 100,
        f"data must be in the model's range, {lowest:.2f} to {highest:.2f} for RGB values 0 to "
        "255, and not all the same; uint8 images are normalised here",
        smallest=low,
        largest=high,
    )
