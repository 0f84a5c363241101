"""Runs of seconds, and what tests do with them."""

from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from keras_resnets.commands.app import app
from keras_resnets.training import callbacks, checkpoints
from keras_resnets.training.config import resolve

CLASSES = ("cross", "disc", "stripes")


def pictures(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy figures (count, 24, 24, 3) that can be told apart at a glance, and their classes."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    y, x = np.mgrid[:24, :24] - 11.5
    figures = [(abs(x) < 3) | (abs(y) < 3), x**2 + y**2 < 64, (x // 4) % 2 == 0]
    images = np.stack([figures[label] for label in labels])[..., None] * np.ones(3) * 150.0
    return np.clip(images + random.uniform(0, 100, images.shape), 0, 255).astype("uint8"), labels


def write_pictures(folder: Path, count: int, seed: int = 0, names=CLASSES) -> Path:
    """The figures as files, in a folder for each class."""
    for i, (image, label) in enumerate(zip(*pictures(count, seed), strict=True)):
        path = folder / names[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


DATA = {"train": pictures(24), "validation": pictures(9, seed=1)}
TINY = dict(depths=(1, 1), planes=(16, 32))
ONE_BLOCK = dict(depths=(1,), planes=(16,))


def tiny_config(recipe="quick", model="resnet20", data=DATA, changes=None, **options):
    """Three epochs of three steps."""
    changes = {"epochs": 3, "batch_size": 8, "image_size": 32, **TINY, **(changes or {})}
    return resolve(data, model, recipe=recipe, changes=changes, **options)


def last_arrays(folder) -> dict[str, np.ndarray]:
    return checkpoints.load_last(folder.checkpoints)[2]


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def at_step(number: int, monkeypatch, action) -> None:
    """Does something at the end of a step, in front of all else that happens there."""
    original = callbacks.Steps._stop_if_asked

    def patched(self):
        if self.progress.step == number:
            action(self)
        original(self)

    monkeypatch.setattr(callbacks.Steps, "_stop_if_asked", patched)


def invoke(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output
