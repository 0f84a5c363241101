"""Augmentation, against NumPy, PIL and the papers."""

import dataclasses
import itertools

import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from keras_resnets.training import augment, images, policies
from keras_resnets.training.augmentation import Augmentation

SIZE = 64
SEED = tf.constant([3, 4])


@pytest.fixture(scope="module")
def photograph():
    """float32 (SIZE, SIZE, 3) of whole values."""
    pixels = Image.fromarray(skimage.data.astronaut()).resize((SIZE, SIZE))
    return np.asarray(pixels, "float32")


def as_pil(image):
    return Image.fromarray(np.asarray(image).astype("uint8"))


def draws(function, count, *arguments):
    """What a function of a seed gives for many seeds, computed in one graph."""
    seeds = tf.random.split(SEED, count)
    compute = tf.function(lambda: tf.vectorized_map(lambda seed: function(*arguments, seed), seeds))
    return compute()


def batch(count=6, classes=6):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (count, 16, 16, 3)).astype("float32")
    labels = np.eye(classes, dtype="float32")[np.arange(count) % classes]
    return pixels, labels


# Operations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "pils", "tolerance"),
    [
        (policies.equalize, ImageOps.equalize, 0),
        (policies.auto_contrast, ImageOps.autocontrast, 1),
        (policies.invert, ImageOps.invert, 0),
        (lambda x: policies.solarize(x, 100.0), lambda x: ImageOps.solarize(x, 100), 0),
        (lambda x: policies.posterize(x, 3.0), lambda x: ImageOps.posterize(x, 3), 0),
        (
            lambda x: policies.brightness(x, 1.6),
            lambda x: ImageEnhance.Brightness(x).enhance(1.6),
            1,
        ),
        (lambda x: policies.contrast(x, 0.4), lambda x: ImageEnhance.Contrast(x).enhance(0.4), 1),
        (lambda x: policies.color(x, 1.7), lambda x: ImageEnhance.Color(x).enhance(1.7), 2),
        (lambda x: policies.sharpness(x, 0.2), lambda x: ImageEnhance.Sharpness(x).enhance(0.2), 1),
    ],
    ids="equal auto_contrast invert solarize posterize brightness contrast color sharpness".split(),
)
def test_operations_are_pils(photograph, ours, pils, tolerance):
    for image in (photograph, photograph * 0 + 7, np.minimum(photograph, 90)):
        expected = np.asarray(pils(as_pil(image)), "float32")
        difference = np.abs(np.rint(ours(tf.constant(image))) - expected)
        assert difference.max() <= tolerance


@pytest.mark.parametrize(
    ("ours", "matrix"),
    [
        (lambda x: policies.shear_x(x, 0.25), (1, 0.25, 0, 0, 1, 0)),
        (lambda x: policies.shear_y(x, -0.25), (1, 0, 0, -0.25, 1, 0)),
        (lambda x: policies.translate_x(x, 0.25), (1, 0, 16, 0, 1, 0)),
        (lambda x: policies.translate_y(x, -0.25), (1, 0, 0, 0, 1, -16)),
    ],
    ids="shear_x shear_y translate_x translate_y".split(),
)
def test_geometry_is_pils(photograph, ours, matrix):
    # PIL counts from the corners of pixels and TensorFlow from their centres, which moves a shear
    # by an eighth of a pixel; and the two differ in how they fade into the gray around.
    expected = as_pil(photograph).transform(
        (SIZE, SIZE),
        Image.Transform.AFFINE,
        matrix,
        Image.Resampling.BILINEAR,
        fillcolor=(128,) * 3,
    )
    difference = np.abs(ours(tf.constant(photograph)).numpy() - np.asarray(expected, "float32"))
    assert np.median(difference) <= 2


def test_rotation_turns_about_the_centre(photograph):
    turned = policies.rotate(tf.constant(photograph), 90.0).numpy()
    # Both directions are "a quarter turn"; which one does not matter, as signs are random.
    quarter = [np.abs(turned - np.rot90(photograph, times)).max() for times in (1, 3)]
    assert min(quarter) < 0.1 < max(quarter)
    assert np.abs(policies.rotate(tf.constant(photograph), 0.0) - photograph).max() == 0


@pytest.mark.parametrize("name", policies.RAND_AUGMENT)
def test_weakest_level_changes_nothing_and_a_stronger_one_changes_more(photograph, name):
    if name in ("Identity", "AutoContrast", "Equalize"):  # Without a level.
        return
    image = tf.constant(photograph)
    operation = policies.RAND_AUGMENT[name]
    change = [
        np.abs(operation(image, tf.constant(level), 1.0) - photograph).mean()
        for level in (0.0, 0.3, 1.0)
    ]
    assert change[0] == 0 < change[1] < change[2]


# What timm, torchvision and AugMix's authors call at a level from 0 to 10.
@pytest.mark.parametrize(
    ("operations", "name", "level", "pils"),
    [
        (policies.TIMM, "Posterize", 9, lambda x: ImageOps.posterize(x, 3)),
        (policies.TIMM, "Posterize", 0, lambda x: Image.new("RGB", x.size)),
        (policies.TIMM, "Solarize", 9, lambda x: ImageOps.solarize(x, 230)),
        (
            policies.TIMM,
            "SolarizeAdd",
            9,
            lambda x: x.point([*range(99, 227), *range(128, 256)] * 3),
        ),
        (policies.TIMM, "Brightness", 9, lambda x: ImageEnhance.Brightness(x).enhance(1.72)),
        (policies.TIMM, "Color", 9, lambda x: ImageEnhance.Color(x).enhance(1.72)),
        (policies.TIMM_INCREASING, "Posterize", 7, lambda x: ImageOps.posterize(x, 2)),
        (policies.TIMM_INCREASING, "Solarize", 7, lambda x: ImageOps.solarize(x, 77)),
        (policies.TIMM_INCREASING, "Contrast", 7, lambda x: ImageEnhance.Contrast(x).enhance(1.63)),
        (policies.TRIVIAL_AUGMENT, "Posterize", 10, lambda x: ImageOps.posterize(x, 2)),
        (policies.TRIVIAL_AUGMENT, "Solarize", 2, lambda x: ImageOps.solarize(x, 204)),
        (
            policies.TRIVIAL_AUGMENT,
            "Sharpness",
            10,
            lambda x: ImageEnhance.Sharpness(x).enhance(1.99),
        ),
        (policies.AUG_MIX, "Posterize", 3, lambda x: ImageOps.posterize(x, 3)),
    ],
    # Functions and tables of them have an address in their text, which differs by process.
    ids=lambda part: str(part) if isinstance(part, str | int) else None,
)
def test_levels_are_those_of_the_sources(photograph, operations, name, level, pils):
    found = operations[name](tf.constant(photograph), tf.constant(level / 10), 1.0)
    expected = np.asarray(pils(as_pil(photograph)), "float32")
    assert np.abs(np.rint(found) - expected).max() <= 2


@pytest.mark.parametrize(
    ("operations", "pixels"),
    [
        (policies.GEOMETRIC, 29),
        (policies.TIMM, 28.8),
        (policies.TRIVIAL_AUGMENT, 32),
        (policies.AUG_MIX, 21.3),
    ],
    ids="paper timm trivial aug_mix".split(),
)
def test_translations_go_as_far_as_those_of_the_sources(operations, pixels):
    """Of 64 pixels, 45 % and a little more, 45 %, 32 pixels at any size, and a third."""
    ramp = tf.tile(tf.range(SIZE, dtype=tf.float32)[None, :, None], [SIZE, 1, 3])
    moved = operations["TranslateX"](ramp, tf.constant(1.0), 1.0)
    assert float(moved[0, 0, 0]) == pytest.approx(pixels, abs=0.05)


# Policies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "share"), [("paper", 13 / 14), ("timm", 0.5)])
def test_timm_applies_every_other_operation(photograph, form, share):
    change = tf.function(lambda seed: policies.rand_augment(photograph, 1, 7.0, 0.0, seed, form))
    seeds = tf.unstack(tf.random.split(SEED, 150))
    changed = [(change(seed).numpy() != photograph).any() for seed in seeds]
    assert np.mean(changed) == pytest.approx(share, abs=0.11)


def test_trivial_augment_draws_every_operation_at_levels_of_thirty(monkeypatch):
    drawn = []

    def note(operations, number, image, level, sign):
        drawn.append((int(number), round(float(level) * 30, 4), float(sign)))
        return image

    monkeypatch.setattr(policies, "_one_of", note)
    for seed in tf.unstack(tf.random.split(SEED, 300)):
        policies.trivial_augment(tf.zeros([4, 4, 3]), seed)
    numbers, levels, signs = map(set, zip(*drawn, strict=True))
    assert (numbers, levels, signs) == (set(range(14)), set(range(31)), {-1, 1})


def test_the_imagenet_policy_has_25_pairs_of_known_operations():
    policy = policies.imagenet_policy()
    assert len(policy) == 25
    assert {len(steps) for steps in policy} == {2}
    assert {name for steps in policy for name, _, _ in steps} <= set(policies.AUTO_AUGMENT)
    assert all(0 <= p <= 1 and 0 <= level <= 1 for steps in policy for _, p, level in steps)
    assert policy[15] == [("Rotate", 0.8, 8 / 9), ("Color", 1.0, 2 / 9)]


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(auto_augment=True),
        Augmentation(rand_augment=(2, 9), rand_augment_std=0.5),
        Augmentation(trivial_augment=True),
        Augmentation(aug_mix=True),
        Augmentation(color_jitter=0.4, pca_lighting=0.1),
        Augmentation(random_erasing=1.0),
        Augmentation(crop_scale=None, pad_crop=4),
    ],
    ids="auto_augment rand_augment trivial_augment aug_mix color erasing pad_crop".split(),
)
def test_images_are_a_function_of_the_seed(photograph, augmentation):
    apply = tf.function(lambda seed: augment.augment_image(photograph, augmentation, seed))
    seeds = tf.unstack(tf.random.split(SEED, 12))
    first, again = ([apply(seed).numpy() for seed in seeds] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len({image.tobytes() for image in first}) > 8
    assert all(image.shape == photograph.shape for image in first)
    assert all(image.min() >= 0 and image.max() <= 255 for image in first)


def test_no_augmentation_leaves_the_image_as_it_is(photograph):
    nothing = Augmentation(crop_scale=None, flip=False)
    np.testing.assert_array_equal(augment.augment_image(photograph, nothing, SEED), photograph)


def test_half_of_the_images_are_flipped(photograph):
    flip = tf.function(lambda seed: augment.augment_image(photograph, Augmentation(), seed))
    flipped = 0
    for seed in tf.unstack(tf.random.split(SEED, 100)):
        image = flip(seed).numpy()
        mirrored = (image == photograph[:, ::-1]).all()
        assert mirrored or (image == photograph).all()
        flipped += mirrored
    assert 30 < flipped < 70


def test_lighting_moves_colours_as_much_as_the_principal_components_say():
    gray = tf.fill([4, 4, 3], 128.0)
    shifts = draws(lambda seed: augment.pca_lighting(gray, 0.1, seed)[0, 0] - 128, 4000).numpy()
    components = np.array(augment.PCA_COMPONENTS)
    covariance = (
        components @ np.diag((0.1 * 255 * np.array(augment.PCA_SCALES)) ** 2) @ components.T
    )
    np.testing.assert_allclose(np.cov(shifts.T), covariance, rtol=0.1)


def test_erasing_covers_the_stated_area_with_the_stated_probability(photograph):
    erase = tf.function(lambda seed: augment.random_erasing(photograph, 0.25, seed))
    changed = np.array(
        [
            (erase(seed).numpy() != photograph).any(-1).mean()
            for seed in tf.unstack(tf.random.split(SEED, 200))
        ]
    )
    assert 0.15 < (changed > 0).mean() < 0.35
    low, high = augment.ERASED_AREA
    assert low * 0.7 < changed[changed > 0].min() < 0.08
    assert 0.2 < changed.max() < high * 1.1


def test_what_is_erased_becomes_the_mean_colour_if_asked(photograph):
    erased = augment.random_erasing(photograph, 1.0, SEED, "mean").numpy()
    inside = (erased != photograph).any(-1)
    np.testing.assert_allclose(
        erased[inside], [[123.675, 116.28, 103.53]] * inside.sum(), rtol=1e-5
    )
    assert 0 < inside.mean() < 0.5


# Crops --------------------------------------------------------------------------------------------


def windows(shape, augmentation, count=2000):
    return draws(
        lambda seed: images.crop_window(tf.constant(shape), augmentation, seed), count
    ).numpy()


def test_crops_have_the_areas_and_ratios_asked_for():
    # A scale at which every tried rectangle fits: area and log ratio are then uniform.
    augmentation = Augmentation(crop_scale=(0.1, 0.5))
    top, left, height, width = windows((800, 800, 3), augmentation).T
    area, ratio = height * width / 800**2, width / height
    assert 0.1 * 0.99 < area.min() < 0.11
    assert 0.49 < area.max() < 0.5 * 1.01
    assert area.mean() == pytest.approx(0.3, abs=0.01)
    assert 3 / 4 * 0.99 < ratio.min() < ratio.max() < 4 / 3 * 1.01
    assert np.log(ratio).mean() == pytest.approx(0, abs=0.01)
    assert (top.min(), left.min()) < (20, 20)
    for end in ((top + height).max(), (left + width).max()):
        assert 780 < end <= 800


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 3), (40, 300)])
def test_crops_of_extreme_images_lie_inside(shape):
    top, left, height, width = windows((*shape, 3), Augmentation(), 200).T
    assert min(top.min(), left.min()) >= 0
    assert min(height.min(), width.min()) >= 1
    assert (top + height).max() <= shape[0]
    assert (left + width).max() <= shape[1]


def test_pad_crop_moves_the_image_by_at_most_the_padding():
    image = tf.fill([8, 8, 3], 255.0)
    found = set()
    crop = tf.function(lambda seed: augment.pad_and_crop(image, 2, seed))
    for seed in tf.unstack(tf.random.split(SEED, 150)):
        shown = crop(seed).numpy()[..., 0] > 0
        found.add((shown.any(1).sum(), shown.any(0).sum()))
    assert found == {(rows, columns) for rows in (6, 7, 8) for columns in (6, 7, 8)}


# Batches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pixels", "flip"), [(0, False), (0, True), (1, False), (2, True)])
def test_a_batch_is_cropped_and_flipped_image_by_image(pixels, flip):
    """Each is one of the crops that the image has, each crop comes, and as often as others."""
    image = np.random.default_rng(0).integers(1, 256, (5, 5, 3), "uint8")
    padded = np.pad(image, [(pixels, pixels), (pixels, pixels), (0, 0)])
    places = list(itertools.product(range(2 * pixels + 1), repeat=2))
    crops = [padded[top : top + 5, left : left + 5] for top, left in places]
    if flip:
        crops += [crop[:, ::-1] for crop in crops]
    augmentation = Augmentation(crop_scale=None, pad_crop=pixels, flip=flip)
    count = 100 * len(crops)
    found = augment.crop_and_flip(np.repeat(image[None], count, 0), augmentation, SEED).numpy()
    equal = np.stack([(found == crop).all((1, 2, 3)) for crop in crops])
    assert (equal.sum(0) == 1).all()
    assert abs(equal.sum(1) - 100).max() < 45  # 4.5 standard deviations.


@pytest.mark.parametrize(
    "changes",
    [
        dict(color_jitter=0.1),
        dict(random_erasing=0.5),
        dict(aug_mix=True),
        dict(crop_scale=(0.5, 1)),
    ],
)
def test_what_changes_single_images_does_not_happen_to_whole_batches(changes):
    plain = Augmentation(crop_scale=None, pad_crop=0, mixup=0.2, label_smoothing=0.1)
    assert augment.is_crop_and_flip(plain)
    assert not augment.is_crop_and_flip(dataclasses.replace(plain, **changes))


def test_mixup_blends_images_and_labels_alike():
    pixels, labels = batch()
    mixed, soft = (value.numpy() for value in augment.mixup(pixels, labels, 0.4, SEED))
    share = soft[0, 0]
    assert 0 < share < 1
    np.testing.assert_allclose(
        mixed, share * pixels + (1 - share) * np.roll(pixels, 1, 0), rtol=1e-5, atol=1e-3
    )
    np.testing.assert_allclose(
        soft, share * labels + (1 - share) * np.roll(labels, 1, 0), rtol=1e-5, atol=1e-6
    )


def test_cutmix_pastes_one_rectangle_and_mixes_labels_by_its_area():
    pixels, labels = batch()
    shares = []
    for seed in tf.unstack(tf.random.split(SEED, 30)):
        mixed, soft = (value.numpy() for value in augment.cutmix(pixels, labels, 1.0, seed))
        pasted = (mixed == np.roll(pixels, 1, 0)).all((0, 3))
        np.testing.assert_array_equal(
            mixed, np.where(pasted[None, :, :, None], np.roll(pixels, 1, 0), pixels)
        )
        rows, columns = pasted.any(1), pasted.any(0)
        np.testing.assert_array_equal(pasted, rows[:, None] & columns)
        for line in (rows, columns):  # Without holes.
            assert np.abs(np.diff(line.astype(int))).sum() <= 2
        share = 1 - pasted.mean()
        expected = share * labels + (1 - share) * np.roll(labels, 1, 0)
        np.testing.assert_allclose(soft, expected, atol=1e-6)
        shares.append(share)
    assert min(shares) < 0.5 < max(shares)


def test_shares_are_drawn_from_beta():
    def betas(alpha, count):
        seeds = tf.random.split(SEED, count)
        compute = tf.function(
            lambda: tf.map_fn(
                lambda seed: augment._beta(alpha, seed), seeds, fn_output_signature=tf.float32
            )
        )
        return compute().numpy()

    for alpha in (0.2, 1.0):
        shares = betas(alpha, 4000)
        variance = 1 / (4 * (2 * alpha + 1))  # Of Beta(alpha, alpha), whose mean is a half.
        assert shares.mean() == pytest.approx(0.5, abs=0.04)
        assert shares.var() == pytest.approx(variance, rel=0.1)
    assert np.isfinite(betas(1e-3, 100)).all()


def test_with_both_each_batch_gets_mixup_or_cutmix_half_and_half():
    pixels, labels = batch()
    mix = tf.function(
        lambda seed: augment.augment_batch(pixels, labels, Augmentation(mixup=1, cutmix=1), seed)
    )
    blended = 0
    for seed in tf.unstack(tf.random.split(SEED, 100)):
        mixed, _ = mix(seed)
        known = (mixed == pixels) | (mixed == np.roll(pixels, 1, 0))
        blended += not known.numpy().all()
    assert 30 < blended < 70


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_targets_of_mixed_labels_are_those_of_numpy(hard, smoothing):
    pixels, labels = batch()
    augmentation = Augmentation(mixup=0.4, hard_targets_above_zero=hard, label_smoothing=smoothing)
    _, targets = augment.augment_batch(pixels, labels, augmentation, SEED)
    _, mixed = augment.augment_batch(pixels, labels, Augmentation(mixup=0.4), SEED)
    expected = np.array(mixed)
    if hard:
        expected = (expected > 0).astype("float32")
        assert set(expected.sum(1)) == {2}
    expected = expected * (1 - smoothing) + smoothing / 6
    np.testing.assert_allclose(targets, expected, atol=1e-6)
    if not hard:
        np.testing.assert_allclose(targets.numpy().sum(1), 1, atol=1e-6)


# Settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        dict(crop_scale=(0, 1)),
        dict(crop_scale=(0.5, 1.5)),
        dict(crop_ratio=(2, 1)),
        dict(pad_crop=4),
        dict(pad_crop=-1, crop_scale=None),
        dict(flip=1),
        dict(rand_augment=(0, 9)),
        dict(rand_augment=(2, 11)),
        dict(rand_augment_std=0.5),
        dict(rand_augment_form="theirs"),
        dict(erased_to="black"),
        dict(trivial_augment=True, rand_augment=(2, 9)),
        dict(auto_augment=True, aug_mix=True),
        dict(random_erasing=1.1),
        dict(label_smoothing=-0.1),
        dict(mixup=-1),
        dict(cutmix=float("nan")),
    ],
    ids=str,
)
def test_wrong_settings_are_named(arguments):
    with pytest.raises(ValueError, match=rf"{next(iter(arguments))}.*Received: "):
        Augmentation(**arguments)
