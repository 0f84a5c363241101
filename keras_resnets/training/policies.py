"""AutoAugment, RandAugment, TrivialAugment and AugMix: random operations on a single image.

The operations are PIL's, as in the papers, on float32 images (S, S, 3) from 0 to 255 of whole
values; after each, values are whole again. `tf.image` has the colour ones only for whole batches of
one factor or with its own definitions (its contrast works about each channel's mean, PIL's about
the gray mean), and neither Keras nor keras-cv has all of them or can be seeded for one image; so
they are written here, on TensorFlow's projective transform, histogram and convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from keras_resnets.training.augmentation import Augmentation

FILL = 128.0  # Gray where a transform looks outside the image, as in AutoAugment's code.
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, PIL's gray.


def apply(image: tf.Tensor, augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """The policy that the settings name, if they name one."""
    if augmentation.auto_augment:
        return auto_augment(tf.round(image), seed)
    if augmentation.trivial_augment:
        return trivial_augment(tf.round(image), seed)
    if augmentation.aug_mix:
        return aug_mix(tf.round(image), seed)
    if augmentation.rand_augment:
        layers, magnitude = augmentation.rand_augment
        std, form = augmentation.rand_augment_std, augmentation.rand_augment_form
        return rand_augment(tf.round(image), layers, magnitude, std, seed, form)
    return image


# Operations ---------------------------------------------------------------------------------------


def _blend(image: tf.Tensor, other: tf.Tensor | float, factor: tf.Tensor) -> tf.Tensor:
    """0 gives `other`, 1 the image, and more than 1 goes beyond it."""
    return tf.clip_by_value(other + factor * (image - other), 0, 255)


def gray(image: tf.Tensor) -> tf.Tensor:
    """(S, S, 3) with equal channels; a matrix product is the fastest way there."""
    luma = tf.repeat(tf.constant(LUMA)[:, None], 3, axis=1)
    return tf.reshape(tf.reshape(image, [-1, 3]) @ luma, image.shape)


def brightness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return _blend(image, 0.0, factor)


def contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return _blend(image, tf.reduce_mean(gray(image)), factor)


def color(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Saturation."""
    return _blend(image, gray(image), factor)


def sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blends with a smoothed image; the outermost pixels, which have no neighbours, stay."""
    kernel = tf.constant([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    kernel = tf.tile(kernel[:, :, None, None], [1, 1, 3, 1])
    smooth = tf.nn.depthwise_conv2d(image[None], kernel, [1, 1, 1, 1], "VALID")[0]
    inner = tf.ones_like(smooth, tf.bool)
    border = [[1, 1], [1, 1], [0, 0]]
    smooth = tf.where(tf.pad(inner, border), tf.pad(smooth, border), image)
    return _blend(image, smooth, factor)


def invert(image: tf.Tensor) -> tf.Tensor:
    return 255 - image


def solarize(image: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Inverts values from the threshold up."""
    return tf.where(image < threshold, image, 255 - image)


def solarize_add(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Makes the darker half of the values brighter."""
    return tf.where(image < 128, tf.minimum(image + amount, 255), image)


def posterize(image: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Keeps the highest bits of every value."""
    step = 2 ** (8 - bits)
    return tf.floor(image / step) * step


def each_pixel(channels: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Three numbers for every pixel (S, S, 3); TensorFlow is slow to broadcast so few."""
    row = tf.tile(channels, [image.shape[1]])
    return tf.reshape(tf.tile(row, [image.shape[0]]), image.shape)


def auto_contrast(image: tf.Tensor) -> tf.Tensor:
    """Stretches each channel to the full range."""
    low, high = (limit(limit(image, 0), 0) for limit in (tf.reduce_min, tf.reduce_max))
    scale = 255 / tf.maximum(high - low, 1)
    scale, low = tf.where(high > low, scale, 1), tf.where(high > low, low, 0)
    stretched = (image - each_pixel(low, image)) * each_pixel(scale, image)
    return tf.clip_by_value(tf.floor(stretched), 0, 255)


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Gives each channel an even histogram, by PIL's rule."""
    values = tf.cast(image, tf.int32) + each_pixel(tf.constant([0, 256, 512]), image)
    counts = tf.math.bincount(tf.reshape(values, [-1]), minlength=768, maxlength=768)
    counts = tf.reshape(counts, [3, 256])
    last = 255 - tf.argmax(tf.reverse(counts, [1]) > 0, axis=1, output_type=tf.int32)
    step = (tf.reduce_sum(counts, 1) - tf.gather(counts, last, batch_dims=1))[:, None] // 255
    table = (tf.cumsum(counts, 1, exclusive=True) + step // 2) // tf.maximum(step, 1)
    table = tf.where(step > 0, tf.minimum(table, 255), tf.range(256))
    return tf.gather(tf.cast(tf.reshape(table, [-1]), tf.float32), values)


def _transform(image: tf.Tensor, matrix: list) -> tf.Tensor:
    """Bilinear affine transform: six numbers from the output's (x, y, 1) to the input's (x, y)."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([*(tf.cast(number, tf.float32) for number in matrix), 0.0, 0.0])[None],
        output_shape=image.shape[:2],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=FILL,
    )[0]


def shear_x(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    return _transform(image, [1, amount, 0, 0, 1, 0])


def shear_y(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    return _transform(image, [1, 0, 0, amount, 1, 0])


def translate_x(image: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return _transform(image, [1, 0, share * image.shape[1], 0, 1, 0])


def translate_y(image: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return _transform(image, [1, 0, 0, 0, 1, share * image.shape[0]])


def rotate(image: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """About the centre."""
    angle = degrees * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    middle = (image.shape[0] - 1) / 2
    return _transform(
        image,
        [cos, -sin, middle * (1 - cos + sin), sin, cos, middle * (1 - cos - sin)],
    )


# Operations by name, at a level from 0 (weakest) to 1 (strongest), with a sign of 1 or -1 for those
# that have a direction. Magnitudes are those of AutoAugment (Cubuk et al., arXiv:1805.09501),
# translation being 150 of the 331 pixels there. Implementations differ in what the paper leaves
# open, and these are a choice among them:
#
# - Solarize and Posterize grow stronger with the level, as in torchvision (8 to 4 bits). In timm's
#   original form they grow weaker: it keeps 4 to 8 bits and inverts from 0 to 256.
# - Color, Contrast and Sharpness of AutoAugment have the factor 0.1 + 1.8 level, so that a middle
#   level changes nothing, as in timm and in the code of ResNeSt's authors. torchvision has
#   1 +- 0.9 level, which RandAugment has here.
#
# Where a transform looks outside the image all of them see gray; torchvision's is black there.
Operation = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
GEOMETRIC: dict[str, Operation] = {
    "ShearX": lambda image, level, sign: shear_x(image, 0.3 * level * sign),
    "ShearY": lambda image, level, sign: shear_y(image, 0.3 * level * sign),
    "TranslateX": lambda image, level, sign: translate_x(image, 150 / 331 * level * sign),
    "TranslateY": lambda image, level, sign: translate_y(image, 150 / 331 * level * sign),
    "Rotate": lambda image, level, sign: rotate(image, 30 * level * sign),
}
TONE: dict[str, Operation] = {
    "AutoContrast": lambda image, level, sign: auto_contrast(image),
    "Equalize": lambda image, level, sign: equalize(image),
    "Solarize": lambda image, level, sign: solarize(image, 256 * (1 - level)),
    "Posterize": lambda image, level, sign: posterize(image, 8 - tf.round(4 * level)),
}
# Here the whole range, of which 1 is the middle, is the factor's ...
ENHANCE_FROM_WEAK: dict[str, Operation] = {
    "Color": lambda image, level, sign: color(image, 0.1 + 1.8 * level),
    "Contrast": lambda image, level, sign: contrast(image, 0.1 + 1.8 * level),
    "Sharpness": lambda image, level, sign: sharpness(image, 0.1 + 1.8 * level),
}
# ... and here the level is how far the factor is from 1, in either direction.
ENHANCE_BOTH_WAYS: dict[str, Operation] = {
    "Color": lambda image, level, sign: color(image, 1 + 0.9 * level * sign),
    "Contrast": lambda image, level, sign: contrast(image, 1 + 0.9 * level * sign),
    "Brightness": lambda image, level, sign: brightness(image, 1 + 0.9 * level * sign),
    "Sharpness": lambda image, level, sign: sharpness(image, 1 + 0.9 * level * sign),
}
AUTO_AUGMENT: dict[str, Operation] = {
    **GEOMETRIC,
    **TONE,
    **ENHANCE_FROM_WEAK,
    "Invert": lambda image, level, sign: invert(image),
}
RAND_AUGMENT: dict[str, Operation] = {
    "Identity": lambda image, level, sign: image,
    **GEOMETRIC,
    **TONE,
    **ENHANCE_BOTH_WAYS,
}
# timm's RandAugment, in the order of its list. Posterize leaves 4 bits at most.
TIMM: dict[str, Operation] = {
    "AutoContrast": TONE["AutoContrast"],
    "Equalize": TONE["Equalize"],
    "Invert": AUTO_AUGMENT["Invert"],
    "Rotate": GEOMETRIC["Rotate"],
    "Posterize": lambda image, level, sign: posterize(image, tf.floor(4 * level)),
    "Solarize": lambda image, level, sign: solarize(image, tf.floor(256 * level)),
    "SolarizeAdd": lambda image, level, sign: solarize_add(image, tf.floor(110 * level)),
    **ENHANCE_FROM_WEAK,
    "Brightness": lambda image, level, sign: brightness(image, 0.1 + 1.8 * level),
    "ShearX": GEOMETRIC["ShearX"],
    "ShearY": GEOMETRIC["ShearY"],
    "TranslateX": lambda image, level, sign: translate_x(image, 0.45 * level * sign),
    "TranslateY": lambda image, level, sign: translate_y(image, 0.45 * level * sign),
}
TIMM_INCREASING: dict[str, Operation] = {
    **TIMM,
    "Posterize": lambda image, level, sign: posterize(image, 4 - tf.floor(4 * level)),
    "Solarize": lambda image, level, sign: solarize(image, 256 - tf.floor(256 * level)),
    **ENHANCE_BOTH_WAYS,
}
# Whose operations RandAugment has, and how probably one that was drawn is applied.
RAND_AUGMENT_FORMS = {
    "paper": (RAND_AUGMENT, 1.0),
    "timm": (TIMM, 0.5),
    "timm_increasing": (TIMM_INCREASING, 0.5),
}
# torchvision's TrivialAugmentWide; a translation is of so many pixels at any size.
TRIVIAL_AUGMENT: dict[str, Operation] = {
    "Identity": RAND_AUGMENT["Identity"],
    "ShearX": lambda image, level, sign: shear_x(image, 0.99 * level * sign),
    "ShearY": lambda image, level, sign: shear_y(image, 0.99 * level * sign),
    "TranslateX": lambda image, level, sign: translate_x(image, 32 / image.shape[1] * level * sign),
    "TranslateY": lambda image, level, sign: translate_y(image, 32 / image.shape[0] * level * sign),
    "Rotate": lambda image, level, sign: rotate(image, 135 * level * sign),
    "Brightness": lambda image, level, sign: brightness(image, 1 + 0.99 * level * sign),
    "Color": lambda image, level, sign: color(image, 1 + 0.99 * level * sign),
    "Contrast": lambda image, level, sign: contrast(image, 1 + 0.99 * level * sign),
    "Sharpness": lambda image, level, sign: sharpness(image, 1 + 0.99 * level * sign),
    "Posterize": lambda image, level, sign: posterize(image, 8 - tf.round(6 * level)),
    "Solarize": lambda image, level, sign: solarize(image, 255 * (1 - level)),
    "AutoContrast": TONE["AutoContrast"],
    "Equalize": TONE["Equalize"],
}
# AugMix's authors keep fewer bits than AutoAugment and move an image by less.
AUG_MIX: dict[str, Operation] = {
    **GEOMETRIC,
    "TranslateX": lambda image, level, sign: translate_x(image, 1 / 3 * level * sign),
    "TranslateY": lambda image, level, sign: translate_y(image, 1 / 3 * level * sign),
    **TONE,
    "Posterize": lambda image, level, sign: posterize(image, 4 - tf.floor(4 * level)),
}


def _one_of(
    operations: dict[str, Operation],
    number: tf.Tensor,
    image: tf.Tensor,
    level: tf.Tensor,
    sign: tf.Tensor,
) -> tf.Tensor:
    """Only the chosen operation is computed."""
    branches = [
        lambda operation=operation: tf.ensure_shape(
            tf.floor(operation(image, level, sign) + 0.5), image.shape
        )
        for operation in operations.values()
    ]
    return tf.switch_case(number, branches)


# Policies -----------------------------------------------------------------------------------------

# AutoAugment's ImageNet policy: each row two operations with their probability in tenths and their
# level from 0 to 9. Cubuk et al., arXiv:1805.09501, the table of the policy for ImageNet. Levels of
# operations that have none are left at 0, and repeated rows are the paper's.
IMAGENET_POLICY = """
    Posterize    4 8    Rotate       6 9
    Solarize     6 5    AutoContrast 6 0
    Equalize     8 0    Equalize     6 0
    Posterize    6 7    Posterize    6 6
    Equalize     4 0    Solarize     2 4
    Equalize     4 0    Rotate       8 8
    Solarize     6 3    Equalize     6 0
    Posterize    8 5    Equalize    10 0
    Rotate       2 3    Solarize     6 8
    Equalize     6 0    Posterize    4 6
    Rotate       8 8    Color        4 0
    Rotate       4 9    Equalize     6 0
    Equalize     0 0    Equalize     8 0
    Invert       6 0    Equalize    10 0
    Color        6 4    Contrast    10 8
    Rotate       8 8    Color       10 2
    Color        8 8    Solarize     8 7
    Sharpness    4 7    Invert       6 0
    ShearX       6 5    Equalize    10 0
    Color        4 0    Equalize     6 0
    Equalize     4 0    Solarize     2 4
    Solarize     6 5    AutoContrast 6 0
    Invert       6 0    Equalize    10 0
    Color        6 4    Contrast    10 8
    Equalize     8 0    Equalize     6 0
"""


def imagenet_policy() -> list[list[tuple[str, float, float]]]:
    """The 25 sub-policies, each two of (operation, probability, level from 0 to 1)."""
    rows = [line.split() for line in IMAGENET_POLICY.split("\n") if line.strip()]
    return [
        [(name, int(tenths) / 10, int(level) / 9) for name, tenths, level in (row[:3], row[3:])]
        for row in rows
    ]


def auto_augment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """One of the 25 sub-policies of AutoAugment's ImageNet policy, uniformly drawn.

    Source:
        Cubuk et al., arXiv:1805.09501.
    """
    names = list(AUTO_AUGMENT)
    policy = imagenet_policy()
    numbers = tf.constant([[names.index(name) for name, _, _ in steps] for steps in policy])
    probabilities = tf.constant([[probability for _, probability, _ in steps] for steps in policy])
    levels = tf.constant([[level for _, _, level in steps] for steps in policy])
    chosen_seed, applied_seed, sign_seed = tf.unstack(tf.random.split(seed, 3))
    chosen = tf.random.stateless_uniform([], chosen_seed, 0, len(policy), tf.int32)
    applied = tf.random.stateless_uniform([2], applied_seed) < probabilities[chosen]
    signs = _signs([2], sign_seed)
    for step in range(2):
        image = tf.cond(
            applied[step],
            lambda image=image, step=step: _one_of(
                AUTO_AUGMENT, numbers[chosen, step], image, levels[chosen, step], signs[step]
            ),
            lambda image=image: image,
        )
    return image


def rand_augment(
    image: tf.Tensor,
    layers: int,
    magnitude: float,
    magnitude_std: float,
    seed: tf.Tensor,
    form: str = "paper",
) -> tf.Tensor:
    """So many operations, each drawn anew, at a magnitude from 0 to 10.

    Each is applied with the probability that `RAND_AUGMENT_FORMS` states for the form.

    Source:
        Cubuk et al., arXiv:1909.13719. In the form "paper" a larger magnitude is always a larger
        change, in either direction. The others: `rand_augment_ops` in timm/data/auto_augment.py.
    """
    operations, probability = RAND_AUGMENT_FORMS[form]
    chosen_seed, level_seed, sign_seed = tf.unstack(tf.random.split(seed, 3))
    chosen = tf.random.stateless_uniform([layers], chosen_seed, 0, len(operations), tf.int32)
    levels = tf.random.stateless_normal([layers], level_seed, magnitude, magnitude_std)
    levels = tf.clip_by_value(levels / 10, 0, 1)
    signs = _signs([layers], sign_seed)
    applied = tf.random.stateless_uniform([layers], tf.random.fold_in(seed, 3)) < probability
    for layer in range(layers):
        image = tf.cond(
            applied[layer],
            lambda image=image, layer=layer: _one_of(
                operations, chosen[layer], image, levels[layer], signs[layer]
            ),
            lambda image=image: image,
        )
    return image


def trivial_augment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """One operation of 14, at one of 31 levels, all equally likely.

    Source:
        Mueller and Hutter, arXiv:2103.10158, in the wide ranges, as torchvision has them.
    """
    chosen_seed, level_seed, sign_seed = tf.unstack(tf.random.split(seed, 3))
    chosen = tf.random.stateless_uniform([], chosen_seed, 0, len(TRIVIAL_AUGMENT), tf.int32)
    level = tf.random.stateless_uniform([], level_seed, 0, 31, tf.int32) / 30
    sign = _signs([], sign_seed)
    return _one_of(TRIVIAL_AUGMENT, chosen, image, tf.cast(level, tf.float32), sign)


def aug_mix(
    image: tf.Tensor, seed: tf.Tensor, *, severity: float = 3, width: int = 3, depth: int = 3
) -> tf.Tensor:
    """Mixes `width` chains of 1 to `depth` operations, and their mixture with the image.

    Shares are drawn from Dirichlet(1, ..., 1) and Beta(1, 1), levels from 0.1 to `severity` of 10.

    Source:
        Hendrycks et al., arXiv:1912.02781, and google-research/augmix for the ranges; without the
        consistency loss.
    """
    seeds = tf.unstack(tf.random.split(seed, 6))
    shares = -tf.math.log(1 - tf.random.stateless_uniform([width], seeds[0]))
    shares /= tf.maximum(tf.reduce_sum(shares), 1e-38)
    depths = tf.random.stateless_uniform([width], seeds[1], 1, depth + 1, tf.int32)
    chosen = tf.random.stateless_uniform([width, depth], seeds[2], 0, len(AUG_MIX), tf.int32)
    levels = tf.random.stateless_uniform([width, depth], seeds[3], 0.1, severity) / 10
    signs = _signs([width, depth], seeds[4])
    mixture = tf.zeros_like(image)
    for chain in range(width):
        changed = image
        for step in range(depth):
            changed = tf.cond(
                step < depths[chain],
                lambda changed=changed, at=(chain, step): _one_of(
                    AUG_MIX, chosen[at], changed, levels[at], signs[at]
                ),
                lambda changed=changed: changed,
            )
        mixture += shares[chain] * changed
    share = tf.random.stateless_uniform([], seeds[5])
    return tf.round(share * image + (1 - share) * mixture)


def _signs(shape: list[int], seed: tf.Tensor) -> tf.Tensor:
    """1 or -1, evenly."""
    return tf.cast(tf.random.stateless_uniform(shape, seed, 0, 2, tf.int32) * 2 - 1, tf.float32)
