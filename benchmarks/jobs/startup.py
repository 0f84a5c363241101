"""What a new process needs until it trains: time by phase, and memory. Each job runs once."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import psutil


def keras_phases(
    source: str, package: str, variant: str, size: int, batch: int, steps: int
) -> dict[str, float]:
    """Phases of a Keras project on the backend of this process.

    Args:
        source: a key of `keras_model.SOURCES`.
        package: what a user imports to get it.
        variant: name of the network.
        size: height and width of the images.
        batch: images a step.
        steps: training steps; 0 to build only.

    Returns:
        Seconds of `"import"` (framework and package), `"build"` and `"first step"`; bytes of
        `"memory before"`, held when everything is imported, and of `"peak memory"`, the most that
        the process held in its life.
    """
    watch = _Watch()
    importlib.import_module(package)
    watch.end("import")
    before = resident_bytes()
    from benchmarks.jobs import keras_model

    watch.restart()
    if not steps:
        keras_model.build(source, variant, size, "float32")
        watch.end("build")
        return watch.seconds
    step = keras_model.training_step(source, variant, size, batch, "float32", False)
    watch.end("build")
    return _steps(step, steps, watch, before)


def torch_phases(variant: str, size: int, batch: int, steps: int) -> dict[str, float]:
    """The same for timm."""
    watch = _Watch()
    # With what timm needs to be imported: its own import is inside.
    from benchmarks.jobs import torch_model

    watch.end("import")
    before = resident_bytes()
    watch.restart()
    if not steps:
        torch_model.create(variant)
        watch.end("build")
        return watch.seconds
    step = torch_model.training_step(variant, size, batch, "float32", False)
    watch.end("build")
    return _steps(step, steps, watch, before)


def _steps(step: Callable[[], Any], steps: int, watch: _Watch, before: int) -> dict[str, float]:
    watch.restart()
    step()
    watch.end("first step")
    for _ in range(steps - 1):
        step()
    return {**watch.seconds, "memory before": before, "peak memory": peak_bytes()}


class _Watch:
    """Seconds of named phases."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.restart()

    def restart(self) -> None:
        self.began = time.perf_counter()

    def end(self, phase: str) -> None:
        self.seconds[phase] = time.perf_counter() - self.began


def resident_bytes() -> int:
    """What the process holds now."""
    return psutil.Process().memory_info().rss


def peak_bytes() -> int:
    """The most that the process has held so far."""
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
