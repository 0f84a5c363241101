"""What a run finds out by trying, before it begins: its batch, and the epochs that its time allows.

A trial is a `Run` whose model is thrown away. What was found stands in the run's configuration like
any number, so that a resumed run goes on with it and nothing is measured again.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import keras

from keras_resnets.checks import require
from keras_resnets.training.batches import evaluation_steps
from keras_resnets.training.best import write_best
from keras_resnets.training.callbacks import MovingAverage
from keras_resnets.training.config import RunConfig
from keras_resnets.training.errors import OutOfMemory, is_out_of_memory
from keras_resnets.training.recipe import AUTO
from keras_resnets.training.run_folder import RunFolder

if TYPE_CHECKING:
    from keras_resnets.training.run import Run

STEPS = 8  # So many are timed, after as many that are not.
RESERVE = 1.1  # Epochs are not all equal.


def fitted(config: RunConfig, try_out: Callable[[RunConfig], Run], began: float) -> RunConfig:
    """A configuration with numbers in place of what is to be found out; others as they are.

    Args:
        config: what was told.
        try_out: makes a run of a configuration.
        began: when the run's time began, on the clock of `time.monotonic`.

    Raises:
        ValueError: if no device reports its memory, or the time is shorter than an epoch.
        errors.OutOfMemory: if not even the smallest batch fits.
    """
    if config.recipe.batch_size == AUTO:
        size = largest_batch(config, try_out)
        config = _with_recipe(config, batch_size=size)
    if config.time_budget is None:
        return config
    run = try_out(config)
    epoch, validation = _seconds(run)
    # All that came up to here, tracing and compiling, comes again in the run, and the evaluation.
    left = config.seconds - 2 * (time.monotonic() - began) - validation
    # The slowest process sets the pace of all.
    epochs = -run.placement.highest(-math.floor(left / (RESERVE * epoch)))
    require(
        epochs >= 1,
        f"time_budget must be enough for an epoch, which takes about {epoch:.0f} s here, besides "
        "the start and an evaluation",
        time_budget=config.time_budget,
    )
    return dataclasses.replace(config, recipe=config.recipe.stretched(epochs))


def as_before(config: RunConfig, before: RunConfig) -> RunConfig:
    """A configuration with what a run of the same found out when it began."""
    if config.recipe.batch_size == AUTO:
        config = _with_recipe(config, batch_size=before.recipe.batch_size)
    if config.time_budget is None:
        return config
    return dataclasses.replace(config, recipe=config.recipe.stretched(before.recipe.epochs))


def _with_recipe(config: RunConfig, **changes: object) -> RunConfig:
    return dataclasses.replace(config, recipe=dataclasses.replace(config.recipe, **changes))


# Time --------------------------------------------------------------------------------------------


class _Clock(keras.callbacks.Callback):
    """Notes how long the last epoch and its validation took."""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.begin = time.monotonic()

    def on_test_begin(self, logs: dict | None = None) -> None:
        self.trained = time.monotonic()

    def on_test_end(self, logs: dict | None = None) -> None:
        self.tested = time.monotonic()


def _seconds(run: Run) -> tuple[float, float]:
    """What an epoch takes, with validation and files, and what validation takes of it."""
    steps = run.steps_per_epoch
    test_steps = evaluation_steps(run.examples["validation"], run.local_batch)
    tried, tests, clock = min(steps, STEPS), min(test_steps, STEPS), _Clock()
    run.model.fit(
        run.training(0),
        steps_per_epoch=tried,
        epochs=2,  # In the first everything is traced and compiled.
        validation_data=run.validation(),
        validation_steps=tests,
        callbacks=[clock],
        shuffle=False,
        verbose=0,
    )
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        names = run.examples["train"].class_names
        write_best(RunFolder(folder), run.config, run.model, names)
    writing = time.monotonic() - begin
    validation = (clock.tested - clock.trained) / tests * test_steps
    training = (clock.trained - clock.begin) / tried * steps
    return training + validation + writing, validation


class TimeLeft:
    """Whether the time of a run allows another epoch.

    Args:
        seconds: of the whole run; None for no end.
        began: when this process began with it, on the clock of `time.monotonic`; None for now.
        earlier: seconds that processes before it have spent.
    """

    def __init__(self, seconds: float | None, began: float | None, earlier: float) -> None:
        self.began = time.monotonic() if began is None else began
        self.seconds, self.earlier = seconds, earlier

    def is_up(self, history: list[dict[str, float]]) -> bool:
        """Whether another epoch like the last would be too much."""
        if self.seconds is None or not history:
            return False
        spent = self.earlier + time.monotonic() - self.began
        return spent + history[-1]["seconds"] > self.seconds


# Memory ------------------------------------------------------------------------------------------


def largest_batch(config: RunConfig, try_out: Callable[[RunConfig], Run]) -> int:
    """The largest batch whose steps fit into the devices' memory, to within an eighth."""
    require(
        reports_memory(),
        f"batch_size={AUTO!r} needs a device that reports its memory, as GPUs do; pass a number "
        "here",
        backend=keras.backend.backend(),
    )
    run = try_out(_with_recipe(config, batch_size=config.recipe.reference_batch_size))
    placement = run.placement
    require(
        placement.processes.count == 1,
        f"batch_size={AUTO!r} is for one process; with several pass a number",
        processes=placement.processes.count,
    )
    most = run.examples["train"].count
    found = largest(lambda size: _fits(run, size), unit=placement.replicas, most=most)
    if not found:
        raise OutOfMemory(
            "a device's memory must hold the steps of one image at least. Try dtype bfloat16 or a "
            f"smaller image_size. Received: image_size={config.recipe.image_size}"
        )
    return found


def reports_memory() -> bool:
    """Whether the devices say when their memory is full, instead of ending the program."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return all(device.memory_stats() is not None for device in jax.local_devices())
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    import torch

    return torch.cuda.is_available()


def largest(fits: Callable[[int], bool], *, unit: int, most: int) -> int:
    """The largest multiple of a unit that fits, to within an eighth; 0 if none does.

    Doubling until one does not fit, then halves, quarters and eighths of the last that did.
    """
    doubled, size = 0, unit
    while size <= most and fits(size):
        doubled, size = size, 2 * size
    found = doubled
    for step in (doubled // 2, doubled // 4, doubled // 8):
        if step >= unit and step % unit == 0 and found + step <= most and fits(found + step):
            found += step
    return found


def _fits(run: Run, size: int) -> bool:
    """Whether steps of so many images fit, with all that is kept beside them."""
    import tensorflow as tf

    side = run.config.recipe.image_size
    image, target = tf.zeros((side, side, 3)), tf.fill((run.classes,), 1 / run.classes)
    batches = tf.data.Dataset.from_tensors((image, target)).repeat().batch(size)
    kept = []
    try:
        run.make_model()  # A step that failed may have taken the last one's variables with it.
        if run.config.recipe.ema:
            kept.append(MovingAverage(run.model, run.config.recipe.ema, every=1))
        run.model.fit(batches, steps_per_epoch=2, shuffle=False, verbose=0)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        gc.collect()  # A model and its functions refer to one another.
    return True
