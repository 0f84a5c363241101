"""A run: from a data set and a recipe to a trained, evaluated, exported model.

`train` reads top to bottom: check, build, fit, evaluate, write. What it is told is a `RunConfig`;
what it leaves behind is a `RunFolder`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import time
import warnings
from collections.abc import Iterator
from typing import Any

import keras

from keras_resnets.checks import require
from keras_resnets.graph.freeze import freeze
from keras_resnets.loading import locate
from keras_resnets.training import (
    checkpoints,
    data,
    distribute,
    evaluate,
    fitting,
    losses,
    resuming,
    schedules,
)
from keras_resnets.training.batches import (
    evaluation_batches,
    evaluation_steps,
    steps_per_epoch,
    training_batches,
)
from keras_resnets.training.best import INTERPOLATION, write_best
from keras_resnets.training.callbacks import (
    Interrupts,
    MovingAverage,
    Recorder,
    Steps,
    best_epoch,
)
from keras_resnets.training.checkpoints import Progress, Snapshot
from keras_resnets.training.config import RunConfig
from keras_resnets.training.distribute import Placement
from keras_resnets.training.environment import environment, versions
from keras_resnets.training.errors import DivergedError, Interrupted, explained
from keras_resnets.training.evaluate import Evaluation
from keras_resnets.training.multi_label import MultiLabelEvaluation
from keras_resnets.training.optimizers import make_optimizer, stage_scales
from keras_resnets.training.run_folder import RunFolder
from keras_resnets.training.teacher import with_teacher


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What came out of a run.

    Attributes:
        folder: where everything lies.
        history: what was measured, one mapping an epoch.
        evaluation: of the best weights; None in the processes that write nothing.
    """

    folder: RunFolder
    history: list[dict[str, float]]
    evaluation: Evaluation | MultiLabelEvaluation | None


def train(
    config: RunConfig,
    out: str | os.PathLike,
    *,
    resume: bool = False,
    placement: Placement | None = None,
    verbose: int | str = 0,
) -> RunResult:
    """Trains a model and writes all that is left of it into a folder.

    Args:
        config: what to do; see `resolve`.
        out: the folder, new or empty.
        resume: go on with the run in the folder, from its last whole checkpoint.
        placement: where to compute; default: all accelerators of this machine.
        verbose: Keras' progress: 0 for none, 1 for a bar, 2 for a line an epoch.

    Returns:
        The `RunResult`.

    Raises:
        FileExistsError: if the folder holds something and `resume` is False.
        ValueError: if the data set, the model or an option is wrong, or a resumed run was told
            something else.
        errors.DivergedError: if the loss is not finite any more.
        errors.OutOfMemory: if the batch does not fit.
        OSError: if another process trains in the folder, or the disk is full.
        ConnectionError: if another process of the run is gone.
        errors.Interrupted: after Ctrl-C or SIGTERM; a checkpoint is there.

    Example:

    >>> train(resolve("digits", recipe="quick"), "runs/digits").evaluation.top1
    0.98
    """
    folder, began = RunFolder(out), time.monotonic()
    placement = placement or distribute.place(distribute.find_processes())
    stopped = (DivergedError, Interrupted)
    with (
        distribute.failing_together(placement.processes, stopped),
        environment(config),
        explained(config),
        resuming.told_the_same(config, resume, placement),
        _held(folder, config, resume, placement),
    ):
        last = checkpoints.load_last(folder.checkpoints) if resume else None
        if resume:
            config = fitting.as_before(config, resuming.stored_config(folder))
        else:
            config = fitting.fitted(config, lambda told: Run(told, placement), began)
        run = Run(config, placement, last)
        found = data.described(*run.examples.values())
        placement.require_told_the_same({"data": found})
        if placement.is_main:
            if resume:
                resuming.check_data(folder, found)
            folder.create()
            # First, since a folder with it can be resumed, and one without is as good as empty.
            folder.write_json("config.json", config.as_dict())
            folder.write_json("classes.json", run.examples["train"].class_names)
            folder.write_json("versions.json", versions(placement) | {"data": found})
        progress = run.fit(folder, verbose, began)
        evaluation = _finish(config, folder, progress) if placement.is_main else None
        placement.highest(0)  # Nobody ends while the first still evaluates.
    return RunResult(folder, progress.history, evaluation)


@contextlib.contextmanager
def _held(
    folder: RunFolder, config: RunConfig, resume: bool, placement: Placement
) -> Iterator[None]:
    """The folder is this run's, and for as long as it lasts nobody else's."""
    if resume:
        resuming.check_same(folder, config)
    if not placement.is_main:  # The first process, which alone writes, holds it for all.
        yield
        return
    with folder.locked():
        if not resume:
            resuming.check_new(folder)
        yield


class Run:
    """The data, the compiled model and the lengths of a run.

    Everything that can be wrong shows here, before a file is written or a step is taken.

    Args:
        config: what to do.
        placement: where to compute.
        last: the checkpoint to go on from; None to begin.
    """

    def __init__(
        self, config: RunConfig, placement: Placement, last: Snapshot | None = None
    ) -> None:
        self.config, self.placement, recipe = config, placement, config.recipe
        self.last = last
        self.local_batch = placement.local_batch(recipe.batch_size)
        _check_options(config, placement)
        self.examples = {
            split: data.load(
                config.data,
                split,
                data_dir=config.data_dir,
                seed=config.seed,
                strict=config.strict_data,
                shard=placement.shard,
            )
            for split in ("train", "validation")
        }
        self.classes = len(self.examples["train"].class_names)
        losses.check_labels(recipe, self.examples["train"])
        self.steps_per_epoch = steps_per_epoch(self.examples["train"], self.local_batch)
        self.class_weights = losses.class_weights(config, self.examples["train"])
        self.make_model()

    def make_model(self) -> None:
        """Builds and compiles the model, a new one where there is one."""
        config, placement = self.config, self.placement
        with placement.scope():
            model = build(config, self.classes, self.last)
            self.model = with_teacher(model, config, self.examples["train"])
            if config.sync_bn:
                distribute.synchronize_batch_norms(self.model, placement)
        self._compile()

    def _compile(self) -> None:
        config, recipe = self.config, self.config.recipe
        rate = schedules.learning_rate(
            recipe, steps_per_epoch=self.steps_per_epoch, batch_size=config.effective_batch
        )
        with self.placement.scope():
            optimizer = make_optimizer(
                recipe,
                rate,
                accumulate=config.accumulate,
                scales=stage_scales(self.model, recipe.layer_decay),
            )
            metrics = losses.make_metrics(
                recipe, self.classes, self.examples["validation"].class_counts
            )
        self.model = distribute.compiled(
            self.model,
            self.placement,
            optimizer=optimizer,
            loss=losses.make_loss(recipe, self.class_weights),
            # Weighted, because the last batch of validation is filled up with images of weight 0.
            weighted_metrics=metrics,
            jit_compile=self._jit(),
        )

    def _jit(self) -> bool | str:
        if keras.backend.backend() != "tensorflow":
            return "auto"
        if self.config.jit and self.placement.strategy is not None:
            warnings.warn(
                "jit is off: TensorFlow's XLA does not train on several devices.", stacklevel=2
            )
            return False
        return self.config.jit

    def fit(
        self, folder: RunFolder, verbose: int | str = 0, began: float | None = None
    ) -> Progress:
        """Trains to the end of the recipe, of the patience or of the time, which may have begun."""
        config, recipe = self.config, self.config.recipe
        progress = Progress() if self.last is None else self.last.progress
        self.placement.require_same(
            progress.step,
            "every process must see the same checkpoints; put the run's folder where all machines "
            "find it",
        )
        average = None
        if recipe.ema:
            average = MovingAverage(self.model, recipe.ema, recipe.ema_every)
        interrupts, replicas = Interrupts(), distribute.Replicas(self.placement.strategy)
        steps = Steps(
            folder,
            progress,
            average,
            replicas,
            interrupts,
            self.placement,
            steps_per_epoch=self.steps_per_epoch,
            every=config.checkpoint_every,
            keep=config.keep,
        )
        spent = sum(row["seconds"] for row in progress.history)
        self.time_left = fitting.TimeLeft(config.seconds, began, spent)
        recorder = Recorder(
            folder,
            progress,
            loss=losses.loss_name(recipe),
            ran_out=lambda: self._ran_out(progress),
            on_best=lambda: self._write_best(folder, average),
            writes=self.placement.is_main,
        )
        drop_block = schedules.DropBlockSchedule(recipe, self.model)
        # In this order: statistics are averaged over replicas before they are read, the average is
        # in the model for validation only, and what an epoch brought is in the progress before its
        # checkpoint is written.
        every = (replicas, average, drop_block, recorder, steps)
        callbacks = [callback for callback in every if callback]
        if config.tensorboard and self.placement.is_main:
            callbacks.append(keras.callbacks.TensorBoard(str(folder / "tensorboard")))
        for callback in callbacks:
            callback.set_model(self.model)
        if self.last is not None:
            steps.restore(str(self.last.path), self.last.arrays)
            self.last = None  # Its arrays are in the model now.
        # In the scope, where metrics are those of all processes.
        with interrupts.noted(), self.placement.scope():
            self._fit_rest(progress, recorder, steps, callbacks, verbose)
        return progress

    def _fit_rest(self, progress, recorder, steps, callbacks, verbose) -> None:
        """What is left: the rest of a begun epoch, and the epochs after it."""
        if len(progress.history) < progress.step // self.steps_per_epoch:
            # Stopped between the last step of an epoch and the end of its validation.
            tests = [callback for callback in callbacks if callback is not recorder]
            measured = self.model.evaluate(
                self.validation(),
                steps=self.validation_steps,
                callbacks=tests,
                return_dict=True,
                verbose=verbose,
            )
            logs = {f"val_{key}": value for key, value in measured.items()}
            recorder.on_epoch_end(len(progress.history), progress.means | logs)
            steps.save()
        epochs = self.config.recipe.epochs
        while (epoch := len(progress.history)) < epochs and not self._ran_out(progress):
            done = progress.step % self.steps_per_epoch
            self.model.fit(
                self.training(progress.step),
                initial_epoch=epoch,
                epochs=epoch + 1 if done else epochs,
                steps_per_epoch=self.steps_per_epoch - done,
                validation_data=self.validation(),
                validation_steps=self.validation_steps,
                callbacks=callbacks,
                shuffle=False,
                verbose=verbose,
            )

    def _ran_out(self, progress: Progress) -> bool:
        """Whether the patience is at an end, or the time."""
        patience, history = self.config.patience, progress.history
        if patience is not None and history and len(history) - best_epoch(history) >= patience:
            return True
        # By the slowest process, as they end together.
        return bool(self.placement.highest(int(self.time_left.is_up(history))))

    def training(self, start_step: int) -> Any:
        """Endless training batches from a step on."""
        batches = training_batches(
            self.examples["train"],
            self.config.recipe.augmentation,
            image_size=self.config.recipe.image_size,
            batch_size=self.local_batch,
            seed=self.config.seed,
            start_step=start_step,
            class_weights=None if self.config.recipe.multi_label else self.class_weights,
            multi_label=self.config.recipe.multi_label,
        )
        return self.placement.shared(batches)

    def validation(self) -> Any:
        """Batches of validation, whose number Keras is told, here or by `validation_steps`."""
        import tensorflow as tf

        examples = self.examples["validation"]
        batches = evaluation_batches(
            examples,
            image_size=self.config.eval_image_size,
            crop_pct=self.config.recipe.crop_pct,
            interpolation=INTERPOLATION,
            batch_size=self.local_batch,
        )
        steps = evaluation_steps(examples, self.local_batch)
        batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
        return self.placement.shared(batches)

    @property
    def validation_steps(self) -> int | None:
        steps = evaluation_steps(self.examples["validation"], self.local_batch)
        return steps if self.placement.on_workers else None

    def _write_best(self, folder: RunFolder, average: MovingAverage | None) -> None:
        # All processes exchange the weights, as they compute everything together; one writes.
        with contextlib.nullcontext() if average is None else average.in_model():
            if self.placement.is_main:
                write_best(folder, self.config, self.model, self.examples["train"].class_names)


def _check_options(config: RunConfig, placement: Placement) -> None:
    require(
        placement.strategy is None or config.accumulate == 1,
        "accumulate must be 1 with several devices on TensorFlow, which cannot reduce gradients "
        "inside a condition; take a larger batch_size, one device, or JAX",
        accumulate=config.accumulate,
        devices=placement.replicas,
    )
    require(
        not config.tensorboard or importlib.util.find_spec("tensorboard") is not None,
        "tensorboard must be installed for its logs: pip install tensorboard",
        tensorboard=config.tensorboard,
    )
    require(  # What draws the report, which is written last.
        importlib.util.find_spec("matplotlib") is not None,
        "matplotlib must be installed for a run: pip install 'keras-resnets[training]'",
        out="report.md",
    )


def build(config: RunConfig, classes: int, last: Snapshot | None = None) -> keras.Model:
    """The model of a run, from RGB values 0 to 255 to logits, with what it freezes frozen.

    Args:
        config: what to do.
        classes: how many logits there are.
        last: the checkpoint to go on from, which holds all that the file of weights did.

    Raises:
        ValueError: if the architecture cannot do what the recipe asks, or the weights do not fit.
    """
    recipe = config.recipe
    resumed = last is not None and checkpoints.has_constants(last.arrays)
    model = config.variant(
        weights=None if resumed else config.weights,
        classes=classes,
        classifier_activation=None,
        include_preprocessing=True,
        dropout=recipe.dropout,
        drop_path=recipe.drop_path,
        drop_block=recipe.drop_block,
        **recipe.config_changes,
    )
    if resumed:
        checkpoints.restore_constants(model, last.arrays)
    if config.freeze is not None:
        freeze(model, config.freeze)
    return model


def _finish(
    config: RunConfig, folder: RunFolder, progress: Progress
) -> Evaluation | MultiLabelEvaluation:
    """Evaluates the best weights as they were written, and reports."""
    from keras_resnets.training.report import write_report  # Imports Matplotlib.

    with distribute.on_this_process_alone():
        classifier = locate(str(folder)).build_classifier()
        evaluation = evaluate.evaluate(
            classifier,
            data.load(
                config.data,
                "validation",
                data_dir=config.data_dir,
                seed=config.seed,
                strict=config.strict_data,
            ),
            batch_size=min(config.recipe.batch_size, 256),
        )
    write_report(
        folder,
        config.as_dict(),
        folder.read_json("versions.json"),
        progress.history,
        evaluation,
        classifier.preparation,
    )
    return evaluation
