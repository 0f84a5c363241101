"""Several devices of one machine, and several machines, by engines that exist.

One machine: `tf.distribute.MirroredStrategy` on TensorFlow, `keras.distribution.DataParallel` on
JAX, chosen when there is more than one accelerator. Several machines: JAX only. Keras 3 does not
work with `MultiWorkerMirroredStrategy` (`fit` raises on its per-replica values), so that is refused
at once, with the way out.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_resnets.checks import is_count, require


@dataclasses.dataclass(frozen=True)
class Processes:
    """The processes of a run, one a machine.

    Attributes:
        count: how many there are.
        index: which one this is.
        coordinator: `HOST:PORT` of the first; None if there is only this one, or if JAX is to find
            the first by itself.
    """

    count: int = 1
    index: int = 0
    coordinator: str | None = None


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a run computes.

    Attributes:
        processes: all of them and this one.
        replicas: devices that share a batch, over all processes.
        strategy: TensorFlow's strategy, if it has one.
    """

    processes: Processes = Processes()
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

    def highest(self, number: int) -> int:
        """The highest of the numbers that the processes have; waits for all of them."""
        return int(self._gathered(number).max())

    def require_same(self, number: int, rule: str) -> None:
        """Raises ValueError in every process unless all have the same number."""
        numbers = self._gathered(number)
        require((numbers == numbers[0]).all(), rule, by_process=numbers.tolist())

    def _gathered(self, number: int) -> np.ndarray:
        if self.processes.count == 1:
            return np.array([number])
        from jax.experimental import multihost_utils

        return np.ravel(multihost_utils.process_allgather(np.int32(number)))

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


def find_processes(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Processes:
    """The processes of this run: what is given, else those that Slurm's `srun` has started.

    Args:
        coordinator: `HOST:PORT` of the first process. What is left out under `srun`, JAX finds.
        num_processes: how many there are.
        process_id: which one this is, from 0.

    Raises:
        ValueError: if the three do not make sense together.
    """
    tasks = int(os.environ.get("SLURM_NTASKS", 1))
    by_slurm = "SLURM_STEP_NODELIST" in os.environ and tasks > 1  # In a step, not beside one.
    if by_slurm:
        num_processes = num_processes or tasks
        process_id = int(os.environ["SLURM_PROCID"]) if process_id is None else process_id
    if num_processes in (None, 1) and coordinator is None and process_id in (None, 0):
        return Processes()
    received = dict(coordinator=coordinator, num_processes=num_processes, process_id=process_id)
    require(
        is_count(num_processes) and is_count(process_id, 0) and process_id < num_processes,
        "num_processes must be a positive int and process_id one from 0 to below it",
        **received,
    )
    require(
        (coordinator is None and by_slurm)
        or (isinstance(coordinator, str) and re.fullmatch(r".+:\d+", coordinator) is not None),
        "coordinator must be HOST:PORT of the first process",
        **received,
    )
    return Processes(num_processes, process_id, coordinator)


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

    require(
        processes.count == 1 and '"worker"' not in os.environ.get("TF_CONFIG", ""),
        "Keras 3 on TensorFlow does not train on several machines. Set KERAS_BACKEND=jax and start "
        "the same command on each machine with --coordinator HOST:PORT --num-processes N "
        "--process-id I; or use the devices of one machine",
        num_processes=processes.count,
        TF_CONFIG=os.environ.get("TF_CONFIG"),
    )
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
        jax.distributed.initialize(processes.coordinator, processes.count, processes.index)
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

    At the end of a program JAX waits for the other processes; they would wait for this one's part
    of the next step. So a process that alone raises something skips that when it ends; its
    connections close, which the others notice at once.

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
            # Runs before what was registered earlier, JAX's waiting among it.
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
