"""The processes of a run on several machines, and who says which they are."""

from __future__ import annotations

import dataclasses
import json
import os
import re

import keras

from keras_resnets.checks import is_count, is_number, require

_FIRST_PORT, _PORTS = 61440, 4096  # As JAX chooses a port by the number of Slurm's job.


@dataclasses.dataclass(frozen=True)
class Processes:
    """The processes of a run, one a machine.

    Attributes:
        count: how many there are.
        index: which one this is.
        coordinator: `HOST:PORT` of the first; None if there is only this one, or if it is to be
            found by what Slurm says.
        addresses: `HOST:PORT` of each, if `TF_CONFIG` has them.
        start_timeout: seconds to wait for those that have not started yet.
    """

    count: int = 1
    index: int = 0
    coordinator: str | None = None
    addresses: tuple[str, ...] = ()
    start_timeout: float = 300


ONE = Processes()


def find_processes(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    start_timeout: float = Processes.start_timeout,
) -> Processes:
    """The processes of this run: what is given, else what `TF_CONFIG` says or `srun` has started.

    Args:
        coordinator: `HOST:PORT` of the first process. Left out under `srun`, it is found.
        num_processes: how many there are.
        process_id: which one this is, from 0.
        start_timeout: seconds to wait for those that have not started yet.

    Raises:
        ValueError: if the three do not make sense together.
    """
    require(
        is_number(start_timeout) and start_timeout > 0,
        "start_timeout must be a positive number of seconds",
        start_timeout=start_timeout,
    )
    stated = os.environ.get("TF_CONFIG") if keras.backend.backend() == "tensorflow" else None
    if stated and (coordinator, num_processes, process_id) == (None, None, None):
        addresses, index = _read_tf_config(stated)
        if len(addresses) > 1:
            return Processes(len(addresses), index, addresses[0], addresses, start_timeout)
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
    return Processes(num_processes, process_id, coordinator, start_timeout=start_timeout)


def _read_tf_config(text: str) -> tuple[tuple[str, ...], int]:
    """The addresses of all processes, a chief first, and which of them this one is."""
    rule = (
        "TF_CONFIG must be JSON with the addresses of a cluster of workers (and a chief), and a "
        'task among them, such as {"cluster": {"worker": ["a:61440", "b:61440"]}, "task": {"type": '
        '"worker", "index": 0}}'
    )
    try:
        stated = json.loads(text)
        cluster, task = stated.get("cluster", {}), stated.get("task", {})
        known = [
            (kind, i) for kind in ("chief", "worker") for i in range(len(cluster.get(kind, ())))
        ]
        addresses = tuple(cluster[kind][i] for kind, i in known)
        if not cluster:
            return (), 0
        index = known.index((task["type"], int(task["index"])))
        fits = not cluster.keys() - {"chief", "worker"}
    except (AttributeError, KeyError, TypeError, ValueError):
        fits = False
    require(
        fits and all(re.fullmatch(r".+:\d+", str(address)) for address in addresses),
        rule,
        TF_CONFIG=text,
    )
    return addresses, index


def coordinator_by_slurm() -> str:
    """Where the first process of a step of Slurm's listens: on its first machine."""
    name, number = re.match(r"([^,\[]+)(?:\[(\d+))?", os.environ["SLURM_STEP_NODELIST"]).groups()
    port = _FIRST_PORT + int(os.environ["SLURM_JOB_ID"]) % _PORTS
    return f"{name}{number or ''}:{port}"


def share_a_machine(processes: Processes) -> bool:
    """Whether Slurm has started more processes than there are machines."""
    machines = os.environ.get("SLURM_STEP_NUM_NODES")
    return "SLURM_LOCALID" in os.environ and machines not in (None, str(processes.count))
