"""Builds the package and uses it from empty environments, one for each backend: `make test-wheel`.

    python tools/try_wheel.py                        # what continuous integration runs
    python tools/try_wheel.py torch tensorflow       # of these backends only
    python tools/try_wheel.py --every-python jax     # on every Python that is declared

Each environment gets the wheel with the extra of its backend, at the releases in constraints.txt,
and runs tools/smoke_test.py. Then pip is asked what the other extras would install beside it: no
extra but a backend's may bring or change a backend. The environment of TensorFlow really gets them
and is tried once more.

`python -m build` makes the wheel out of the sdist, so that is complete as well. Pythons are looked
for by name (`python3.12`) on the PATH; one that is declared and not there is said to be left out.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# The extra that brings each backend here, and how one knows the backend's distributions.
BACKENDS = {"tensorflow": "tensorflow-cpu", "jax": "jax", "torch": "torch"}
DISTRIBUTIONS = ("tensorflow", "tensorflow-cpu", "tf-nightly", "jax", "jaxlib", "torch", "keras")
WORK = ("export", "serve", "training")  # The extras that must go with any backend.
DROPPED = ("KERAS_BACKEND", "PYTHONPATH")  # The package has to find its backend by itself.
SECOND = "jax"  # What the other Pythons are tried with: the smallest.


def run(*command: object, **settings: object) -> str:
    """What the command printed; what it said of an error ends the program."""
    output = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    done = subprocess.run(list(map(str, command)), **output, **settings)
    if done.returncode:
        line = " ".join(map(str, command))
        raise RuntimeError(f"{line} failed with {done.returncode}:\n{done.stdout[-6000:]}")
    return done.stdout


def build(folder: Path) -> Path:
    """The wheel, which holds every file of the package and no others."""
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    package = ROOT / "keras_resnets"
    kept = {
        path.relative_to(ROOT).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        built = {name for name in archive.namelist() if ".dist-info/" not in name}
    if kept != built:
        raise RuntimeError(f"the wheel must hold the package's files. Not in both: {kept ^ built}")
    print(f"{wheel.name}: {len(built)} files, {wheel.stat().st_size / 1e6:.2f} MB", flush=True)
    return wheel


def installed_python(name: str) -> str | None:
    """The interpreter of this name, if it runs: a version manager leaves names that do not."""
    path = shutil.which(name)
    works = path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0
    return path if works else None


def backends_of(packages: list[dict]) -> dict[str, str]:
    """The distributions of backends and their releases; tensorflow_cpu is tensorflow-cpu."""
    named = {package["name"].lower().replace("_", "-"): package["version"] for package in packages}
    return {name: named[name] for name in DISTRIBUTIONS if name in named}


def ask_pip(python: Path, *arguments: object) -> Any:
    """pip's answer in JSON; what it has to remark goes to stderr."""
    command = [python, "-m", "pip", *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def installed(python: Path) -> dict[str, str]:
    return backends_of(ask_pip(python, "list", "--format", "json"))


def would_install(python: Path, wheel: Path, extra: str) -> dict[str, str]:
    """The backends that pip would install or replace; without our pins, as for a user."""
    options = ("--quiet", "--dry-run", "--report", "-")
    report = ask_pip(python, "install", *options, f"{wheel}[{extra}]")
    return backends_of([package["metadata"] for package in report["install"]])


def try_out(interpreter: str, backend: str, wheel: Path) -> str:
    """Makes an environment, uses the package in it and removes it; the report of what happened."""
    start = time.monotonic()
    lines = []
    with tempfile.TemporaryDirectory(prefix="keras-resnets-") as folder:
        run(interpreter, "-m", "venv", folder)
        python = Path(folder, "bin", "python")
        install = (python, "-m", "pip", "install", "--quiet")
        smoke = (python, "-P", ROOT / "tools" / "smoke_test.py", backend)
        environment = {
            **{key: value for key, value in os.environ.items() if key not in DROPPED},
            "CUDA_VISIBLE_DEVICES": "",
            "JAX_PLATFORMS": "cpu",
            "KERAS_HOME": folder,
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
        run(*install, "--upgrade", "pip")
        run(*install, "-c", CONSTRAINTS, f"{wheel}[{BACKENDS[backend]}]")
        lines.append(run(*smoke, cwd=folder, env=environment))
        found = installed(python)
        if not set(found) > {"keras"}:
            raise RuntimeError(f"no backend is found by its name: {found}")
        for extra in WORK:
            brought = would_install(python, wheel, extra)
            if brought:
                raise RuntimeError(f"beside {found}, the extra {extra!r} would install {brought}")
        if backend == "tensorflow":
            run(*install, "-c", CONSTRAINTS, f"{wheel}[{','.join(WORK)}]")
            if installed(python) != found:
                raise RuntimeError(f"the extras changed {found} to {installed(python)}")
            lines.append(run(*smoke, "export", "training", cwd=folder, env=environment))
    lines.append(f"{time.monotonic() - start:.0f} s, with {found}\n")
    return "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("backends", nargs="*", metavar="BACKEND")
    parser.add_argument("--every-python", action="store_true", help="Each backend on each Python.")
    arguments = parser.parse_args()
    backends = arguments.backends or list(BACKENDS)
    if not set(backends) <= set(BACKENDS):
        parser.error(f"BACKEND must be one of {', '.join(BACKENDS)}. Received: {backends}")
    trials = [(sys.executable, backend) for backend in backends]
    heading = "Programming Language :: Python :: 3."
    for classifier in PROJECT["classifiers"]:
        version = classifier.removeprefix(heading)
        if version == classifier or int(version) == sys.version_info.minor:
            continue
        interpreter = installed_python(f"python3.{version}")
        if interpreter is None:
            print(f"LEFT OUT: Python 3.{version}, because no python3.{version} is on the PATH")
        elif arguments.every_python:
            trials += [(interpreter, backend) for backend in backends]
        elif SECOND in backends:
            trials.append((interpreter, SECOND))

    failed = False
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        # Two at once: while one waits for a download the other computes.
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            results = {pool.submit(try_out, *trial, wheel): trial for trial in trials}
            for result in concurrent.futures.as_completed(results):
                print(f"--- {' '.join(results[result])}")
                try:
                    print(result.result(), flush=True)
                except Exception as error:
                    failed = True
                    print(f"FAILED: {error}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
