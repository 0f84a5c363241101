"""Augmentation of images and batches in tf.data, as functions of a seed.

Nothing here keeps state: every function takes a seed of the stateless random functions, so that
step k of a run is augmented alike however the run came to it. That is what decided against the
augmentation layers of Keras and keras-cv: both draw from generators that count calls, in the order
in which parallel threads happen to come. Besides, Keras draws the operations of RandAugment and
AugMix once for a whole batch. `benchmarks/augmentation.py` compares the speed.

Images are float32 (S, S, 3), RGB from 0 to 255.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import tensorflow as tf

from keras_resnets.preparation import IMAGENET_MEAN
from keras_resnets.training import policies
from keras_resnets.training.augmentation import Augmentation

# Principal components of ImageNet's colours: standard deviations along them, and the components in
# columns, rows R, G, B. Krizhevsky et al. 2012, section 4.1; the numbers are those that Torch's
# training code made common.
PCA_SCALES = (0.2175, 0.0188, 0.0045)
PCA_COMPONENTS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
ERASED_AREA = (0.02, 1 / 3)
ERASED_RATIO = (0.3, 1 / 0.3)
# What `augment_batch` does, switched off.
_OF_BATCHES = dict(mixup=0.0, cutmix=0.0, hard_targets_above_zero=False, label_smoothing=0.0)
IMAGE_MEAN, IMAGE_STD = 118.0, 58.0  # Of ImageNet, over all channels: erased parts look like it.


def augment_image(image: tf.Tensor, augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Everything that happens to a cropped image by itself.

    Args:
        image: float32 (S, S, 3) from 0 to 255.
        augmentation: what to do.
        seed: int32 (2,).

    Returns:
        An image of the same shape and range.
    """
    seeds = tf.unstack(tf.random.split(seed, 6))
    if augmentation.pad_crop:
        image = pad_and_crop(image, augmentation.pad_crop, seeds[0])
    if augmentation.flip:
        image = tf.image.stateless_random_flip_left_right(image, seeds[1])
    image = policies.apply(image, augmentation, seeds[2])
    if augmentation.color_jitter:
        image = color_jitter(image, augmentation.color_jitter, seeds[3])
    if augmentation.pca_lighting:
        image = pca_lighting(image, augmentation.pca_lighting, seeds[4])
    if augmentation.random_erasing:
        chance, to = augmentation.random_erasing, augmentation.erased_to
        image = random_erasing(image, chance, seeds[5], to)
    return image


def pad_and_crop(image: tf.Tensor, pixels: int, seed: tf.Tensor) -> tf.Tensor:
    """Adds a black border and cuts the image's size out of it, anywhere."""
    padded = tf.pad(image, [[pixels, pixels], [pixels, pixels], [0, 0]])
    return tf.image.stateless_random_crop(padded, image.shape, seed)


def color_jitter(image: tf.Tensor, strength: float, seed: tf.Tensor) -> tf.Tensor:
    """Brightness, contrast and saturation times factors within 1 +- strength, in random order.

    Source:
        Howard, arXiv:1312.5402; torchvision's ColorJitter.
    """
    factor_seed, order_seed = tf.unstack(tf.random.split(seed, 2))
    factors = tf.random.stateless_uniform([3], factor_seed, 1 - strength, 1 + strength)
    changes = (policies.brightness, policies.contrast, policies.color)

    def in_order(order: tuple[int, ...]) -> tf.Tensor:
        changed = image
        for number in order:
            changed = changes[number](changed, factors[number])
        return changed

    orders = list(itertools.permutations(range(3)))
    chosen = tf.random.stateless_uniform([], order_seed, 0, len(orders), tf.int32)
    return tf.switch_case(chosen, [lambda order=order: in_order(order) for order in orders])


def pca_lighting(image: tf.Tensor, std: float, seed: tf.Tensor) -> tf.Tensor:
    """Shifts all pixels along the principal components of natural colours, by N(0, std) each.

    Source:
        Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks",
        section 4.1.
    """
    amounts = tf.random.stateless_normal([3], seed, stddev=std) * tf.constant(PCA_SCALES)
    shift = tf.linalg.matvec(tf.constant(PCA_COMPONENTS), amounts) * 255
    return tf.clip_by_value(image + policies.each_pixel(shift, image), 0, 255)


def random_erasing(
    image: tf.Tensor, probability: float, seed: tf.Tensor, to: str = "noise"
) -> tf.Tensor:
    """Turns a rectangle of the image into noise like photographs, or into their mean colour.

    Source:
        Zhong et al., arXiv:1708.04896; a noise for each pixel as in timm, ImageNet's mean colour as
        in torchvision, whose default is 0 after normalisation.
    """
    whether_seed, size_seed, place_seed, noise_seed = tf.unstack(tf.random.split(seed, 4))

    def erased() -> tf.Tensor:
        area, ratio = tf.unstack(
            tf.random.stateless_uniform(
                [2],
                size_seed,
                [ERASED_AREA[0], math.log(ERASED_RATIO[0])],
                [ERASED_AREA[1], math.log(ERASED_RATIO[1])],
            )
        )
        ratio = tf.exp(ratio)  # Height / width.
        box = tf.sqrt(tf.stack([area * ratio, area / ratio]))
        centre = tf.random.stateless_uniform([2], place_seed)
        centre = box / 2 + centre * tf.maximum(1 - box, 0)
        if to == "mean":
            content = policies.each_pixel(255 * tf.constant(IMAGENET_MEAN), image)
        else:
            content = tf.random.stateless_normal(image.shape, noise_seed, IMAGE_MEAN, IMAGE_STD)
        inside = _rectangle(image.shape[0], centre, box)[..., None]
        return tf.where(inside, tf.clip_by_value(content, 0, 255), image)

    chosen = tf.random.stateless_uniform([], whether_seed) < probability
    return tf.cond(chosen, erased, lambda: image)


# Batches ------------------------------------------------------------------------------------------


def is_crop_and_flip(augmentation: Augmentation) -> bool:
    """Whether `crop_and_flip` does all that happens to an image by itself."""
    others = dict(crop_scale=None, pad_crop=0, flip=False)
    alone = dataclasses.replace(augmentation, **others, **_OF_BATCHES)
    return augmentation.crop_scale is None and alone == Augmentation(**others)


def crop_and_flip(images: tf.Tensor, augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """`pad_and_crop` and the flip, of each image by itself, for a whole batch at once.

    At 32 pixels the calls cost more than what they do: one an image takes ten times as long.

    Args:
        images: (B, S, S, C), of any type.
        augmentation: what to do; see `is_crop_and_flip`.
        seed: int32 (2,).

    Returns:
        Images of the same shape and type.
    """
    count, size, pixels = images.shape[0], images.shape[1], augmentation.pad_crop
    place_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
    if pixels:
        border = [pixels, pixels]
        images = tf.pad(images, [[0, 0], border, border, [0, 0]])
    first = tf.random.stateless_uniform([2, count, 1], place_seed, 0, 2 * pixels + 1, tf.int32)
    rows, columns = tf.unstack(first + tf.range(size))
    if augmentation.flip:
        flipped = tf.random.stateless_uniform([count, 1], flip_seed) < 0.5
        columns = tf.where(flipped, columns[:, ::-1], columns)
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)


def augment_batch(
    images: tf.Tensor,
    labels: tf.Tensor,
    augmentation: Augmentation,
    seed: tf.Tensor,
    class_weights: Sequence[float] | None = None,
    multi_label: bool = False,
) -> tuple[tf.Tensor, ...]:
    """Mixes the images of a batch and makes their labels soft.

    Args:
        images: float32 (B, S, S, 3).
        labels: one-hot float32 (B, classes), or with a 1 for each of several classes.
        augmentation: what to do.
        seed: int32 (2,).
        class_weights: the weight of each class in the loss.
        multi_label: whether each class is a question of its own; see `soft_labels`.

    Returns:
        Images and labels of the same shapes; with class weights also the weight of each image (B,),
        the mean of its classes' weights by their shares in the mixture. (Keras' own `class_weight`
        takes that of the largest share: 51 parts of a class in 100 for all of it.)
    """
    which_seed, mix_seed = tf.unstack(tf.random.split(seed, 2))
    ways = [
        (mix, alpha)
        for mix, alpha in ((mixup, augmentation.mixup), (cutmix, augmentation.cutmix))
        if alpha
    ]
    if ways:
        chosen = tf.random.stateless_uniform([], which_seed, 0, len(ways), tf.int32)
        branches = [
            lambda mix=mix, alpha=alpha: mix(images, labels, alpha, mix_seed) for mix, alpha in ways
        ]
        images, labels = tf.switch_case(chosen, branches)
    targets = soft_labels(labels, augmentation, multi_label)
    if class_weights is None:
        return images, targets
    return images, targets, tf.linalg.matvec(labels, tf.constant(class_weights, labels.dtype))


def soft_labels(
    labels: tf.Tensor, augmentation: Augmentation, multi_label: bool = False
) -> tf.Tensor:
    """Targets of the loss, from the mixed labels (B, classes). Nothing else smooths labels.

    Smoothing spreads a share evenly over all answers: over K classes of which one is right; where
    each class is a question of its own, over its two answers, as Keras' `BinaryCrossentropy` does.

    Source:
        Smoothing: Szegedy et al., arXiv:1512.00567, section 7. Hard targets: Wightman et al.,
        arXiv:2110.00476. With a smoothing s a binary target is 1 - s + s / K or s / K of K classes,
        as timm's values for "on" and "off" are.
    """
    if augmentation.hard_targets_above_zero:
        labels = tf.cast(labels > 0, labels.dtype)
    smoothing = augmentation.label_smoothing
    answers = 2 if multi_label else labels.shape[-1]
    return labels * (1 - smoothing) + smoothing / answers


def mixup(
    images: tf.Tensor, labels: tf.Tensor, alpha: float, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Blends each image and label with that of its neighbour, one share for the whole batch.

    Source:
        Zhang et al., arXiv:1710.09412.
    """
    share = _beta(alpha, seed)
    neighbours = (tf.roll(value, 1, 0) for value in (images, labels))
    return tuple(
        other + share * (value - other)
        for value, other in zip((images, labels), neighbours, strict=True)
    )


def cutmix(
    images: tf.Tensor, labels: tf.Tensor, alpha: float, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pastes a rectangle of the neighbour into each image, the same one for the whole batch.

    Labels are mixed by the area that was really pasted, where the rectangle ends at the border.

    Source:
        Yun et al., arXiv:1905.04899, algorithm A1.
    """
    share_seed, place_seed = tf.unstack(tf.random.split(seed, 2))
    side = tf.sqrt(1 - _beta(alpha, share_seed))
    centre = tf.random.stateless_uniform([2], place_seed)
    pasted = _rectangle(images.shape[1], centre, tf.stack([side, side]))
    mixed = tf.where(pasted[None, :, :, None], tf.roll(images, 1, 0), images)
    share = 1 - tf.reduce_mean(tf.cast(pasted, tf.float32))
    return mixed, share * labels + (1 - share) * tf.roll(labels, 1, 0)


def _beta(alpha: float, seed: tf.Tensor) -> tf.Tensor:
    """A draw from Beta(alpha, alpha)."""
    gammas = tf.random.stateless_gamma([2], seed, alpha)
    # With a small alpha both can be too small for a float; the limit is a coin's toss.
    total = tf.reduce_sum(gammas)
    return tf.where(total > 0, gammas[0] / tf.maximum(total, 1e-38), 1.0)


def _rectangle(size: int, centre: tf.Tensor, sides: tf.Tensor) -> tf.Tensor:
    """Which pixels (size, size) lie in a rectangle; its measures are fractions of the size."""
    first = tf.round((centre - sides / 2) * size)
    last = tf.round((centre + sides / 2) * size)
    pixels = tf.range(size, dtype=tf.float32)
    rows, columns = ((pixels >= first[axis]) & (pixels < last[axis]) for axis in (0, 1))
    return rows[:, None] & columns[None, :]
