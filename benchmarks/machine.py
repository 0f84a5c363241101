"""The machine and the software that a measurement was made with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    "keras keras-resnets numpy tensorflow tensorflow-cpu jax jaxlib torch timm torchvision "
    "keras-hub zeromodels onnxruntime openvino ai-edge-litert tf2onnx onnx"
).split()

# Instruction sets that decide how fast a convolution can be.
FLAGS = (
    "avx2 avx512f avx512_vnni avx512_bf16 avx_vnni amx_tile amx_bf16 amx_int8 asimd bf16 i8mm sve"
).split()


def describe(threads: int) -> dict[str, Any]:
    """Processor, memory, system and the release of every package that takes part."""
    processor, flags = _processor()
    return {
        "processor": processor,
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "logical_cores": os.cpu_count(),
        "threads": threads,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": _gpus(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": versions(),
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two descriptions are of machines of one kind, used in the same way."""
    return all(one[key] == other[key] for key in ("processor", "logical_cores", "threads", "gpus"))


def versions() -> dict[str, str]:
    """The releases of those of `PACKAGES` that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def in_words(machine: dict[str, Any]) -> str:
    """The machine in one line, for tables and plots."""
    flags = ", ".join(machine["flags"]) or "no vector extensions named"
    gpus = "".join(f", {gpu}" for gpu in machine["gpus"])
    return (
        f"{machine['processor']} ({flags}), {machine['threads']} threads, "
        f"{machine['memory_gib']} GiB{gpus}"
    )


def _processor() -> tuple[str, set[str]]:
    """Name and flags of the processor, as far as the system tells."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine(), set()
    pairs = dict(
        (part.strip() for part in line.split(":", 1))
        for line in path.read_text().splitlines()
        if ":" in line
    )
    name = pairs.get("model name", platform.machine())
    family = [pairs[key] for key in ("cpu family", "model") if key in pairs]
    described = f"{name} (family {family[0]}, model {family[1]})" if len(family) == 2 else name
    return described, set((pairs.get("flags") or pairs.get("Features", "")).split())


def _gpus() -> list[str]:
    """Names of NVIDIA's GPUs."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.split("\n")[:-1]
    except OSError:
        return []
