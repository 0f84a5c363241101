"""How fast the input pipeline is by itself, without a model behind it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from keras_resnets.checks import is_number, require
from keras_resnets.training.augmentation import Augmentation


@dataclasses.dataclass(frozen=True)
class Throughput:
    """What a pipeline delivered.

    Attributes:
        images: how many images, after the warm-up.
        seconds: in what time.
        first_batch: seconds from the start to the first batch: tracing and filling of buffers.
    """

    images: int
    seconds: float
    first_batch: float

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds

    def as_dict(self) -> dict[str, float]:
        """The figures, for JSON."""
        return {**dataclasses.asdict(self), "images_per_second": self.images_per_second}


def measure(
    spec: str | tuple | Mapping[str, tuple],
    augmentation: Augmentation,
    *,
    image_size: int = 224,
    batch_size: int = 64,
    seconds: float = 10,
    data_dir: str | None = None,
) -> Throughput:
    """Images a second of the training pipeline: reading, decoding, augmentation, mixing.

    Args:
        spec: the data set; see `data.load`.
        augmentation: that of the recipe.
        image_size: side of the square images.
        batch_size: images a batch.
        seconds: for how long to count; a warm-up of a third of it comes first.
        data_dir: where prepared tfds data sets are.

    Returns:
        A `Throughput`.

    Raises:
        FileNotFoundError, ValueError: as `data.load` and `batches.training_batches` do.

    Example:

    >>> bench_data.measure("folder:flowers", Augmentation()).images_per_second
    1720.4
    """
    from keras_resnets.training import batches, data  # Import TensorFlow.

    require(is_number(seconds) and seconds > 0, "seconds must be above 0", seconds=seconds)
    examples = data.load(spec, "train", data_dir=data_dir)
    dataset = batches.training_batches(
        examples, augmentation, image_size=image_size, batch_size=batch_size, seed=0
    )
    return throughput(batches.read(dataset), batch_size, seconds=seconds, warm_up=seconds / 3)


def throughput(batches: Any, batch_size: int, *, seconds: float, warm_up: float) -> Throughput:
    """Counts what an endless dataset of batches delivers in `seconds`, after a warm-up."""
    began = time.perf_counter()
    iterator = iter(batches)
    next(iterator)
    first_batch = time.perf_counter() - began
    while time.perf_counter() - began < first_batch + warm_up:
        next(iterator)
    began, images = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        next(iterator)
        images += batch_size
    return Throughput(images, time.perf_counter() - began, first_batch)
