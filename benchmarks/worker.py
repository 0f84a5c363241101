"""The process of one contender: prepares calls, and times them when it is asked to.

    python -m benchmarks.worker

It reads commands from standard input and answers on standard output, a JSON object a line:

    {"do": "prepare", "job": "benchmarks.jobs.torch_model:training_step", "arguments": {...},
     "warm_up": seconds, "at_most": seconds}  -> {"answer": seconds of its shortest call}
    {"do": "time", "calls": 3, "lead_in": seconds}  -> {"answer": seconds a call, the mean of three}
    {"do": "report", "job": ..., "arguments": {...}}  -> {"answer": what the job returned}
    {"do": "drop"}                -> {"answer": null}; what was prepared is gone

A job of `prepare` is a function that returns a function without arguments, which does the work once
and returns when it is done. What fails is answered with {"error": "ValueError: ..."}.
"""

import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

MINIMUM_CALLS = 3
"""Calls of a warm-up: tracing, allocation and caches take the first few."""


def resolve(job: str) -> Callable[..., Any]:
    """The function that `"package.module:function"` names."""
    module, _, function = job.partition(":")
    return getattr(importlib.import_module(module), function)


def settle(call: Callable[[], None], at_least: float, at_most: float) -> float:
    """Warms up for a number of seconds; returns those that the shortest call took.

    The first call, which traces and compiles, does not count. After `at_most` no further call is
    begun, however few there were: some take minutes.
    """
    call()
    began = time.perf_counter()
    seconds: list[float] = []
    while True:
        before = time.perf_counter()
        call()
        now = time.perf_counter()
        seconds.append(now - before)
        settled = len(seconds) + 1 >= MINIMUM_CALLS and now - began >= at_least
        if settled or now - began >= at_most:
            return min(seconds)


def mean_seconds(call: Callable[[], None], calls: int, lead_in: float) -> float:
    """Seconds a call, after untimed ones for `lead_in` seconds (none if it is 0)."""
    began = time.perf_counter()
    while time.perf_counter() - began < lead_in:
        call()
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls


class Session:
    """Obeys one command after the other."""

    def __init__(self) -> None:
        self.call: Callable[[], None] | None = None

    def prepare(self, job: str, arguments: dict[str, Any], warm_up: float, at_most: float) -> float:
        self.drop()
        self.call = resolve(job)(**arguments)
        return settle(self.call, warm_up, at_most)

    def time(self, calls: int, lead_in: float) -> float:
        return mean_seconds(self.call, calls, lead_in)

    def report(self, job: str, arguments: dict[str, Any]) -> Any:
        return resolve(job)(**arguments)

    def drop(self) -> None:
        self.call = None
        keras = sys.modules.get("keras")
        if keras is not None:
            keras.utils.clear_session()
        gc.collect()


def main() -> None:
    # Frameworks print to standard output, which carries the answers: let them print to the log.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    session = Session()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = {"answer": getattr(session, command.pop("do"))(**command)}
        except Exception as error:
            traceback.print_exc()
            message = " ".join(f"{type(error).__name__}: {error}".split())
            answer = {"error": message[:300]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
