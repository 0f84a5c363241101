"""Running what was written in a fresh process, and comparing the outputs with the model's."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnets.checks import require, said
from keras_resnets.deploy import verify
from keras_resnets.deploy.formats.format import ExportRequest
from keras_resnets.deploy.images import batches
from keras_resnets.deploy.prepare import ExportGraph
from keras_resnets.layers.preprocessor import Preprocessor, read_image

CHECK_IMAGES = 8  # Where no images are given.
CHECK_SIZE = (96, 96)  # Where the file takes any size, and none is stated.
Arrays = Mapping[str, np.ndarray]  # By signature and number of the call: "serve/0".


class CannotRun(RuntimeError):
    """What was written does not run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """How the outputs of a file differ from the model's; the fields are those of `ExportReport`."""

    operators: dict[str, int]
    images: int
    max_difference: float
    mean_difference: float
    top1_agreement: float | None
    latency: float
    latency_batch: int


def compare(graph: ExportGraph, request: ExportRequest, path: Path) -> Comparison:
    """Runs a file and the model on the same images.

    Raises:
        ValueError: if an output has another shape, is not finite, or differs by more than the
            tolerance.
        CannotRun: if the file does not run.
    """
    calls = _calls(request)
    outputs, seen = run_afresh(request, path, calls)
    differences = _differences(_expected(graph, request, calls), outputs)
    require(
        differences["max_difference"] <= request.tolerance,
        f"the exported file must give the model's outputs to {request.tolerance:g} of the largest "
        "one; nothing was written. If so much is acceptable, pass it as tolerance",
        **{key: float(f"{value:.3g}") for key, value in differences.items() if value},
        format=request.format.name,
        precision=request.precision,
    )
    served = [images for key, images in calls.items() if key.startswith("serve")]
    return Comparison(
        operators=seen["operators"],
        images=sum(map(len, served)),
        latency=seen["latency"],
        latency_batch=len(calls["serve/0"]),
        **differences,
    )


# Images ------------------------------------------------------------------------------------------


def _calls(request: ExportRequest) -> dict[str, np.ndarray]:
    """Images by signature and number of the call, as they go into the file.

    Where the batch or the size of images is left open, calls differ in it.
    """
    batch = request.shape[0]
    given = request.samples.compared
    if given is None:
        groups = list(_random_groups(request))
    else:
        groups = list(batches(given, batch) if batch else _one_and_more(given))
    calls = {f"serve/{number}": images for number, images in enumerate(groups)}
    if "features" in request.signatures:
        calls["features/0"] = groups[0]
    if "serve_bytes" in request.signatures:
        calls["serve_bytes/0"] = np.array([_jpeg(seed) for seed in range(batch or 2)])
    return calls


def _one_and_more(images: np.ndarray) -> Iterator[np.ndarray]:
    """A batch of one, whose latency is measured, then larger ones."""
    yield images[:1]
    for start in range(1, len(images), CHECK_IMAGES):
        yield images[start : start + CHECK_IMAGES]


def _random_groups(request: ExportRequest) -> Iterator[np.ndarray]:
    """Random images in the batches and of the sizes that the file takes."""
    rng = np.random.default_rng(0)
    batch, height, width, channels = request.shape
    preparation = request.inputs.preparation
    stated = preparation.size if preparation else CHECK_SIZE
    sides = (height or stated[0], width or stated[1])
    for size in [batch] * max(CHECK_IMAGES // batch, 1) if batch else [1, CHECK_IMAGES - 1]:
        yield _random_images(rng, (size, *sides, channels), request)
    if None in (height, width):
        larger = (height or sides[0] + 32, width or sides[1] + 64)
        yield _random_images(rng, (batch or 1, *larger, channels), request)


def _random_images(
    rng: np.random.Generator, shape: tuple[int, ...], request: ExportRequest
) -> np.ndarray:
    rgb = rng.integers(0, 256, shape, "uint8")
    if request.normalizes:
        return rgb
    if shape[-1] != 3 or request.inputs.normalization is None:
        return rng.standard_normal(shape, "float32")
    return request.inputs.normalized(rgb)


def _jpeg(seed: int) -> bytes:
    """A JPEG file of a smooth random picture that is not square."""
    from PIL import Image

    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), "uint8")
    file = io.BytesIO()
    Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC).save(file, "jpeg")
    return file.getvalue()


# Outputs -----------------------------------------------------------------------------------------


def run_afresh(
    request: ExportRequest, path: Path, calls: Arrays
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Outputs of a file for each call, and what else was seen, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        files = {
            "inputs": os.path.join(folder, "inputs.npz"),
            "outputs": os.path.join(folder, "outputs.npz"),
            "result": os.path.join(folder, "result.json"),
        }
        np.savez(files["inputs"], **calls)
        job = Path(folder, "job.json")
        loader, safe_path = request.format.load.__name__, str(_linked(path, Path(folder)))
        job.write_text(json.dumps({"loader": loader, "path": safe_path, **files}))
        # -P: the folder of the script is none to import from.
        command = [sys.executable, "-P", verify.__file__, str(job)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            error = CannotRun(
                "the exported file must run in a fresh process; nothing was written. Received: "
                f"format={request.format.name!r}, which ended with code {done.returncode} "
                f"({said(done.stderr or 'it said nothing')})"
            )
            error.add_note("\n".join(done.stderr.splitlines()[-15:]))
            raise error
        with np.load(files["outputs"]) as outputs:
            return dict(outputs), json.loads(Path(files["result"]).read_text())


def _linked(path: Path, folder: Path) -> Path:
    """The file, with what lies beside it, under a path that no runtime reads as a pattern."""
    target = folder / "written"
    try:
        target.symlink_to(path.parent.absolute(), target_is_directory=True)
    except OSError:  # Not everybody may link on Windows.
        shutil.copytree(path.parent, target)
    return target / path.name


def _expected(graph: ExportGraph, request: ExportRequest, calls: Arrays) -> dict[str, np.ndarray]:
    """What the model says of the images of each call."""
    expected = {}
    for key, images in calls.items():
        if key.startswith("serve_bytes"):
            prepare = Preprocessor.of(request.inputs.preparation)
            pictures = [prepare(read_image(io.BytesIO(data))) for data in images]
            images = np.stack([np.asarray(picture) for picture in pictures])
        elif request.normalizes:
            images = request.inputs.normalized(images)
        model = graph.reference_features if key.startswith("features") else graph.reference
        expected[key] = np.asarray(model(images, training=False))
    return expected


def _differences(expected: Arrays, outputs: Arrays) -> dict[str, float | None]:
    """How outputs differ, as fields of a `Comparison`."""
    largest, total, count, same, classified = 0.0, 0.0, 0, 0, 0
    for key in expected:
        ours, theirs = expected[key].astype("float64"), outputs[key].astype("float64")
        require(
            ours.shape == theirs.shape and bool(np.isfinite(theirs).all()),
            "the exported file must give finite outputs of the model's shape; nothing was written",
            signature=key,
            shape=theirs.shape,
            expected=ours.shape,
        )
        differences = np.abs(ours - theirs) / max(np.abs(ours).max(), np.finfo("float32").tiny)
        largest = max(largest, float(differences.max()))
        total, count = total + float(differences.sum()), count + differences.size
        if key.startswith("serve") and ours.ndim == 2 and ours.shape[1] > 1:
            same += int((ours.argmax(1) == theirs.argmax(1)).sum())
            classified += len(ours)
    return dict(
        max_difference=largest,
        mean_difference=total / count,
        top1_agreement=same / classified if classified else None,
    )
