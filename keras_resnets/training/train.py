"""A run: from a data set and a recipe to a trained, evaluated, exported model.

`train` reads top to bottom: resolve, check, build, fit, evaluate, write. What it is told is a
`RunConfig`, made from options by `resolve`; what it leaves behind is a `RunFolder`.
"""

from __future__ import annotations

import dataclasses
import errno
import importlib.util
import json
import os
import platform
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import keras
import numpy as np

import keras_resnets
from keras_resnets import catalog
from keras_resnets.checks import is_count, nearest, require, require_count, require_one_of
from keras_resnets.files import atomic_write
from keras_resnets.graph.freeze import freeze
from keras_resnets.models.variant import Variant
from keras_resnets.training import checkpoints, distribute, evaluate, schedules
from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.callbacks import (
    DivergedError,
    Interrupted,
    Interrupts,
    MovingAverage,
    Recorder,
    Steps,
    best_epoch,
)
from keras_resnets.training.checkpoints import Progress
from keras_resnets.training.data import (
    evaluation_batches,
    evaluation_steps,
    load,
    steps_per_epoch,
    training_batches,
)
from keras_resnets.training.distribute import Placement
from keras_resnets.training.evaluate import Evaluation
from keras_resnets.training.optimizers import decayed_variables, make_optimizer
from keras_resnets.training.recipe import Recipe, find_recipe
from keras_resnets.training.run_folder import RunFolder
from keras_resnets.weights.fit import save_safetensors

_DTYPES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


class OutOfMemory(MemoryError):
    """The batch does not fit into the device's memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What a run is told, resolved: together with the data it determines the result.

    How many devices compute is not part of it, so a run may go on with others.

    Attributes:
        data: what to train on; see `data.load`.
        model: timm's name of the architecture.
        recipe: how to train it, with all changes applied.
        weights: what training starts from, as for `create_model`; None for random weights.
        data_dir: where prepared tfds data sets are.
        strict_data: whether an unreadable image stops the run.
        seed: of everything random.
        dtype: of the computation: `"float32"`, `"bfloat16"` or `"float16"`; variables are float32.
        jit: whether XLA compiles the step on TensorFlow.
        deterministic: whether the same run gives the same weights bit by bit; slower on a GPU.
        accumulate: batches whose gradients are averaged before the weights move.
        class_weights: `"balanced"` (rarer classes count more, all together the same), a weight for
            each class by name, or None.
        patience: epochs without a better validation accuracy after which training stops.
        freeze: stage up to which weights stay as they are; see `freeze`.
        sync_bn: whether batch norms take their statistics over all devices.
        checkpoint_every: steps between checkpoints; None for one an epoch.
        keep: how many checkpoints are kept.
        tensorboard: whether to write logs for TensorBoard.

    Raises:
        ValueError: if a value is out of its range.
    """

    data: Any
    model: str
    recipe: Recipe
    weights: str | None = None
    data_dir: str | None = None
    strict_data: bool = False
    seed: int = 0
    dtype: str = "float32"
    jit: bool = False
    deterministic: bool = False
    accumulate: int = 1
    class_weights: str | Mapping[str, float] | None = None
    patience: int | None = None
    freeze: str | None = None
    sync_bn: bool = False
    checkpoint_every: int | None = None
    keep: int = 2
    tensorboard: bool = False

    def __post_init__(self) -> None:
        require_one_of(_DTYPES, dtype=self.dtype)
        require(is_count(self.seed, 0), "seed must be an int from 0 up", seed=self.seed)
        for key in ("accumulate", "keep"):
            require_count(**{key: getattr(self, key)})
        for key in ("patience", "checkpoint_every"):
            value = getattr(self, key)
            require(
                value is None or is_count(value),
                f"{key} must be a positive int or left out",
                **{key: value},
            )
        require(
            self.class_weights is None
            or self.class_weights == "balanced"
            or isinstance(self.class_weights, Mapping),
            'class_weights must be "balanced" or a weight for each class by name',
            class_weights=self.class_weights,
        )

    @property
    def variant(self) -> Variant:
        return catalog.find_variant(self.model)

    @property
    def eval_image_size(self) -> int:
        return self.recipe.eval_image_size or self.recipe.image_size

    @property
    def effective_batch(self) -> int:
        """Images that one update of the weights rests on."""
        return self.recipe.batch_size * self.accumulate

    def as_dict(self) -> dict[str, Any]:
        """Everything in it as JSON has it; arrays by their shapes."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= {"recipe": self.recipe.as_dict(), "data": _described(self.data)}
        return json.loads(json.dumps(values))


def _described(data: Any) -> str:
    """A data set's name; arrays have none."""
    if isinstance(data, (str, os.PathLike)):
        return os.fspath(data)
    if isinstance(data, Mapping):
        return ", ".join(f"{split}: {_described(pair)}" for split, pair in data.items())
    return f"arrays {' and '.join(str(np.shape(part)) for part in data)}"


# Resolving options -------------------------------------------------------------------------------


def resolve(
    data: Any,
    model: str | None = None,
    weights: str | None = None,
    recipe: str = "quick",
    changes: Mapping[str, Any] | None = None,
    **options: Any,
) -> RunConfig:
    """Makes a run's configuration from options.

    Args:
        data: what to train on; see `data.load`.
        model: an architecture, or a published checkpoint (`"resnet50.a1_in1k"`) to start from;
            default: the recipe's.
        weights: what to start from, as for `create_model`; `"none"` for random weights; default:
            the model's tag, else the recipe's.
        recipe: name of the recipe.
        changes: fields of the recipe, of its augmentation, or of the architecture's configuration
            by name, and their values.
        **options: fields of `RunConfig`.

    Raises:
        ValueError: if there is no such recipe, model or field, or a value is out of its range.

    Example:

    >>> resolve("digits", recipe="quick", changes={"epochs": 3, "depths": (1, 1, 1)})
    """
    chosen = find_recipe(recipe)
    variant, published = catalog.find_tagged(chosen.model if model is None else model)
    chosen = chosen.for_model(variant.name)
    chosen = changed(chosen, variant, changes or {})
    if published is not None:
        require(weights is None, "weights must be left out where the model has a tag", model=model)
        weights = published.tag
    weights = chosen.weights if weights is None else weights
    return RunConfig(
        data=data,
        model=variant.name,
        recipe=chosen,
        weights=None if weights == "none" else weights,
        **options,
    )


def changed(recipe: Recipe, variant: Variant, changes: Mapping[str, Any]) -> Recipe:
    """A recipe with fields of itself, its augmentation or the architecture changed."""
    fields = _fields(Recipe) - {"name", "model", "weights", "augmentation", "by_model"}
    groups = {"recipe": fields, "image": _fields(Augmentation), "config": _fields(variant.config)}
    found: dict[str, dict[str, Any]] = {group: {} for group in groups}
    for key, value in changes.items():
        group = next((group for group, known in groups.items() if key in known), None)
        if group is None:
            every = sorted(set.union(*groups.values()))
            raise ValueError(
                "set must name a field of the recipe, its augmentation or the architecture: "
                f"{', '.join(every)}. {nearest(key, every)}Received: {key}={value!r}"
            )
        found[group][key] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(
        recipe,
        augmentation=dataclasses.replace(recipe.augmentation, **found["image"]),
        config_changes={**recipe.config_changes, **found["config"]},
        **found["recipe"],
    )


def _fields(owner: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(owner)}


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """`["epochs=3", "depths=1,1,1", "schedule=steps"]` as names and values.

    Raises:
        ValueError: if a text has no `=`.
    """
    changes = {}
    for text in texts:
        key, equals, value = text.partition("=")
        require(bool(key and equals), "set must be NAME=VALUE", set=text)
        changes[key.strip()] = _parsed(value.strip())
    return changes


def _parsed(text: str) -> Any:
    for candidate in (text, f"[{text}]"):
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    return {"None": None, "True": True, "False": False}.get(text, text)


# The run -----------------------------------------------------------------------------------------


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
    evaluation: Evaluation | None


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
        callbacks.DivergedError: if the loss is not finite any more.
        OutOfMemory: if the batch does not fit.
        OSError: if the disk is full.
        ConnectionError: if another process of the run is gone.
        callbacks.Interrupted: after Ctrl-C or SIGTERM; a checkpoint is there.

    Example:

    >>> train(resolve("digits", recipe="quick"), "runs/digits").evaluation.top1
    0.98
    """
    folder = RunFolder(out)
    placement = placement or distribute.place(distribute.find_processes())
    stopped = (DivergedError, Interrupted)
    with distribute.failing_together(placement.processes, stopped), _environment(config):
        if resume or placement.is_main:  # The others may come when the first has made the folder.
            _check_folder(folder, config, resume)
        run = Run(config, placement)
        if placement.is_main:
            folder.create()
            # First, since a folder with it can be resumed, and one without is as good as empty.
            folder.write_json("config.json", config.as_dict())
            folder.write_json("classes.json", run.examples["train"].class_names)
            folder.write_json("versions.json", versions(placement))
        with _explained(config):
            progress = run.fit(folder, resume=resume, verbose=verbose)
            evaluation = _finish(config, folder, progress) if placement.is_main else None
            placement.highest(0)  # Nobody ends while the first still evaluates.
    return RunResult(folder, progress.history, evaluation)


def _check_folder(folder: RunFolder, config: RunConfig, resume: bool) -> None:
    """Nothing is overwritten, and a run goes on as it was begun."""
    if not resume:
        if not folder.is_empty():
            raise FileExistsError(
                "out must be a new or empty folder; pass --resume to go on with the run in it. "
                f"Received: out={str(folder)!r}"
            )
        return
    require(
        (folder / "config.json").is_file(),
        "out must be the folder of a run where --resume is given",
        out=str(folder),
    )
    before, now = _flat(folder.read_json("config.json")), _flat(config.as_dict())
    changed = [
        f"{key}: {before.get(key)!r} -> {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    require(
        not changed,
        "a resumed run must be told what it was told at first; give the same options or begin a "
        "new folder",
        changed="; ".join(changed),
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"recipe": {"epochs": 3}}` as `{"recipe.epochs": 3}`."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


@contextmanager
def _environment(config: RunConfig) -> Iterator[None]:
    """Seeds, determinism and the type of the computation; the last is put back."""
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_op_determinism()
        elif keras.backend.backend() == "jax":
            flag = "--xla_gpu_deterministic_ops=true"
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_DTYPES[config.dtype])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class Run:
    """The data, the compiled model and the lengths of a run.

    Everything that can be wrong shows here, before a folder is made or a step is taken.
    """

    def __init__(self, config: RunConfig, placement: Placement) -> None:
        self.config, self.placement, recipe = config, placement, config.recipe
        self.local_batch = placement.local_batch(recipe.batch_size)
        _check_options(config, placement)
        self.examples = {
            split: load(
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
        self.steps_per_epoch = steps_per_epoch(self.examples["train"], self.local_batch)
        self.class_weights = _class_weights(config, self.examples["train"])
        with placement.scope():
            self.model = build(config, self.classes)
            if config.sync_bn:
                distribute.synchronize_batch_norms(self.model, placement)
            self._compile()

    def _compile(self) -> None:
        config, recipe = self.config, self.config.recipe
        rate = schedules.learning_rate(
            recipe, steps_per_epoch=self.steps_per_epoch, batch_size=config.effective_batch
        )
        loss = {
            "cross_entropy": keras.losses.CategoricalCrossentropy,
            "binary_cross_entropy": keras.losses.BinaryCrossentropy,
        }[recipe.loss]
        self.model.compile(
            make_optimizer(recipe, rate, self.model, accumulate=config.accumulate),
            loss(from_logits=True),
            # Weighted, because the last batch of validation is filled up with images of weight 0.
            weighted_metrics=[
                keras.metrics.CategoricalAccuracy(name="top1"),
                keras.metrics.TopKCategoricalAccuracy(min(5, self.classes), name="top5"),
                keras.metrics.CategoricalCrossentropy(from_logits=True, name="cross_entropy"),
            ],
            jit_compile=self._jit(),
        )
        # Before the first step, so that a checkpoint has somewhere to go.
        self.model.optimizer.build(self.model.trainable_variables)

    def _jit(self) -> bool | str:
        if keras.backend.backend() != "tensorflow":
            return "auto"
        if self.config.jit and self.placement.strategy is not None:
            warnings.warn(
                "jit is off: TensorFlow's XLA does not train under MirroredStrategy.", stacklevel=2
            )
            return False
        return self.config.jit

    def fit(self, folder: RunFolder, *, resume: bool, verbose: int | str) -> Progress:
        """Trains to the end of the recipe, or of the patience."""
        config, recipe = self.config, self.config.recipe
        last = checkpoints.load_last(folder.checkpoints) if resume else None
        progress = Progress() if last is None else last[1]
        self.placement.require_same(
            progress.step,
            "every process must see the same checkpoints; put the run's folder where all machines "
            "find it",
        )
        average = None
        if recipe.ema:
            average = MovingAverage(self.model, recipe.ema, recipe.ema_every)
        interrupts = Interrupts()
        steps = Steps(
            folder,
            progress,
            average,
            interrupts,
            self.placement,
            steps_per_epoch=self.steps_per_epoch,
            every=config.checkpoint_every,
            keep=config.keep,
        )
        recorder = Recorder(
            folder,
            progress,
            patience=config.patience,
            on_best=lambda: self._write_best(folder, average),
            writes=self.placement.is_main,
        )
        drop_block = schedules.DropBlockSchedule(recipe, self.model)
        # In this order: the average is in the model for validation only, and what an epoch brought
        # is in the progress before its checkpoint is written.
        callbacks = [callback for callback in (average, drop_block, recorder, steps) if callback]
        if config.tensorboard and self.placement.is_main:
            callbacks.append(keras.callbacks.TensorBoard(str(folder / "tensorboard")))
        for callback in callbacks:
            callback.set_model(self.model)
        if last is not None:
            path, _, arrays = last
            steps.restore(str(path), arrays)
        with interrupts.noted():
            self._fit_rest(progress, recorder, steps, callbacks, verbose)
        return progress

    def _fit_rest(self, progress, recorder, steps, callbacks, verbose) -> None:
        """What is left: the rest of a begun epoch, and the epochs after it."""
        if len(progress.history) < progress.step // self.steps_per_epoch:
            # Stopped between the last step of an epoch and the end of its validation.
            tests = [callback for callback in callbacks if callback is not recorder]
            measured = self.model.evaluate(
                self.validation(), callbacks=tests, return_dict=True, verbose=verbose
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
                class_weight=self.class_weights,
                callbacks=callbacks,
                shuffle=False,
                verbose=verbose,
            )

    def _ran_out(self, progress: Progress) -> bool:
        """Whether the patience is at an end."""
        patience, history = self.config.patience, progress.history
        return (
            patience is not None
            and bool(history)
            and len(history) - best_epoch(history) >= patience
        )

    def training(self, start_step: int) -> Any:
        """Endless training batches from a step on."""
        return training_batches(
            self.examples["train"],
            self.config.recipe.augmentation,
            image_size=self.config.recipe.image_size,
            batch_size=self.local_batch,
            seed=self.config.seed,
            start_step=start_step,
        )

    def validation(self) -> Any:
        """Batches of validation, whose number Keras is told."""
        import tensorflow as tf

        examples = self.examples["validation"]
        batches = evaluation_batches(
            examples,
            image_size=self.config.eval_image_size,
            crop_pct=self.config.recipe.crop_pct,
            batch_size=self.local_batch,
        )
        steps = evaluation_steps(examples, self.local_batch)
        return batches.apply(tf.data.experimental.assert_cardinality(steps))

    def _write_best(self, folder: RunFolder, average: MovingAverage | None) -> None:
        # All processes exchange the weights, as they compute everything together; one writes.
        with nullcontext() if average is None else average.in_model():
            if self.placement.is_main:
                self._export(folder)

    def _export(self, folder: RunFolder) -> None:
        """Writes the weights: as a whole model that ends in probabilities, and in timm's layout."""
        config, logits = self.config, self.model.output
        function = "softmax" if config.recipe.loss == "cross_entropy" else "sigmoid"
        probabilities = keras.layers.Activation(function, dtype="float32", name="probabilities")(
            logits
        )
        whole = keras.Model(self.model.input, probabilities, name=self.model.name)
        with atomic_write(folder / "best.keras") as unfinished:
            whole.save(unfinished)
        size = config.eval_image_size
        save_safetensors(
            self.model,
            folder / "best.safetensors",
            architecture=config.model,
            metadata={
                "input_size": [3, size, size],
                "crop_pct": config.recipe.crop_pct,
                "interpolation": "bicubic",
                **_normalization(self.model),
                "label_names": list(self.examples["train"].class_names),
            },
        )


def _normalization(model: keras.Model) -> dict[str, list[float]]:
    """Mean and standard deviation that a model's scaling of RGB values 0 to 255 stands for."""
    layer = model.get_layer("normalize")
    std = [1 / (255 * scale) for scale in layer.scale]
    mean = [-offset * deviation for offset, deviation in zip(layer.offset, std, strict=True)]
    return {key: [round(v, 6) for v in values] for key, values in dict(mean=mean, std=std).items()}


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


def build(config: RunConfig, classes: int) -> keras.Model:
    """The model of a run, from RGB values 0 to 255 to logits, with what it freezes frozen.

    Raises:
        ValueError: if the architecture cannot do what the recipe asks, or the weights do not fit.
    """
    recipe = config.recipe
    model = config.variant(
        weights=config.weights,
        classes=classes,
        classifier_activation=None,
        include_preprocessing=True,
        dropout=recipe.dropout,
        drop_path=recipe.drop_path,
        drop_block=recipe.drop_block,
        **recipe.config_changes,
    )
    if config.freeze is not None:
        freeze(model, config.freeze)
    return model


def _class_weights(config: RunConfig, examples: Any) -> dict[int, float] | None:
    """The weight of each class by its index."""
    names = examples.class_names
    if config.class_weights is None:
        return None
    if config.class_weights == "balanced":
        every = examples.source.in_order((0, 1))  # Over all hosts, which have to agree.
        labels = every.map(lambda example: example["label"]).as_numpy_iterator()
        counts = np.bincount(np.fromiter(labels, np.int64), minlength=len(names))
        present = int((counts > 0).sum())
        return {i: counts.sum() / (present * max(n, 1)) for i, n in enumerate(counts)}
    require(
        set(config.class_weights) == set(names),
        f"class_weights must name every class: {', '.join(names)}",
        class_weights=dict(config.class_weights),
    )
    return {i: float(config.class_weights[name]) for i, name in enumerate(names)}


@contextmanager
def _explained(config: RunConfig) -> Iterator[None]:
    """Turns what backends say of memory, data and machines into errors that say what to do."""
    try:
        yield
    except Exception as error:
        explanation = _explanation(error, config)
        if explanation is None:
            raise
        raise explanation from error


def _explanation(error: Exception, config: RunConfig) -> Exception | None:
    text = f"{type(error).__name__}: {error}"
    if keras.backend.backend() == "jax" and re.search("Gloo|NCCL|CoordinationService", text):
        return ConnectionError(
            "all processes of a run must stay: another one is gone or has failed; see what it "
            f"printed. Start all of them again with --resume. ({text.splitlines()[0]})"
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return OSError(
            error.errno,
            f"{error.strerror}. The checkpoints before are as they were: make room, and go on with "
            "--resume",
        )
    if isinstance(error, (DivergedError, ValueError, OSError)):
        return None
    if any(sign in text for sign in ("ResourceExhausted", "RESOURCE_EXHAUSTED", "MemoryError")):
        return OutOfMemory(
            f"a batch of {config.recipe.batch_size} images of {config.recipe.image_size} pixels "
            "does not fit into the device's memory. Try a smaller batch_size with accumulate (half "
            "the batch and twice the accumulated batches keep the learning rate), dtype bfloat16, "
            "or a smaller image_size."
        )
    if "InvalidArgument" in text and config.strict_data:
        return ValueError(f"data must be readable with strict_data. {error}")
    return None


def _finish(config: RunConfig, folder: RunFolder, progress: Progress) -> Evaluation:
    """Evaluates the best weights as they were written, and reports."""
    from keras_resnets.training.report import write_report  # Imports Matplotlib.

    with distribute.on_this_process_alone():
        evaluation = evaluate.evaluate(
            keras.saving.load_model(folder / "best.keras", compile=False),
            load(
                config.data,
                "validation",
                data_dir=config.data_dir,
                seed=config.seed,
                strict=config.strict_data,
            ),
            image_size=config.eval_image_size,
            crop_pct=config.recipe.crop_pct,
            batch_size=min(config.recipe.batch_size, 256),
        )
    write_report(
        folder, config.as_dict(), folder.read_json("versions.json"), progress.history, evaluation
    )
    return evaluation


def versions(placement: Placement) -> dict[str, str]:
    """Versions of what a run rests on, and where it computes."""
    backend = keras.backend.backend()
    module = __import__(backend)
    found = {
        "keras_resnets": keras_resnets.__version__,
        "keras": keras.__version__,
        "backend": f"{backend} {module.__version__}",
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": ", ".join(keras.distribution.list_devices()) if backend != "torch" else "",
        "replicas": str(placement.replicas),
        "processes": str(placement.processes.count),
    }
    if backend != "tensorflow":
        import tensorflow as tf

        found["tensorflow (data)"] = tf.__version__
    return found


# A dry run ---------------------------------------------------------------------------------------


def plan(config: RunConfig, placement: Placement | None = None) -> dict[str, Any]:
    """What a run would do: data, steps, learning rate, parameters, estimated memory.

    Everything is checked as for the run itself and nothing is written.

    Returns:
        Facts by name.
    """
    with _environment(config):
        placement = placement or distribute.place(distribute.find_processes())
        run = Run(config, placement)
        trainable = sum(int(np.prod(v.shape)) for v in run.model.trainable_variables)
        decayed = decayed_variables(run.model)
        memory = estimated_memory(run.model, config, placement.replicas)
    steps = run.steps_per_epoch * config.recipe.epochs
    return {
        "images": {split: examples.count for split, examples in run.examples.items()},
        "classes": run.classes,
        "devices": placement.replicas,
        "steps per epoch": run.steps_per_epoch,
        "steps": steps,
        "effective batch": config.effective_batch,
        "highest learning rate": config.recipe.scaled_learning_rate(config.effective_batch),
        "parameters": run.model.count_params(),
        "trained parameters": trainable,
        "decayed variables": f"{len(decayed)} kernels of {len(run.model.trainable_variables)}",
        "estimated memory a device": f"{memory / 2**30:.2f} GiB",
    }


def estimated_memory(model: keras.Model, config: RunConfig, replicas: int) -> int:
    """Bytes that training takes on a device, roughly: variables, gradients, activations.

    Activations are the outputs of all layers, kept for the backward pass; what a compiler fuses
    away comes off, and the workspace of convolutions comes on top.
    """
    slots = {"sgd": 1, "lamb": 2, "adamw": 2}[config.recipe.optimizer]
    copies = 2 + slots + (config.accumulate > 1) + (config.recipe.ema > 0)
    size = config.recipe.image_size
    outputs = [layer.output for layer in model.layers]
    specs = keras.Function(model.inputs, outputs).compute_output_spec(
        [keras.KerasTensor((1, size, size, 3))]
    )
    width = 4 if config.dtype == "float32" else 2
    activations = sum(int(np.prod(spec.shape)) for spec in keras.tree.flatten(specs)) * width
    return copies * 4 * model.count_params() + activations * config.recipe.batch_size // replicas
