"""Measures tf.data pipelines against each other, in one process and in turn."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from benchmarks import machine
from keras_resnets.training import bench_data

FOLDER = Path(__file__).parent / "results"
WARM_UP = 2.0  # Seconds in which tf.data finds out how many threads each stage needs.


def in_turn(
    contenders: Mapping[str, Callable[[], tf.data.Dataset]],
    batch_size: int,
    *,
    rounds: int,
    seconds: float,
) -> dict[str, list[float]]:
    """Images a second of each contender in each round: A, B, C, B, C, A, ...

    A contender is what makes its endless dataset of batches. A dataset is made and started anew
    for each round, so that none has batches in its buffers from the time when others worked.
    """
    names = list(contenders)
    measured = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            delivered = bench_data.throughput(
                contenders[name](), batch_size, seconds=seconds, warm_up=WARM_UP
            )
            measured[name].append(delivered.images_per_second)
    return measured


def report(measured: Mapping[str, list[float]], out: Path, baselines: Mapping[str, str]) -> None:
    """Prints medians, spread and ratios to baselines, and writes them as JSON with the rounds."""
    medians = {name: statistics.median(rounds) for name, rounds in measured.items()}
    results = {}
    for name, rounds in measured.items():
        results[name] = {"median": medians[name], "least": min(rounds), "most": max(rounds)}
        line = f"{name:40} {medians[name]:7.0f} images/s ({min(rounds):.0f} to {max(rounds):.0f})"
        if name in baselines:
            ratio = medians[name] / medians[baselines[name]]
            results[name]["baseline"] = baselines[name]
            results[name]["ratio"] = ratio
            line += f", {ratio:.2f} times {baselines[name]}"
        print(line)
        results[name]["rounds"] = rounds
    document: dict[str, Any] = {
        "machine": machine.describe(os.cpu_count() or 1),
        "images_per_second": results,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=2) + "\n")
