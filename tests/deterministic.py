"""Weights, images and sample positions that are the same on every machine, for ever.

The golden values in `tests/goldens` were computed by PyTorch models filled by these functions; the
tests fill ours the same way. So no weights need to be stored. Everything is drawn from NumPy's
legacy `RandomState`, whose stream is frozen for ever; that of `default_rng` may change.
"""

from collections.abc import Mapping
from math import prod, sqrt
from zlib import crc32

import numpy as np


def random_state(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Return one float32 array for every PyTorch state-dict path in `shapes`.

    Each array has its own stream, seeded by its path: neither the order nor the presence of other
    paths matters. `num_batches_tracked` is skipped.

    An initialiser's own values would not do: timm zero-initialises the last gamma of each block,
    which multiplies every error on the residual branch by zero.
    """
    return {
        path: _random_tensor(path, tuple(shape), seed)
        for path, shape in shapes.items()
        if not path.endswith("num_batches_tracked")
    }


def _random_tensor(path: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    leaf = path.rpartition(".")[2]
    if leaf == "weight" and len(shape) >= 2:
        # Variance 4/3 / fan_in. He's 2 / fan_in doubles the signal's power in every residual block,
        # too much for the deep networks; much less would drown the images in the biases.
        limit = 2 / sqrt(prod(shape[1:]))
        low, high = -limit, limit
    elif leaf in ("weight", "running_var"):
        low, high = 0.5, 1.5
    elif leaf in ("bias", "running_mean"):
        low, high = -0.2, 0.2
    elif leaf == "pos_embed":
        low, high = -1.0, 1.0
    else:
        raise ValueError(
            "a path must end in weight, bias, running_mean, running_var or pos_embed. "
            f"Received: {path!r} of shape {shape}."
        )
    stream = np.random.RandomState([crc32(path.encode()), seed])
    return stream.uniform(low, high, size=shape).astype(np.float32)


def random_images(
    height: int, width: int, channels: int = 3, batch: int = 1, seed: int = 0
) -> np.ndarray:
    """Return NHWC float32 images, uniform in [-2, 2): about the range of normalised photographs."""
    stream = np.random.RandomState([crc32(b"images"), seed])
    return stream.uniform(-2, 2, size=(batch, height, width, channels)).astype(np.float32)


def sample_positions(shape: tuple[int, ...], count: int = 256, seed: int = 0) -> np.ndarray:
    """Return `count` distinct flat indices into a C-ordered tensor of this shape, ascending.

    A tensor with no more than `count` elements is taken whole.
    """
    size = prod(shape)
    if size <= count:
        return np.arange(size)
    return np.sort(np.random.RandomState([crc32(b"positions"), seed]).permutation(size)[:count])
