"""What happens beside the steps of training: averaging, watching, checkpoints, the log, the best.

All of them go on where a resumed run left off: what they need is in `Progress` and in the
checkpoint. Keras' own `CSVLogger`, `EarlyStopping` and `ModelCheckpoint` begin anew instead.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnets.graph.walk import flat_layers
from keras_resnets.layers.scheduled_rate import ScheduledRate
from keras_resnets.training import checkpoints
from keras_resnets.training.checkpoints import Progress
from keras_resnets.training.distribute import Placement
from keras_resnets.training.errors import DivergedError, Interrupted
from keras_resnets.training.replicas import Replicas
from keras_resnets.training.run_folder import RunFolder


class Interrupts:
    """Notes Ctrl-C and SIGTERM, so that a run can stop between two steps.

    A second signal ends the program at once. Outside the main thread, where Python takes no
    signals, it notes nothing.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def note(number: int, frame: FrameType | None) -> None:
            self.number = number
            for known, handler in before.items():
                signal.signal(known, handler)

        for number in before:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def sync(model: keras.Model) -> None:
    """Brings the variables up to date: on JAX a running `fit` holds newer values itself."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


class MovingAverage(keras.callbacks.Callback):
    """An exponential moving average of the weights and of the batch norms' statistics.

    Validation runs on it; `in_model` puts it into the model for anything else. Keras' optimizers
    can average too, but leave the statistics as they are, which belong to the weights that produced
    them; and at the end of every `fit` they overwrite the weights.

    The momentum of the n-th update is at most (1 + n) / (10 + n), so that the beginning of the
    training is soon forgotten (as in TensorFlow's `ExponentialMovingAverage`).

    Args:
        model: whose weights are averaged.
        momentum: of an update.
        every: steps between updates.
    """

    def __init__(self, model: keras.Model, momentum: float, every: int) -> None:
        super().__init__()
        self.momentum, self.every = momentum, every
        self.averaged = [
            variable
            for layer in flat_layers(model)
            if not isinstance(layer, ScheduledRate)
            for variable in layer.weights
        ]
        self.values = [ops.copy(ops.convert_to_tensor(variable)) for variable in self.averaged]
        self._move = self._moving()
        self.is_in_model = False

    def _moving(self) -> Callable[[float], None]:
        """What moves the average, in one call of the backend: hundreds of small ones are slow."""

        def moved(values, weights, share):
            return [
                value + (weight - value) * ops.cast(share, value.dtype)
                for value, weight in zip(values, weights, strict=True)
            ]

        def weights():
            return [ops.convert_to_tensor(variable) for variable in self.averaged]

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # In variables, so that nothing goes into the call or comes out of it.
            self.values = [tf.Variable(value, trainable=False) for value in self.values]

            @tf.function
            def move(share):
                for value, new in zip(
                    self.values, moved(self.values, weights(), share), strict=True
                ):
                    value.assign(new)

            return lambda share: move(tf.constant(share, "float32"))
        if keras.backend.backend() == "jax":
            import jax

            moved = jax.jit(moved)

        def update(share: float) -> None:
            self.values = moved(self.values, weights(), ops.convert_to_tensor(share, "float32"))

        return update

    def update(self, step: int) -> None:
        """Takes note of the weights after a step."""
        if step % self.every:
            return
        sync(self.model)
        n = step // self.every
        self._move(1 - min(self.momentum, (1 + n) / (10 + n)))

    def _set(self, i: int, value: Any) -> None:
        if keras.backend.backend() == "tensorflow":
            self.values[i].assign(value)
        else:
            self.values[i] = value

    def swap(self) -> None:
        """Exchanges the model's weights for the average, or the other way round."""
        for i, variable in enumerate(self.averaged):
            weights = ops.copy(ops.convert_to_tensor(variable))
            variable.assign(ops.convert_to_tensor(self.values[i]))
            self._set(i, weights)
        self.is_in_model = not self.is_in_model

    @contextlib.contextmanager
    def in_model(self) -> Iterator[None]:
        """The average is in the model."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def on_test_begin(self, logs: dict | None = None) -> None:
        self.swap()

    def on_test_end(self, logs: dict | None = None) -> None:
        if self.is_in_model:
            self.swap()

    def arrays(self) -> dict[str, np.ndarray]:
        """The average, for a checkpoint."""
        return {
            f"average/{i:04d}/{variable.path}": ops.convert_to_numpy(value)
            for i, (variable, value) in enumerate(zip(self.averaged, self.values, strict=True))
        }

    def set_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes over the average of a checkpoint."""
        for i, variable in enumerate(self.averaged):
            name = f"average/{i:04d}/{variable.path}"
            if name not in arrays or arrays[name].shape != tuple(variable.shape):
                raise ValueError(
                    f"the checkpoint must have the moving average: {name} is not in it"
                )
            self._set(i, ops.convert_to_tensor(arrays[name]))


class Steps(keras.callbacks.Callback):
    """Watches over the steps: counts, averages, stops a run that diverges, writes checkpoints.

    Args:
        folder: of the run.
        progress: of the run; it is counted on.
        average: the moving average, if there is one.
        replicas: whose statistics are averaged before something reads them here.
        interrupts: whether somebody wants the run to stop.
        placement: where the run computes. Its first process writes; all of them stop at the same
            step, or those left would wait for the others for ever.
        steps_per_epoch: of the run.
        every: steps between checkpoints; None for one an epoch.
        keep: how many checkpoints are kept.
    """

    def __init__(
        self,
        folder: RunFolder,
        progress: Progress,
        average: MovingAverage | None,
        replicas: Replicas,
        interrupts: Interrupts,
        placement: Placement,
        *,
        steps_per_epoch: int,
        every: int | None,
        keep: int,
    ) -> None:
        super().__init__()
        self.folder, self.progress, self.average = folder, progress, average
        self.replicas, self.interrupts, self.placement = replicas, interrupts, placement
        self.steps_per_epoch, self.every, self.keep = steps_per_epoch, every, keep
        self.earlier_sums: dict[str, np.ndarray] = {}

    def restore(self, source: str, arrays: dict[str, np.ndarray]) -> None:
        """Puts the model, the optimizer and the average into the state of a checkpoint."""
        checkpoints.restore(self._groups(), arrays, source)
        if self.average is not None:
            self.average.set_arrays(arrays)
        if self.progress.step % self.steps_per_epoch:
            # In the middle of an epoch its means go on, too.
            self.earlier_sums = {
                name: array for name, array in arrays.items() if name.startswith("metrics/")
            }

    def _groups(self) -> dict[str, list[keras.Variable]]:
        return {"model": self.model.variables, "optimizer": self.model.optimizer.variables}

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.progress.step += 1
        step = self.progress.step
        if self.earlier_sums:
            self._add_earlier_sums()
        # The loss is a mean over the epoch so far, in which one that is not finite stays. To look
        # at it waits for the device, as Keras' progress bar does anyway.
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            self._diverged(f"the loss is {loss}")
        if step % self.steps_per_epoch == 0:
            self.progress.means = {key: float(value) for key, value in logs.items()}
        if self.average is not None:
            if step % self.average.every == 0:
                self.replicas.average()
            self.average.update(step)
        if self.every and step % self.every == 0:
            self.save()
        self._stop_if_asked()

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._stop_if_asked()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.save()

    def save(self) -> None:
        """Writes a checkpoint."""
        self.replicas.average()
        sync(self.model)
        arrays = checkpoints.snapshot(self._groups() | {"metrics": self.model.metrics_variables})
        arrays |= checkpoints.constants(self.model)
        if self.average is not None:
            arrays |= self.average.arrays()
        broken = checkpoints.not_finite(arrays)
        if broken:
            self._diverged(f"{len(broken)} variables are not finite, {broken[0]} the first")
        if self.placement.is_main:
            checkpoints.save(self.folder.checkpoints, self.progress, arrays, keep=self.keep)

    def _add_earlier_sums(self) -> None:
        sync(self.model)
        # A checkpoint of version 0.1 lacks the metric of a binary loss, which comes last.
        for name, variable in zip(
            sorted(self.earlier_sums), self.model.metrics_variables, strict=False
        ):
            variable.assign(ops.convert_to_tensor(variable) + self.earlier_sums[name])
        self.earlier_sums = {}

    def _diverged(self, what: str) -> None:
        last = checkpoints.load_last(self.folder.checkpoints) if self.placement.is_main else None
        kept = f"The last good checkpoint is {last[0]}" if last else "There is no checkpoint yet"
        raise DivergedError(
            f"training must stay finite: at step {self.progress.step} {what}. {kept}. Try a lower "
            "learning rate, a longer warm-up, clip_norm, or bfloat16 in place of float16."
        )

    def _stop_if_asked(self) -> None:
        number = self.placement.highest(self.interrupts.number or 0)
        if not number:
            return
        if self.average is not None and self.average.is_in_model:
            self.average.swap()
        self.save()
        # Nobody ends, to be started again, before the first has written what it goes on from.
        self.placement.highest(0)
        raise Interrupted(
            number,
            f"Stopped after step {self.progress.step}; go on with --resume.",
        )


class Recorder(keras.callbacks.Callback):
    """Puts an epoch's measurements into the progress and the log; stops when nothing gets better.

    Args:
        folder: of the run.
        progress: of the run; its history grows.
        loss: name of the weighted metric that is the loss.
        ran_out: whether training stops with the epoch that was put into the progress.
        on_best: called when an epoch is the best so far.
        writes: False on all but one of several machines.
    """

    def __init__(
        self,
        folder: RunFolder,
        progress: Progress,
        *,
        loss: str,
        ran_out: Callable[[], bool],
        on_best: Callable[[], None],
        writes: bool = True,
    ) -> None:
        super().__init__()
        self.folder, self.progress, self.loss = folder, progress, loss
        self.ran_out, self.on_best, self.writes = ran_out, on_best, writes
        self.began = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row = {"epoch": epoch + 1, "learning_rate": rate}
        logs = {} if logs is None else logs
        # In Keras' validation loss the places of images of weight 0, which fill up the last batch,
        # count as images without loss. The metric of the loss' name does not count them, and is
        # noted by its name; Keras prints what is in these logs.
        logs["val_loss"] = logs[f"val_{self.loss}"]
        row |= {key: float(value) for key, value in logs.items() if key != "val_loss"}
        row["seconds"] = round(time.monotonic() - self.began, 2)
        self.progress.history.append(row)
        if best_epoch(self.progress.history) == epoch + 1:
            self.on_best()
        if self.writes:
            self.folder.write_csv("log.csv", self.progress.history)
        if self.ran_out():
            self.model.stop_training = True


def best_epoch(history: list[dict[str, float]]) -> int:
    """Number of the epoch of the highest validation accuracy; of several, of the lowest loss.

    Where an image may have several labels, the accuracy is the mean average precision.
    """

    def order(row: dict[str, float]) -> tuple[float, float, float]:
        loss = row.get("val_binary_cross_entropy", row["val_cross_entropy"])
        accuracy = row.get("val_mean_average_precision", row.get("val_top1"))
        return accuracy, -loss, -row["epoch"]

    return int(max(history, key=order)["epoch"])
