"""Runs contenders against each other: one process each, timed in turn, in one run.

The parent asks every contender of a case to prepare and warm up, then for one timed round after the
other: A, B, C, B, C, A, ... While one works all others are stopped (SIGSTOP), because the threads
of several runtimes go on spinning for a while after their work is done, and telling them not to
(`OMP_WAIT_POLICY=PASSIVE`) would slow PyTorch down.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.results import CaseResult, Measured

ROOT = Path(__file__).resolve().parents[1]


LEAD_IN_SECONDS = 0.1
"""Of untimed calls at the start of a round: while others worked, caches and threads went cold."""

LONG_CALL = 1.0
"""Seconds of a call from which on a cold start does not matter, and a lead-in would cost much."""


@dataclasses.dataclass(frozen=True)
class Contender:
    """Who takes part in a case, and how its process prepares the work.

    Attributes:
        name: as in tables; contenders of one name share a process from case to case.
        project: who made it; decides its colour.
        job: `"module:function"`, see `worker.py`.
        arguments: keyword arguments of the job, as JSON.
        environment: variables of its process, such as `KERAS_BACKEND`.
    """

    name: str
    project: str
    job: str
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    environment: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Case:
    """The same work for several contenders; the fields are those of `CaseResult`."""

    key: str
    facts: dict[str, Any]
    contenders: tuple[Contender, ...]
    baseline: str


def between(case: Case, patterns: Iterable[str]) -> Case:
    """The case with its baseline and those contenders whose name matches a pattern."""
    chosen = tuple(
        contender
        for contender in case.contenders
        if contender.name == case.baseline
        or any(fnmatch.fnmatch(contender.name, pattern) for pattern in patterns)
    )
    return dataclasses.replace(case, contenders=chosen)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long to measure.

    Attributes:
        rounds: timed rounds of each contender.
        round_seconds: what a round should take at least; short calls are repeated to fill it.
        warm_up_seconds: what a warm-up should take at least.
        most_warm_up_seconds: when a warm-up ends, even if it had only two calls.
        most_seconds: what all rounds of a contender may take; slow ones get fewer, at least one.
    """

    rounds: int
    round_seconds: float
    warm_up_seconds: float
    most_warm_up_seconds: float
    most_seconds: float


class WorkerError(RuntimeError):
    """What a worker answered instead of a result, or that it died or took too long."""


class Worker:
    """A process that runs `benchmarks.worker`, stopped while it is not asked anything."""

    def __init__(self, environment: dict[str, str], threads: int, log: Path) -> None:
        self.log = log.open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            cwd=ROOT,
            env={**os.environ, **_common_environment(threads), **environment},
            # A group of its own: should the parent be killed, the system wakes and ends it.
            process_group=0,
        )
        # The same cores for everybody: each runtime makes as many threads as it may use cores.
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self.process.pid, sorted(os.sched_getaffinity(0))[:threads])

    def ask(self, command: str, timeout: float, **arguments: Any) -> Any:
        """Sends a command and returns the answer.

        Raises:
            WorkerError: if the worker answers with an error, ends, or takes longer than `timeout`
                seconds. In the last two cases it is gone.
        """
        process = psutil.Process(self.process.pid)
        process.resume()
        line = json.dumps({"do": command, **arguments}) + "\n"
        try:
            self.process.stdin.write(line.encode())
            self.process.stdin.flush()
            answer = json.loads(self._read_line(timeout))
        except (OSError, ValueError, psutil.Error) as error:
            self.close()
            raise WorkerError(f"its process ended while asked to {command} ({error})") from error
        process.suspend()
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["answer"]

    def _read_line(self, timeout: float) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(timeout):
                raise TimeoutError(f"no answer within {timeout:.0f} s")
        return self.process.stdout.readline()

    def close(self) -> None:
        """Ends the process. A stopped one hears nothing but this."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.log.close()

    @property
    def alive(self) -> bool:
        return self.process.returncode is None


def _common_environment(threads: int) -> dict[str, str]:
    return {
        "OMP_NUM_THREADS": str(threads),
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": str(threads),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # No pool of compiling processes, which could not be stopped together with their parent.
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "BENCHMARK_THREADS": str(threads),
    }


@contextlib.contextmanager
def workers(threads: int, log: Path) -> Iterator[Callable[[Contender], Worker]]:
    """Gives the process of a contender, starting it when it is needed first; ends all at the end.

    What frameworks print goes to `log`.
    """
    running: dict[str, Worker] = {}

    def of(contender: Contender) -> Worker:
        worker = running.get(contender.name)
        if worker is None or not worker.alive:
            worker = running[contender.name] = Worker(contender.environment, threads, log)
        return worker

    try:
        yield of
    finally:
        for worker in running.values():
            if worker.alive:
                worker.close()


def measure(
    cases: Iterable[Case],
    plan: Plan,
    run: str,
    worker_of: Callable[[Contender], Worker],
    timeout: float,
    tell: Callable[[str], None],
) -> Iterator[CaseResult]:
    """Measures cases one after the other, each with its contenders in turn.

    Args:
        cases: what to measure.
        plan: how long.
        run: key of the run, kept in each result.
        worker_of: gives the process of a contender, see `workers`.
        timeout: seconds that one answer may take; who needs more is out of the case.
        tell: gets a line of progress now and then.

    Yields:
        The result of each case as soon as it is measured.
    """
    for case in cases:
        tell(case.key)
        values: dict[str, list[float]] = {}
        errors: dict[str, str] = {}
        calls: dict[str, int] = {}
        lead_in: dict[str, float] = {}
        rounds: dict[str, int] = {}
        for contender in case.contenders:
            began = time.perf_counter()
            try:
                seconds = worker_of(contender).ask(
                    "prepare",
                    timeout,
                    job=contender.job,
                    arguments=contender.arguments,
                    warm_up=plan.warm_up_seconds,
                    at_most=plan.most_warm_up_seconds,
                )
            except WorkerError as error:
                errors[contender.name] = str(error)
                tell(f"  {contender.name}: {error}")
                continue
            prepared = time.perf_counter() - began
            tell(f"  {contender.name}: {seconds:.4g} s when warm, after {prepared:.0f} s")
            calls[contender.name] = max(1, round(plan.round_seconds / seconds))
            round_seconds = calls[contender.name] * seconds
            lead_in[contender.name] = LEAD_IN_SECONDS if seconds < LONG_CALL else 0.0
            rounds[contender.name] = max(
                1, min(plan.rounds, int(plan.most_seconds / round_seconds))
            )
            values[contender.name] = []
        ready = [contender for contender in case.contenders if contender.name in values]
        for number in range(plan.rounds):
            for contender in in_turn(ready, number):
                name = contender.name
                if name in errors or number >= rounds[name]:
                    continue
                try:
                    seconds = worker_of(contender).ask(
                        "time", timeout, calls=calls[name], lead_in=lead_in[name]
                    )
                    values[name].append(seconds)
                except WorkerError as error:
                    errors[name] = str(error)
                    tell(f"  {name}: {error}")
        for contender in ready:
            with contextlib.suppress(WorkerError):
                worker_of(contender).ask("drop", timeout)
        yield CaseResult(
            case.key,
            case.facts,
            "s",
            case.baseline,
            run,
            {
                contender.name: Measured(contender.project, error=errors[contender.name])
                if contender.name in errors
                else Measured(contender.project, values[contender.name])
                for contender in case.contenders
            },
        )


def report_once(
    contender: Contender, worker_of: Callable[[Contender], Worker], timeout: float
) -> Any:
    """What a contender's job returns in a process that has done nothing else and ends then.

    Raises:
        WorkerError: if it fails, or takes longer than `timeout` seconds.
    """
    worker = worker_of(contender)
    try:
        return worker.ask("report", timeout, job=contender.job, arguments=contender.arguments)
    finally:
        if worker.alive:
            worker.close()


def in_turn(contenders: list[Contender], number: int) -> list[Contender]:
    """The order of a round: every contender is first, second, ... equally often."""
    start = number % len(contenders) if contenders else 0
    return contenders[start:] + contenders[:start]


def now() -> str:
    """Key of a run: when it began, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S")
