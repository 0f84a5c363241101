"""Several devices of one machine, and several machines, by engines that exist.

One machine: `tf.distribute.MirroredStrategy` on TensorFlow, `keras.distribution.DataParallel` on
JAX, chosen when there is more than one accelerator. Several machines: `MultiWorkerMirroredStrategy`
on TensorFlow, JAX's own processes on JAX. What Keras leaves undone on TensorFlow is in `replicas`.

Models of anybody's train on them, too:

    placement = distribute.place(distribute.find_processes())  # before anything is computed
    with placement.scope():
        model = build()
        optimizer = keras.optimizers.SGD(0.1)
    model = distribute.compiled(model, placement, optimizer=optimizer, loss=...)
    with placement.scope():
        model.fit(
            placement.shared(own_batches),  # of this process' part of the data
            steps_per_epoch=100,
            callbacks=[distribute.Replicas(placement.strategy)],
        )
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import importlib.metadata
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_resnets.checks import is_count, require
from keras_resnets.training import meeting
from keras_resnets.training.processes import ONE, coordinator_by_slurm, share_a_machine
from keras_resnets.training.processes import Processes as Processes
from keras_resnets.training.processes import find_processes as find_processes
from keras_resnets.training.replicas import Replicas as Replicas
from keras_resnets.training.replicas import step_function, sum_before_clipping


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a run computes.

    Attributes:
        processes: all of them and this one.
        replicas: devices that share a batch, over all processes.
        strategy: TensorFlow's strategy, if it has one.
    """

    processes: Processes = ONE
    replicas: int = 1
    strategy: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run's files."""
        return self.processes.index == 0

    @property
    def shard(self) -> tuple[int, int]:
        """Which part of the data this process reads: `(index, count)`."""
        return self.processes.index, self.processes.count

    def scope(self) -> contextlib.AbstractContextManager:
        """Where a model has to be built and compiled."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    @property
    def on_workers(self) -> bool:
        """Whether several processes compute together by TensorFlow's strategy."""
        return self.strategy is not None and self.processes.count > 1

    def shared(self, batches: Any) -> Any:
        """What `fit` takes for this process' part of the data.

        On several workers of TensorFlow it goes on for ever, and Keras has to be told the number of
        steps, the same in all of them: none may wait for one that has no more batches.

        Args:
            batches: a `tf.data.Dataset` of batches of `local_batch` images, which the devices of
                this process share.
        """
        if not self.on_workers:
            return batches
        batches = batches.repeat()
        devices = self.replicas // self.processes.count
        if devices > 1:
            size = keras.tree.flatten(batches.element_spec)[0].shape[0]
            batches = batches.rebatch(size // devices, drop_remainder=True)
        return self.strategy.distribute_datasets_from_function(lambda context: batches)

    def highest(self, number: int) -> int:
        """The highest of the numbers that the processes have; waits for all of them."""
        return int(self._gathered(np.array([number])).max())

    def require_same(self, number: int, rule: str) -> None:
        """Raises ValueError in every process unless all have the same number."""
        numbers = self._gathered(np.array([number]))[:, 0]
        require((numbers == numbers[0]).all(), rule, by_process=numbers.tolist())

    def require_told_the_same(self, told: Mapping[str, Any]) -> None:
        """Raises ValueError in every process, with what differs, unless all were told the same.

        Args:
            told: what this one was told, by name, as JSON takes it.
        """
        if self.processes.count == 1:
            return
        text = np.frombuffer(json.dumps(told).encode(), np.uint8)
        row = np.zeros(self.highest(len(text)), np.uint8)
        row[: len(text)] = text
        rows = self._gathered(row).astype(np.uint8)
        all_told = [json.loads(row.tobytes().rstrip(b"\0")) for row in rows]
        meeting.require_same(all_told)

    def _gathered(self, values: np.ndarray) -> np.ndarray:
        """Whole numbers of all processes, in rows: `(n,)` of each is `(processes, n)`."""
        count, index = self.processes.count, self.processes.index
        if count == 1:
            return values[None]
        if self.strategy is None:
            from jax.experimental import multihost_utils

            rows = multihost_utils.process_allgather(values.astype(np.int32))
            return np.reshape(rows, (count, *values.shape))
        import tensorflow as tf

        rows = np.zeros((count, *values.shape), np.int64)
        rows[index] = values
        return self.strategy.reduce("SUM", tf.constant(rows), axis=None).numpy()

    def local_batch(self, batch_size: int) -> int:
        """Images that this process reads of a batch over all devices.

        Raises:
            ValueError: if the devices cannot share the batch evenly.
        """
        require(
            batch_size % self.replicas == 0,
            f"batch_size must be a multiple of the {self.replicas} devices that share it",
            batch_size=batch_size,
        )
        return batch_size // self.processes.count


def place(processes: Processes, *, devices: int | None = None) -> Placement:
    """Prepares the backend and says where a run computes. Call it before anything is computed.

    Args:
        processes: see `find_processes`.
        devices: how many devices of this machine to use; default: all accelerators. Without
            accelerators so many logical ones are made of the processor, for trying out.

    Raises:
        ValueError: if the backend cannot do it; the message says what can.
    """
    require(
        devices is None or is_count(devices),
        "devices must be a positive int",
        devices=devices,
    )
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _place_tensorflow(processes, devices)
    if backend == "jax":
        return _place_jax(processes, devices)
    require(
        processes.count == 1 and devices in (None, 1),
        f"the backend {backend} trains on one device; use JAX or TensorFlow (KERAS_BACKEND)",
        devices=devices,
        num_processes=processes.count,
    )
    return Placement()


def _place_tensorflow(processes: Processes, devices: int | None) -> Placement:
    import tensorflow as tf

    if processes.count > 1:
        return _place_workers(processes, devices)
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus and devices is not None:
        cpu = tf.config.list_physical_devices("CPU")[0]
        if len(tf.config.get_logical_device_configuration(cpu) or [None]) != devices:
            tf.config.set_logical_device_configuration(
                cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(devices)]
            )
    kind = "GPU" if gpus else "CPU"
    found = [device.name for device in tf.config.list_logical_devices(kind)]
    if devices is None:
        found = found if gpus else found[:1]
    _require_devices(devices, len(found))
    found = found[:devices]
    if len(found) < 2:
        return Placement()
    return Placement(processes, len(found), tf.distribute.MirroredStrategy(found))


def _place_workers(processes: Processes, devices: int | None) -> Placement:
    """Several processes on TensorFlow: they meet, and only then it is started."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if share_a_machine(processes):
        gpus = gpus[int(os.environ["SLURM_LOCALID"]) :][:1] or gpus
    _require_devices(devices, max(len(gpus), 1))
    gpus = gpus[:devices]
    coordinator = processes.coordinator or coordinator_by_slurm()
    told = {
        "keras_resnets": importlib.metadata.version("keras_resnets"),
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "devices a process": max(len(gpus), 1),
        "TF_CONFIG": list(processes.addresses),
    }
    addresses = meeting.meet(
        processes.index,
        processes.count,
        coordinator,
        told=told,
        timeout=processes.start_timeout,
        address=processes.addresses[processes.index] if processes.addresses else None,
    )
    if gpus:
        tf.config.set_visible_devices(gpus, "GPU")
    cluster = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": addresses}),
        task_type="worker",
        task_id=processes.index,
        rpc_layer="grpc",
        num_accelerators={"GPU": len(gpus)},
    )
    message = (
        f"Error: all {processes.count} processes of a run must reach each other within "
        f"{processes.start_timeout:g} s. One has ended since they met, or a port is closed among "
        f"{', '.join(addresses)}."
    )
    with meeting.ended_after(processes.start_timeout, message):
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=cluster)
        except RuntimeError as error:
            raise ValueError(
                "several processes on TensorFlow must be placed before anything is computed; call "
                f"`place` first. ({error})"
            ) from error
        placement = Placement(processes, strategy.num_replicas_in_sync, strategy)
        placement.highest(0)  # The first word between all of them.
    return placement


def _place_jax(processes: Processes, devices: int | None) -> Placement:
    import jax
    import tensorflow as tf

    # TensorFlow reads the data only, and would take the accelerators' memory.
    tf.config.set_visible_devices([], "GPU")
    if devices is not None:
        with contextlib.suppress(RuntimeError):  # Already started, with as many as it has.
            jax.config.update("jax_num_cpu_devices", devices)
    if processes.count > 1:
        # Does nothing where there are accelerators, which bring their own.
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            processes.coordinator,
            processes.count,
            processes.index,
            initialization_timeout=math.ceil(processes.start_timeout),
        )
        if os.environ.get("SLURM_STEP_NUM_NODES") == str(processes.count):
            # One process a machine has all accelerators of it; of Slurm's processes JAX gives each
            # one, as if there were one process for each accelerator.
            jax.config.update("jax_cuda_visible_devices", "all")
            jax.config.update("jax_rocm_visible_devices", "all")
    local = jax.local_devices()
    _require_devices(devices, len(local))
    sharing = jax.devices()
    if processes.count == 1:
        sharing = sharing[:devices]
    if len(sharing) < 2:
        return Placement(processes)
    # Each process reads its own part of the data already.
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(
            devices=[str(device) for device in keras.distribution.list_devices()[: len(sharing)]],
            auto_shard_dataset=False,
        )
    )
    return Placement(processes, len(sharing))


@contextlib.contextmanager
def failing_together(processes: Processes, agreed: tuple[type[BaseException], ...]) -> Iterator:
    """Lets no process wait for one that fails: its end is the end of the others, too.

    At the end of a program the backend waits for the other processes; they would wait for this
    one's part of the next step. So a process that alone raises something skips that when it ends;
    its connections close, which the others notice at once.

    Args:
        processes: all of them and this one.
        agreed: what all processes raise at the same step, after which they end as usual.
    """
    try:
        yield
    except agreed:
        raise
    except BaseException as error:
        if processes.count > 1:
            # Runs before what was registered earlier, the backend's waiting among it.
            atexit.register(_end_at_once, 130 if isinstance(error, KeyboardInterrupt) else 1)
        raise


@contextlib.contextmanager
def on_this_process_alone() -> Iterator[None]:
    """Models that are made here compute without the other processes and devices."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def _end_at_once(exit_code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def _require_devices(devices: int | None, found: int) -> None:
    require(
        devices is None or devices <= found,
        f"devices must be at most the {found} that this machine has",
        devices=devices,
    )


def synchronize_batch_norms(model: keras.Model, placement: Placement) -> None:
    """Lets batch norms take their statistics over all devices. Call it before `compile`.

    On JAX they always do, since the batch is one array there.

    Raises:
        ValueError: on a backend that has no such thing.
    """
    backend = keras.backend.backend()
    require(
        backend in ("tensorflow", "jax"),
        "sync_bn needs TensorFlow or JAX",
        backend=backend,
    )
    if backend == "tensorflow" and placement.replicas > 1:
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True


def compiled(
    model: keras.Model, placement: Placement, *, optimizer: keras.Optimizer, **arguments: Any
) -> keras.Model:
    """A model that is compiled to train where a placement says.

    Args:
        model: built in `placement.scope()`.
        placement: see `place`.
        optimizer: made in `placement.scope()`, new.
        **arguments: of `model.compile`; metrics that are no mere names are made there, too.

    Returns:
        A model of the same layers. Call `fit` and `evaluate` in `placement.scope()`, with
        `Replicas` among the callbacks.

    Raises:
        ValueError: if the model, the optimizer or a metric was made elsewhere, or asks for what
            several devices cannot do.

    Example:

    >>> model = compiled(model, placement, optimizer=optimizer, loss="categorical_crossentropy")
    """
    strategy = placement.strategy
    if strategy is None:
        model.compile(optimizer, **arguments)
        # Before the first step, so that a checkpoint has somewhere to go.
        model.optimizer.build(model.trainable_variables)
        return model
    _check_compiled(model, optimizer, strategy, arguments)
    if placement.on_workers:
        # Outside the scope, so that `fit` leaves the strategy to the functions below: its own way
        # of looking at the first batch fails where that lies on several machines.
        model = keras.Model(model.input, model.output, name=model.name)
    with strategy.scope():
        model.compile(optimizer, **arguments)
        model.optimizer.build(model.trainable_variables)
    sum_before_clipping(model.optimizer, strategy)
    if placement.on_workers:
        model.train_function = step_function(model.train_step, strategy)
        model.test_function = step_function(model.test_step, strategy)
    return model


def _check_compiled(
    model: keras.Model, optimizer: keras.Optimizer, strategy: Any, arguments: Mapping[str, Any]
) -> None:
    import tensorflow as tf

    require(
        not tf.distribute.has_strategy(),
        "compiled must be called outside placement.scope()",
        strategy=type(strategy).__name__,
    )
    metrics = keras.tree.flatten([arguments.get(key) for key in ("metrics", "weighted_metrics")])
    made = {"model": model, "optimizer": optimizer} | {
        f"metric {metric.name}": metric for metric in metrics if isinstance(metric, keras.Metric)
    }
    for name, having in made.items():
        require(
            all(
                isinstance(variable.value, tf.distribute.DistributedValues)
                for variable in having.variables
            ),
            f"the {name} must be made in placement.scope()",
            devices=strategy.num_replicas_in_sync,
        )
    require(
        bool(model.inputs) and type(model).train_step is keras.Model.train_step,
        "the model must be a functional or sequential one, with the steps of keras.Model",
        model=type(model).__name__,
    )
    require(
        not optimizer.gradient_accumulation_steps,
        "gradient_accumulation_steps must be left out with several devices on TensorFlow, which "
        "cannot add up gradients inside a condition; take larger batches",
        gradient_accumulation_steps=optimizer.gradient_accumulation_steps,
    )
    require(
        arguments.get("steps_per_execution", 1) == 1 and not arguments.get("run_eagerly"),
        "steps_per_execution and run_eagerly must be left out with several devices on TensorFlow",
        **{key: arguments.get(key) for key in ("steps_per_execution", "run_eagerly")},
    )
