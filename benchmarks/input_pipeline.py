"""Our input pipeline against `keras.utils.image_dataset_from_directory` and Keras layers.

python -m benchmarks.input_pipeline

The data are 256 JPEG files of 500 pixels, made of scikit-image's photographs. Ours does what the
recipe `resnet` says: random resized crop, flip, lighting. Keras has layers for neither the first
nor the last: it resizes whole images to 256x256, crops 224x224 at random and flips, which is less
work. With `RandomColorJitter` it changes colours too, in place of lighting; then ours jitters in
the same way. Each round starts every pipeline afresh, one after the other; what counts is the
median over rounds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import keras
import numpy as np
import skimage.data
import tensorflow as tf
import typer
from PIL import Image

from benchmarks import streams
from keras_resnets.training import batches, data
from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.recipe import find_recipe

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
FILES, LONGER_SIDE, QUALITY = 256, 500, 90
IMAGE_SIZE, RESIZED, BATCH = 224, 256, 32
JITTER = 0.4


def write_photographs(folder: Path) -> None:
    """Random parts of the photographs as JPEG files, in a folder for each photograph."""
    generator = np.random.default_rng(0)
    for number in range(FILES):
        name = PHOTOGRAPHS[number % len(PHOTOGRAPHS)]
        photograph = Image.fromarray(getattr(skimage.data, name)())
        sides = np.array(photograph.size) * generator.uniform(0.7, 1, size=2)
        left, top = (np.array(photograph.size) - sides) * generator.uniform(size=2)
        part = photograph.resize(
            tuple(np.rint(sides * LONGER_SIDE / sides.max()).astype(int)),
            box=(left, top, left + sides[0], top + sides[1]),
        )
        (folder / name).mkdir(exist_ok=True)
        part.save(folder / name / f"{number:03}.jpg", quality=QUALITY)


def ours(folder: Path, augmentation: Augmentation) -> tf.data.Dataset:
    return batches.training_batches(
        data.load(f"folder:{folder}", "train"),
        augmentation,
        image_size=IMAGE_SIZE,
        batch_size=BATCH,
        seed=0,
    )


def by_keras(folder: Path, *more_layers: keras.Layer) -> tf.data.Dataset:
    crop = keras.layers.RandomCrop(IMAGE_SIZE, IMAGE_SIZE)
    layers = keras.Sequential([crop, keras.layers.RandomFlip("horizontal"), *more_layers])
    images = keras.utils.image_dataset_from_directory(
        folder,
        label_mode="categorical",
        batch_size=BATCH,
        image_size=(RESIZED, RESIZED),
        seed=0,
        verbose=False,
    )
    batches = images.repeat().map(
        lambda images, labels: (layers(images, training=True), labels), tf.data.AUTOTUNE
    )
    return batches.prefetch(tf.data.AUTOTUNE)


def main(
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = streams.FOLDER
    / "input_pipeline.json",
    rounds: Annotated[int, typer.Option(help="Of each pipeline.")] = 5,
    seconds: Annotated[float, typer.Option(help="Of each round.")] = 3,
) -> None:
    """Measure the input pipelines in turn and print how they compare."""
    recipe = find_recipe("resnet").augmentation
    jitter = Augmentation(color_jitter=JITTER)
    range_and_factors = dict(value_range=(0, 255), brightness_factor=JITTER)
    range_and_factors |= dict(contrast_factor=JITTER, saturation_factor=(0.3, 0.7))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photographs(folder)
        contenders = {
            "ours: recipe resnet": lambda: ours(folder, recipe),
            "keras: crop, flip": lambda: by_keras(folder),
            "ours: crop, flip, colour jitter": lambda: ours(folder, jitter),
            "keras: crop, flip, colour jitter": lambda: by_keras(
                folder, keras.layers.RandomColorJitter(**range_and_factors)
            ),
        }
        measured = streams.in_turn(contenders, BATCH, rounds=rounds, seconds=seconds)
    streams.report(
        measured,
        out,
        baselines={
            "ours: recipe resnet": "keras: crop, flip",
            "ours: crop, flip, colour jitter": "keras: crop, flip, colour jitter",
        },
    )


if __name__ == "__main__":
    typer.run(main)
