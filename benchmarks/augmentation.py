"""Our augmentation against the layers of Keras and keras-cv, each inside tf.data.

python -m benchmarks.augmentation

Batches of 32 photographs of 224 pixels lie in memory, so that only augmentation takes time. Layers
are given batches; ours augments image by image before batching, as in training, and MixUp and
CutMix batch by batch. Each round starts every pipeline afresh, one after the other; what counts is
the median over rounds. keras-cv is not among the requirements: `pip install keras-cv==0.9.0`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import keras
import keras_cv
import numpy as np
import skimage.data
import tensorflow as tf
import typer
from PIL import Image

from benchmarks import streams
from keras_resnets.training import augment
from keras_resnets.training.augmentation import Augmentation

SIZE, BATCH, CLASSES = 224, 32, 10
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
NO_CROP = dict(crop_scale=None, flip=False)
RANGE = (0, 255)


def source() -> tf.data.Dataset:
    """Endless (image, one-hot label)."""
    photographs = [Image.fromarray(getattr(skimage.data, name)()) for name in PHOTOGRAPHS]
    images = np.stack([image.resize((SIZE, SIZE)) for image in photographs]).astype("float32")
    labels = np.eye(CLASSES, dtype="float32")[: len(images)]
    return tf.data.Dataset.from_tensor_slices((images, labels)).repeat()


def ours(augmentation: Augmentation) -> tf.data.Dataset:
    def one(number, example):
        image, label = example
        return augment.augment_image(image, augmentation, [tf.cast(number, tf.int32), 0]), label

    def mixed(number, batch):
        return augment.augment_batch(*batch, augmentation, [tf.cast(number, tf.int32), 1])

    images = source().enumerate()
    if augmentation == Augmentation(
        **NO_CROP, mixup=augmentation.mixup, cutmix=augmentation.cutmix
    ):
        images = images.map(lambda number, example: example)
    else:
        images = images.map(one, tf.data.AUTOTUNE)
    batches = images.batch(BATCH, drop_remainder=True).enumerate()
    return batches.map(mixed, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def by_layer(layer: Callable) -> tf.data.Dataset:
    batches = source().batch(BATCH, drop_remainder=True)
    return batches.map(
        lambda images, labels: layer({"images": images, "labels": labels}, training=True),
        tf.data.AUTOTUNE,
    ).prefetch(tf.data.AUTOTUNE)


CASES: dict[str, tuple[Augmentation, Callable[[], Callable], Callable[[], Callable]]] = {
    "RandAugment": (
        Augmentation(**NO_CROP, rand_augment=(2, 9), rand_augment_std=0.5),
        lambda: keras.layers.RandAugment(RANGE, num_ops=2, factor=0.9),
        lambda: keras_cv.layers.RandAugment(RANGE, augmentations_per_image=2, magnitude=0.9),
    ),
    "AugMix": (
        Augmentation(**NO_CROP, aug_mix=True),
        lambda: keras.layers.AugMix(RANGE, num_chains=3, chain_depth=3, factor=0.3),
        lambda: keras_cv.layers.AugMix(RANGE, severity=0.3),
    ),
    "colour jitter": (
        Augmentation(**NO_CROP, color_jitter=0.4),
        lambda: keras.layers.RandomColorJitter(
            RANGE, brightness_factor=0.4, contrast_factor=0.4, saturation_factor=(0.3, 0.7)
        ),
        lambda: keras_cv.layers.RandomColorJitter(
            RANGE,
            brightness_factor=0.4,
            contrast_factor=0.4,
            saturation_factor=(0.3, 0.7),
            hue_factor=0.0,
        ),
    ),
    "random erasing": (
        Augmentation(**NO_CROP, random_erasing=0.25),
        lambda: keras.layers.RandomErasing(factor=0.25, value_range=RANGE),
        lambda: keras_cv.layers.RandomCutout(0.4, 0.4, fill_mode="gaussian_noise"),
    ),
    "MixUp": (
        Augmentation(**NO_CROP, mixup=0.2),
        lambda: keras.layers.MixUp(alpha=0.2),
        lambda: keras_cv.layers.MixUp(alpha=0.2),
    ),
    "CutMix": (
        Augmentation(**NO_CROP, cutmix=1.0),
        lambda: keras.layers.CutMix(factor=1.0),
        lambda: keras_cv.layers.CutMix(alpha=1.0),
    ),
}


def main(
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = streams.FOLDER
    / "augmentation.json",
    rounds: Annotated[int, typer.Option(help="Of each pipeline.")] = 3,
    seconds: Annotated[float, typer.Option(help="Of each round.")] = 2,
) -> None:
    """Measure the augmentations in turn and print how they compare."""
    measured, baselines = {}, {}
    for name, (augmentation, keras_layer, keras_cv_layer) in CASES.items():
        contenders = {
            f"{name}: ours": lambda augmentation=augmentation: ours(augmentation),
            f"{name}: keras": lambda layer=keras_layer: by_layer(layer()),
            f"{name}: keras-cv": lambda layer=keras_cv_layer: by_layer(layer()),
        }
        measured |= streams.in_turn(contenders, BATCH, rounds=rounds, seconds=seconds)
        baselines |= {f"{name}: ours": f"{name}: keras", f"{name}: keras-cv": f"{name}: keras"}
    auto_augment = Augmentation(**NO_CROP, auto_augment=True)
    contenders = {"AutoAugment: ours": lambda: ours(auto_augment)}
    measured |= streams.in_turn(contenders, BATCH, rounds=rounds, seconds=seconds)
    streams.report(measured, out, baselines)


if __name__ == "__main__":
    typer.run(main)
