"""Runs on several devices and in several processes, and what their tests do with them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import ONE_BLOCK, last_arrays, pictures, tiny_config

from keras_resnets.training import callbacks
from keras_resnets.training import run as run_module
from keras_resnets.training.config import RunConfig
from keras_resnets.training.run_folder import RunFolder

# Ten steps, and in validation a last batch that is not full.
DATA = {"train": pictures(40), "validation": pictures(21, seed=1)}


def config(dtype: str = "float32", data=DATA, **options) -> RunConfig:
    # Synchronised batch norms, or two halves of a batch would have statistics of their own.
    changes = dict(ONE_BLOCK, ema=0.9, epochs=2, clip_norm=0.05)
    return tiny_config(data=data, changes=changes, sync_bn=True, dtype=dtype, **options)


@contextmanager
def at_step(number: int, action) -> Iterator[None]:
    """Does something at the end of a step, in front of all else that happens there."""
    original = callbacks.Steps.on_train_batch_end

    def patched(self, batch, logs=None):
        if self.progress.step + 1 == number:
            action(self)
        original(self, batch, logs)

    callbacks.Steps.on_train_batch_end = patched
    try:
        yield
    finally:
        callbacks.Steps.on_train_batch_end = original


def ask_to_stop(steps: callbacks.Steps) -> None:
    steps.interrupts.number = 2


def finish(process: subprocess.Popen) -> str:
    """Waits for a process, for no longer than it may take, and returns what it said."""
    try:
        return process.communicate(timeout=240)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def assert_same_ends(one: Path, two: Path, tolerance: float) -> None:
    """Weights, statistics, averages, the optimizer and what was measured agree."""
    folders = [RunFolder(one), RunFolder(two)]
    first, second = map(last_arrays, folders)
    assert first.keys() == second.keys()
    assert any(name.startswith("average") for name in first)
    for name in first:
        assert second[name] == pytest.approx(first[name], abs=tolerance, rel=tolerance), name
    logs = [np.genfromtxt(folder / "log.csv", delimiter=",", names=True) for folder in folders]
    assert len(logs[0]) == 2
    for column in set(logs[0].dtype.names) - {"seconds"}:
        assert logs[1][column] == pytest.approx(logs[0][column], abs=tolerance), column


@contextmanager
def diverging() -> Iterator[None]:
    """Models are built with a weight that is no number."""
    build = run_module.build

    def broken(*arguments):
        model = build(*arguments)
        model.trainable_variables[0].assign(model.trainable_variables[0] * np.nan)
        return model

    run_module.build = broken
    try:
        yield
    finally:
        run_module.build = build
