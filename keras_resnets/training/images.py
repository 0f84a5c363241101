"""Encoded images to crops of a fixed size, in TensorFlow graphs.

Everything computes on one image; images are uint8 RGB (H, W, 3) of any size, 1 pixel included, or
what `decode` makes them of.
"""

from __future__ import annotations

import io
import math

import tensorflow as tf

from keras_resnets.layers.preprocessor import read_image
from keras_resnets.training.augmentation import Augmentation

CROP_ATTEMPTS = 10
DCT_RATIOS = (1, 2, 4, 8)  # What JPEG decoders can divide the size by.
DCT_METHOD = "INTEGER_ACCURATE"  # PIL's; the default may be off by several levels, and as fast.
KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic"}


def decode(image: tf.Tensor) -> tf.Tensor:
    """Encoded bytes, or uint8 (H, W, 1 or 3), to uint8 RGB (H, W, 3).

    The pixels are those of `read_image`, with which predictions are made.

    Raises:
        tf.errors.InvalidArgumentError: if the bytes are damaged or no image.
    """
    if image.dtype != tf.string:
        return tf.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
    return tf.case(
        [
            (tf.io.is_jpeg(image), lambda: _decode_jpeg(image)),
            (_is_png(image), lambda: tf.io.decode_png(image, channels=3)),
        ],
        default=lambda: _decode_by_pil(image),
    )


def _decode_jpeg(image: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_jpeg(image, channels=3, dct_method=DCT_METHOD)


def _is_png(image: tf.Tensor) -> tf.Tensor:
    """Whether it is a PNG file with the 8 bits or less of which TensorFlow makes what PIL makes."""
    is_png = tf.strings.substr(image, 0, 8) == b"\x89PNG\r\n\x1a\n"
    return is_png & (tf.strings.substr(image, tf.where(is_png, 24, 0), 1) != b"\x10")


def _decode_by_pil(image: tf.Tensor) -> tf.Tensor:
    """Formats of which TensorFlow makes other pixels, or none: palettes, transparency, animations.

    They are rarer than JPEG and PNG, whose decoders are faster in the graph.
    """
    decoded = tf.py_function(lambda data: read_image(io.BytesIO(data.numpy())), [image], tf.uint8)
    return tf.ensure_shape(decoded, [None, None, 3])


def training_crop(
    image: tf.Tensor, size: int, augmentation: Augmentation, seed: tf.Tensor
) -> tf.Tensor:
    """A random crop of an image, encoded or not, resized to float32 (size, size, 3).

    Of a JPEG file only the crop is decoded.
    """
    if image.dtype != tf.string:
        crop = _random_crop(decode(image), augmentation, seed)
    else:
        crop = tf.cond(
            tf.io.is_jpeg(image),
            lambda: _random_crop_of_jpeg(image, size, augmentation, seed),
            lambda: _random_crop(decode(image), augmentation, seed),
        )
    return resize(crop, size)


def _random_crop(image: tf.Tensor, augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    top, left, height, width = tf.unstack(crop_window(tf.shape(image), augmentation, seed))
    return image[top : top + height, left : left + width]


def _random_crop_of_jpeg(
    image: tf.Tensor, size: int, augmentation: Augmentation, seed: tf.Tensor
) -> tf.Tensor:
    """Decodes a crop of a JPEG file, smaller where it would be shrunk to less than half.

    The decoder itself can shrink by 2, 4 or 8, which saves most of its time on photographs of many
    megapixels. It averages pixels, and more exactly than resizing without antialiasing would.
    """
    window = crop_window(tf.image.extract_jpeg_shape(image), augmentation, seed)
    shorter = tf.reduce_min(window[2:])
    level = tf.math.count_nonzero(shorter >= size * tf.constant(DCT_RATIOS[1:]), dtype=tf.int32)

    def decoded(ratio: int) -> tf.Tensor:
        return tf.image.decode_and_crop_jpeg(
            image, window // ratio, channels=3, ratio=ratio, dct_method=DCT_METHOD
        )

    return tf.switch_case(level, [lambda ratio=ratio: decoded(ratio) for ratio in DCT_RATIOS])


def crop_window(shape: tf.Tensor, augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Top, left, height and width of a random crop of an image (H, W, ...), as int32 (4,).

    Area and logarithm of the aspect ratio are uniformly distributed; of ten such rectangles it is
    the first that fits into the image. If none fits, it is the largest centred one whose aspect
    ratio is allowed, at least 1 pixel wide. `tf.image.stateless_sample_distorted_bounding_box` is
    not it: there height is uniform, so that large crops are rarer than in the papers' recipes.

    Source:
        Szegedy et al., arXiv:1409.4842, section 6; torchvision's RandomResizedCrop.
    """
    height, width = shape[0], shape[1]
    if augmentation.crop_scale is None:
        return tf.stack([0, 0, height, width])
    size_seed, place_seed = tf.unstack(tf.random.split(seed, 2))
    sides = tf.cast(shape[:2], tf.float32)
    lowest, highest = augmentation.crop_ratio
    draws = tf.random.stateless_uniform([2, CROP_ATTEMPTS], size_seed)
    smallest, largest = augmentation.crop_scale
    area = (smallest + (largest - smallest) * draws[0]) * sides[0] * sides[1]
    log_ratio = math.log(lowest) + (math.log(highest) - math.log(lowest)) * draws[1]
    tried = tf.round(tf.sqrt(tf.stack([area / tf.exp(log_ratio), area * tf.exp(log_ratio)], 1)))
    tried = tf.maximum(tried, 1)
    fits = tf.reduce_all(tried <= sides, 1)
    limits = tf.stack([sides[1] / lowest, sides[0] * highest])  # Of height and width.
    fallback = tf.maximum(tf.round(tf.minimum(sides, limits)), 1)
    any_fits = tf.reduce_any(fits)
    crop = tf.where(any_fits, tried[tf.argmax(fits)], fallback)
    room = sides - crop
    place = tf.random.stateless_uniform([2], place_seed) * (room + 1)
    place = tf.where(any_fits, tf.minimum(tf.floor(place), room), tf.floor(room / 2))
    return tf.cast(tf.concat([place, crop], 0), tf.int32)


def resize(image: tf.Tensor, size: int) -> tf.Tensor:
    """Bilinear, to float32 (size, size, 3); the aspect ratio is not kept.

    Antialiased where the image shrinks by more than 2, which JPEG crops never do here. Up to there
    no pixel is passed over without it, and it takes twice the time of decoding the file.
    """
    resized = tf.cond(
        tf.reduce_any(tf.shape(image)[:2] > 2 * size),
        lambda: tf.image.resize(image, [size, size], antialias=True),
        lambda: tf.image.resize(image, [size, size]),
    )
    return tf.ensure_shape(resized, [size, size, 3])


def centre_crop(image: tf.Tensor, size: int, crop_pct: float, interpolation: str) -> tf.Tensor:
    """The evaluation crop of `keras_resnets.preprocessing`: float32 (size, size, 3).

    The shorter side becomes `floor(size / crop_pct)`, one direction after the other and each
    rounded to whole grey levels, as PIL does it. Only the pixels of the crop are computed.
    """
    sides = tf.shape(image)[:2]
    resized = math.floor(size / crop_pct) * sides // tf.reduce_min(sides)
    excess = resized - size
    offsets = tf.cast((excess + excess % 4 // 3) // 2, tf.float32)  # Halves to the nearest even.
    scale = tf.cast(resized, tf.float32) / tf.cast(sides, tf.float32)
    crop = image[None]
    for axis in ([0, 1], [1, 0]):  # Width first.
        others = tf.constant([1, 1]) - axis
        crop = tf.raw_ops.ScaleAndTranslate(
            images=crop,
            size=size * tf.constant(axis) + others * tf.shape(crop)[1:3],
            scale=scale * tf.cast(axis, tf.float32) + tf.cast(others, tf.float32),
            translation=-offsets * tf.cast(axis, tf.float32),
            kernel_type=KERNELS[interpolation],
            antialias=True,
        )
        crop = tf.clip_by_value(tf.floor(crop + 0.5), 0, 255)
    return tf.ensure_shape(crop[0], [size, size, 3])
