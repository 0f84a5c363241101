"""Uses an installed keras_resnets as its user would; tools/try_wheel.py runs it.

    python -P tools/smoke_test.py jax                           # with this backend and no other
    python -P tools/smoke_test.py tensorflow export training    # with these extras as well

Needs nothing but the package. It builds, saves and reloads a small network of every family, asks
the command, and exports and trains where the extras for it are said to be there: they are not
looked for, because a missing one is what this is to find.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.resources
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

# Before Keras: with one backend installed, the package has it choose that.
import keras_resnets as kr

# isort: split
import keras
import numpy as np

IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype("float32")


def check(holds: bool, rule: str, received: object = "") -> None:
    if not holds:
        raise SystemExit(f"smoke test: {rule}. Received: {received!r}")


def check_installation() -> None:
    """It is the installed package that is tried, it says its version, and its data came along."""
    folder = Path(kr.__file__).parent
    check(folder.parent == Path(sysconfig.get_path("purelib")), "not the installed one", folder)
    version = importlib.metadata.version("keras-resnets")
    check(kr.__version__ == version, f"the version is not the metadata's {version}", kr.__version__)
    check(importlib.resources.files(kr).joinpath("py.typed").is_file(), "py.typed is missing")
    check(len(kr.list_models(pretrained=True)) > 100, "published checkpoints are missing")
    (likeliest,) = kr.decode_predictions(np.eye(1000)[:1], top=1)[0]
    check("tench" in likeliest[1], "names of ImageNet's classes are missing", likeliest)


def one_of_each_family() -> list[str]:
    """The first variant of every module that has variants."""
    families: dict[str, str] = {}
    for value in vars(kr).values():
        if isinstance(value, kr.Variant):
            families.setdefault(type(value.config).__module__, value.name)
    check(len(families) >= 5, "families are missing", families)
    return list(families.values())


def small(name: str) -> keras.Model:
    variant = next(v for v in vars(kr).values() if isinstance(v, kr.Variant) and v.name == name)
    fields = vars(variant.config)
    # One block a stage, whatever the family calls that: JAX compiles every layer for itself.
    if "widths" in fields:
        changes = {}  # A pruned network names the widths of every block, so it is built whole.
    elif "depths" in fields:
        changes = {"depths": (1,) * len(fields["depths"])}
    else:
        changes = {"depth": 0.1}
    return kr.create_model(name, weights=None, classes=10, **changes)


def check_models(folder: Path) -> keras.Model:
    for name in one_of_each_family():
        model = small(name)
        outputs = model.predict(IMAGES, verbose=0)
        check(outputs.shape == (2, 10), f"{name}: a wrong shape", outputs.shape)
        check(np.allclose(outputs.sum(1), 1, atol=1e-4), f"{name}: no probabilities", outputs)
        model.save(folder / f"{name}.keras")
        again = keras.models.load_model(folder / f"{name}.keras").predict(IMAGES, verbose=0)
        check(np.allclose(again, outputs, atol=1e-6), f"{name}: reloaded, it differs", again)
        print(f"{name}: built, saved, reloaded", flush=True)
    return model


def command(*arguments: object) -> str:
    """What the installed command prints."""
    script = Path(sysconfig.get_path("scripts")) / "keras-resnets"
    done = subprocess.run([script, *map(str, arguments)], capture_output=True, text=True)
    check(done.returncode == 0, f"keras-resnets {arguments[0]} failed", done.stderr[-2000:])
    return done.stdout


def check_commands() -> None:
    check("train" in command("--help"), "--help does not name the commands")
    check(command("list").split() == kr.list_models(), "list does not print list_models()")


def check_exports(folder: Path) -> None:
    """Every format, each verified by `export` itself."""
    model = small("resnext50_32x4d")
    for name, suffix in dict(
        saved_model="", litert=".tflite", onnx=".onnx", openvino=".xml"
    ).items():
        path = folder / f"exported-{name}{suffix}"
        report = kr.export(model, path, format=name, image_size=64)
        check(path.exists(), f"{name}: nothing was written", str(report))
        print(f"{name}: exported", flush=True)


def check_training(folder: Path) -> None:
    """An epoch on the digits that scikit-learn brings, with a curve and TensorBoard's logs."""
    importlib.import_module("tensorflow_datasets")
    run = folder / "run"
    options = "--data digits --recipe quick --epochs 1 --batch-size 256 --tensorboard"
    command("train", *options.split(), "--out", run)
    for name in ("best.keras", "tensorboard"):
        found = sorted(path.name for path in run.iterdir())
        check((run / name).exists(), f"training left no {name}", found)
    print("digits: trained", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("backend", choices=["tensorflow", "jax", "torch"])
    parser.add_argument("extras", nargs="*", metavar="export|training")
    arguments = parser.parse_args()
    backend, extras = arguments.backend, arguments.extras
    if not set(extras) <= {"export", "training"}:
        parser.error(f"extras must be export or training. Received: {extras}")
    print(f"Python {sys.version.split()[0]}, Keras {keras.__version__}, {keras.backend.backend()}")
    check(keras.backend.backend() == backend, f"{backend} was not chosen", keras.backend.backend())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check_installation()
        check_commands()
        check_models(folder)
        if "export" in extras:
            check_exports(folder)
        if "training" in extras:
            check_training(folder)


if __name__ == "__main__":
    main()
