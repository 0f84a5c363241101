"""Exporting a model, and running what was written before anybody else does."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnets import catalog
from keras_resnets.checks import is_count, is_number, require, require_flag
from keras_resnets.deploy import int8, verify
from keras_resnets.deploy.formats import FORMATS, ExportRequest, check_packages, check_precision
from keras_resnets.deploy.prepare import ExportGraph, known_preprocessing, prepare
from keras_resnets.deploy.report import ExportReport
from keras_resnets.files import os_errors_named, unfinished_beside
from keras_resnets.graph.walk import flat_layers
from keras_resnets.layers.preprocessor import Preprocessor, read_image
from keras_resnets.weights import published

SIGNATURES = ("serve", "features", "serve_bytes")
CHECK_IMAGES = 8  # Where no images are given.
_TOLERANCES = {"float16": 1e-2, "bfloat16": 5e-2, "int8": 0.5, "int8-dynamic": 0.5}


def export(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    format: str = "saved_model",
    precision: str = "float32",
    fold: bool = True,
    batch: int | str | None = None,
    image_size: int | Sequence[int] | str | None = None,
    include_preprocessing: bool = False,
    preprocessing: str | Mapping[str, Any] | Preprocessor | None = None,
    activation: str = "unchanged",
    signatures: Sequence[str] = ("serve",),
    labels: Sequence[str] | None = None,
    licence: str | None = None,
    data: Any = None,
    keep_float: Sequence[str] | None = None,
    tolerance: float | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Writes a model for TensorFlow Serving, LiteRT, ONNX Runtime or OpenVINO, and checks the file.

    What was written is loaded in a process of its own, which knows nothing of Keras, and run on
    the same images as the model. If an output differs by more than the tolerance, the export fails
    and nothing is left. Files are written in a folder beside their place and moved there when they
    are good. An export that is interrupted leaves nothing either; one that is killed leaves that
    folder, whose name begins with `.unfinished-`.

    Metadata goes into the file; `keras_resnets.deploy.metadata` says how it is read.

    Args:
        model: a functional or built sequential `keras.Model`, of this package or not, with one
            input of images `(batch, height, width, channels)` and one output.
        path: what to write: a folder for `"saved_model"`, else a file ending in `.tflite`,
            `.onnx` or `.xml` (beside which OpenVINO has a `.bin`).
        format: `"saved_model"`, `"litert"`, `"onnx"` or `"openvino"`.
        precision: `"float32"`; `"float16"`; `"bfloat16"` (saved_model);
            `"int8"`: weights, a scale a channel, and activations, calibrated with `data` (litert,
            onnx, openvino); `"int8-dynamic"`: weights only, activations as they come (litert,
            onnx). Inputs and outputs are float32 or, with preprocessing, uint8 in any case.
        fold: whether to fold batch norms into convolutions. A model in which that cannot be done
            is exported with them, and a warning says why.
        batch: how many images go in at once, or `"dynamic"`. Default: 1 for `"litert"`, whose
            delegates need to know, else `"dynamic"`.
        image_size: side of square images, `(height, width)`, or `"dynamic"`. Default: the model's;
            of a model for any size `"dynamic"`, for `"litert"` the size of `preprocessing`.
        include_preprocessing: whether the file takes uint8 RGB values and normalises them.
        preprocessing: what the weights expect: a published checkpoint (`"resnest50d.in1k"`), a
            mapping or `Preprocessor`; see `keras_resnets.preprocessor`. Default: that of the
            architecture named as the model is, else ImageNet's.
        activation: of the output: `"softmax"`, `"linear"` (logits) or another Keras activation's
            name instead of the model's own; `"unchanged"` leaves it.
        signatures: of a SavedModel, `"serve"` and any of: `"features"`, which returns what the
            classifier reads, and `"serve_bytes"`, which takes encoded JPEG strings of any size.
        labels: names of the classes. Default: ImageNet's, of a model with 1,000 outputs.
        licence: of the weights. Default: that of the checkpoint that `preprocessing` names.
        data: representative images, which int8 is calibrated with and every export is compared on:
            an array of uint8 RGB or of what the file takes, or what `training.data.load` takes
            (its training split). Default, where nothing is calibrated: random images.
        keep_float: names of layers that int8 leaves in float, with the wildcards `*` and `?`.
            Default: what `int8.default_keep_float` says; `()` for none.
        tolerance: largest difference of an output, in units of the largest output of the model.
            Default: float32 1e-5 (saved_model), 1e-4 (onnx, openvino), 1e-3 (litert); float16
            1e-2; bfloat16 5e-2; int8 0.5, which only tells a broken file from a coarse one.
        overwrite: whether to replace what is at `path`.

    Returns:
        An `ExportReport`: size, operators, differences, top-1 agreement, latency; prints as a
        table.

    Raises:
        ValueError: if an argument is out of its range or arguments contradict each other, before
            any work; or if the file's outputs differ too much.
        ImportError: if a package is missing that writes or runs the format; names what to install.
        OSError: if the path cannot be written.
        RuntimeError: if the file cannot be run.

    Example:

    >>> model = keras_resnets.ResNet50()
    >>> print(keras_resnets.export(model, "resnet50.onnx", format="onnx"))
    """
    check_precision(format, precision)
    check_packages(format, precision)
    path = check_target(path, format, overwrite)
    _check_model(model)
    require(
        format != "litert" or not _quantized_layers(model),
        "a model must not have been quantized by Keras for format 'litert', whose converter cannot "
        "take its int8 products; export the float model with precision='int8' or 'int8-dynamic'",
        quantized=_quantized_layers(model)[:3],
    )
    require_flag(fold=fold, include_preprocessing=include_preprocessing)
    prepare_images = known_preprocessing(model, preprocessing)
    shape = _input_shape(model, format, precision, batch, image_size, prepare_images)
    prepare_images = known_preprocessing(model, preprocessing, shape)
    require(
        shape[-1] == 3 or not include_preprocessing,
        "include_preprocessing needs a model of 3 input channels (RGB)",
        input_shape=shape,
    )
    _check_activation(activation)
    signatures = _checked_signatures(signatures, format, shape)
    labels = _checked_labels(labels, model)
    require(
        tolerance is None or (is_number(tolerance) and tolerance > 0),
        "tolerance must be a positive number",
        tolerance=tolerance,
    )
    if tolerance is None:
        tolerance = _TOLERANCES.get(precision, FORMATS[format].tolerance)
    keep_float = int8.checked_keep_float(model, precision, keep_float)
    samples = int8.representative(
        data,
        precision=precision,
        shape=shape,
        uint8=include_preprocessing,
        preprocessing=prepare_images,
    )

    with _written_beside(path) as folder:
        prepared = prepare(
            model,
            shape=shape,
            fold=fold,
            # Other formats make float16 of the float32 file.
            half=precision if format == "saved_model" and precision != "float32" else None,
            activation=activation,
            preprocessing=prepare_images if include_preprocessing else None,
        )
        require(
            "features" not in signatures or prepared.features is not None,
            "the signature 'features' needs a model that ends in a Dense layer",
            signatures=signatures,
        )
        if prepared.unfolded:
            warnings.warn(f"Exported with batch norms: {prepared.unfolded}", stacklevel=2)
        metadata = {
            "architecture": model.name,
            "labels": labels,
            "mean": list(prepare_images.mean),
            "std": list(prepare_images.std),
            "input_size": list(shape[1:]),
            "interpolation": prepare_images.interpolation,
            "crop_pct": prepare_images.crop_pct,
            "include_preprocessing": include_preprocessing,
            "activation": prepared.activation,
            "licence": licence or _licence(preprocessing),
            "precision": precision,
        }
        request = ExportRequest(
            precision=precision,
            shape=shape,
            keep_float=keep_float,
            signatures=signatures,
            preprocessing=prepare_images,
            normalizes=include_preprocessing,
            samples=samples,
            metadata=metadata,
        )
        written = folder / path.name
        FORMATS[format].write(prepared, request, written)
        calls = _calls(request)
        outputs, found = _run_afresh(format, written, calls)
        difference = _compared(calls, outputs, _expected(prepared, request, calls))
        require(
            difference["max_difference"] <= tolerance,
            f"the exported file must give the model's outputs to {tolerance:g} of the largest one; "
            "nothing was written. If so much is acceptable, pass it as tolerance",
            **{key: float(f"{value:.3g}") for key, value in difference.items() if value},
            format=format,
            precision=precision,
        )
        files = _files(written, format)
        size = sum(file.stat().st_size for each in files for file in _all_files(each))
        _put_in_place(files, path.parent)
    return ExportReport(
        path=str(path),
        format=format,
        precision=precision,
        input_shape=shape,
        size=size,
        operators=found["operators"],
        images=sum(len(images) for key, images in calls.items() if key.startswith("serve")),
        tolerance=tolerance,
        latency=found["latency"],
        latency_batch=len(calls["serve/0"]),
        unfolded=prepared.unfolded,
        metadata=metadata,
        **difference,
    )


# Checking arguments ------------------------------------------------------------------------------


def check_target(path: str | os.PathLike, format: str, overwrite: bool = False) -> Path:
    """Raises a ValueError if a path is none for the format, or must not be written."""
    suffix = FORMATS[format].suffix
    path = Path(path)
    require_flag(overwrite=overwrite)
    if suffix:
        rule = f"path must end in {suffix} for format {format!r}"
    else:
        rule = f"path must be a folder's, without a suffix of a file, for format {format!r}"
    others = [each.suffix for each in FORMATS.values()]
    right = path.suffix == suffix if suffix else path.suffix not in filter(None, others)
    require(right and path.name != "", rule, path=str(path))
    require(
        path.parent.is_dir(),
        "path must be in a folder that exists; make it first",
        path=str(path),
    )
    taken = [file for file in _files(path, format) if os.path.lexists(file)]
    require(
        overwrite or not taken,
        "path must not exist yet; overwrite=True replaces it",
        path=str(taken[0] if taken else path),
    )
    for file in taken:
        require(
            file.is_dir() == (not suffix),
            f"what is overwritten must be of the same kind, a {'file' if suffix else 'folder'}",
            path=str(file),
        )
        # A folder of somebody's files is no SavedModel, and nothing that overwriting may remove.
        require(
            bool(suffix) or (file / "saved_model.pb").is_file() or not any(file.iterdir()),
            "a folder that is overwritten must be a SavedModel's or empty",
            path=str(file),
        )
    return path


def _check_model(model: keras.Model) -> None:
    graph = isinstance(model, keras.Model) and hasattr(model, "operations")
    require(
        graph or (isinstance(model, keras.Sequential) and model.built),
        "model must be a functional or built sequential keras.Model; make one of a subclassed "
        "model with keras.Model(x, model(x)) for an x = keras.Input(...)",
        model=model,
    )
    require(
        len(model.inputs) == 1 and len(model.inputs[0].shape) == 4 and len(model.outputs) == 1,
        "model must have one input of images (batch, height, width, channels) and one output",
        inputs=[each.shape for each in model.inputs],
        outputs=[each.shape for each in model.outputs],
    )
    require(
        keras.backend.backend() == "tensorflow",
        "exporting needs Keras' TensorFlow backend, whatever the model was trained on: save it, "
        "and load and export it with KERAS_BACKEND=tensorflow",
        backend=keras.backend.backend(),
    )


def _quantized_layers(model: keras.Model) -> list[str]:
    """Those that `model.quantize` has changed."""
    layers = flat_layers(model)
    return [layer.name for layer in layers if getattr(layer, "quantization_mode", None)]


def _input_shape(
    model: keras.Model,
    format: str,
    precision: str,
    batch: Any,
    image_size: Any,
    preprocessing: Preprocessor,
) -> tuple[int | None, ...]:
    """Shape of the images that the file takes."""
    model_batch, height, width, channels = model.inputs[0].shape
    sides = (height, width)
    require(
        batch in (None, "dynamic") or is_count(batch),
        'batch must be a positive int or "dynamic"',
        batch=batch,
    )
    wanted = (image_size,) * 2 if is_count(image_size) else image_size
    if wanted is None:
        if None not in sides:
            wanted = sides
        else:
            wanted = preprocessing.size if format == "litert" else "dynamic"
    require(
        (isinstance(wanted, str) and wanted == "dynamic")
        or (isinstance(wanted, (tuple, list)) and len(wanted) == 2 and all(map(is_count, wanted))),
        'image_size must be a side in pixels, (height, width) or "dynamic"',
        image_size=image_size,
    )
    if wanted == "dynamic":
        wanted = (None, None)
    if batch is None:
        batch = model_batch or (1 if format == "litert" else "dynamic")
    shape = (None if batch == "dynamic" else batch, *wanted, channels)
    for ours, theirs in zip(shape, model.inputs[0].shape, strict=True):
        require(
            theirs in (None, ours),
            "batch and image_size must be the model's where it has fixed ones; build it with "
            "input_shape=(None, None, channels) for any size",
            batch=batch,
            image_size=image_size,
            input_shape=model.inputs[0].shape,
        )
    require(
        format != "litert" or precision != "int8" or None not in shape,
        "LiteRT's int8 needs a fixed batch and image_size, which it is calibrated for",
        batch=batch,
        image_size=image_size,
    )
    return shape


def _check_activation(activation: Any) -> None:
    known = isinstance(activation, str)
    if known and activation != "unchanged":
        try:
            keras.activations.get(activation)
        except ValueError:
            known = False
    require(
        known,
        'activation must be the name of a Keras activation, "linear" for logits or "unchanged"',
        activation=activation,
    )


def _checked_signatures(
    signatures: Any, format: str, shape: tuple[int | None, ...]
) -> tuple[str, ...]:
    require(
        isinstance(signatures, (tuple, list))
        and "serve" in signatures
        and set(signatures) <= set(SIGNATURES)
        and len(set(signatures)) == len(signatures),
        f"signatures must be 'serve' and others of {', '.join(map(repr, SIGNATURES))}",
        signatures=signatures,
    )
    require(
        format == "saved_model" or len(signatures) == 1,
        "several signatures need the format 'saved_model'",
        signatures=signatures,
        format=format,
    )
    require(
        "serve_bytes" not in signatures or shape[-1] == 3,
        "the signature 'serve_bytes' needs a model of 3 input channels (RGB)",
        input_shape=shape,
    )
    return tuple(signatures)


def _checked_labels(labels: Any, model: keras.Model) -> list[str]:
    classes = model.outputs[0].shape[-1] if len(model.outputs[0].shape) == 2 else None
    if labels is None:
        names = published.class_names()
        return [name for _, name in names] if classes == len(names) else []
    require(
        isinstance(labels, (list, tuple))
        and all(isinstance(label, str) and "\n" not in label for label in labels)
        and len(labels) == classes,
        f"labels must be a name of one line for each of the {classes} outputs",
        labels=labels,
    )
    return list(labels)


def _licence(preprocessing: Any) -> str | None:
    """That of the published checkpoint which was named, if one was."""
    if not isinstance(preprocessing, str):
        return None
    published = catalog.find_tagged(preprocessing)[1]
    return published and published.license


# Writing -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _written_beside(path: Path) -> Iterator[Path]:
    """A folder beside the path, to write in; it is gone afterwards, whatever happens."""
    folder = unfinished_beside(path)
    try:
        with os_errors_named(path):
            folder.mkdir()
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _files(path: Path, format: str) -> list[Path]:
    """The files or the folder that an export consists of."""
    return [path, path.with_suffix(".bin")] if format == "openvino" else [path]


def _all_files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def _put_in_place(files: Sequence[Path], target: Path) -> None:
    """Moves what is finished to its place, and what was there away before it.

    Several files cannot be replaced at once: what is old goes first, so that files that do not
    belong together never lie side by side, and comes back if that fails.
    """
    for file in files:
        for each in _all_files(file):
            with open(each, "rb") as handle:
                os.fsync(handle.fileno())
    moved: list[tuple[Path, Path]] = []
    try:
        for file in files:
            old = target / file.name
            if os.path.lexists(old):
                aside = file.with_name(f"old-{file.name}")
                os.rename(old, aside)
                moved.append((aside, old))
        for file in files:
            os.rename(file, target / file.name)
            moved.append((target / file.name, file))
    except BaseException:
        for now, before in reversed(moved):
            os.rename(now, before)
        raise


# Running what was written ------------------------------------------------------------------------


def _calls(request: ExportRequest) -> dict[str, np.ndarray]:
    """Images by signature and number of the call, as they go into the file.

    Where the batch or the size of images is left open, calls differ in it.
    """
    batch, height, width, channels = request.shape
    if request.samples is not None:
        images = request.samples
        groups = list(int8.batches(images, batch) if batch else _one_and_more(images))
    else:
        rng = np.random.default_rng(0)
        sides = (height or request.preprocessing.size[0], width or request.preprocessing.size[1])
        batches = [batch] * max(CHECK_IMAGES // batch, 1) if batch else [1, CHECK_IMAGES - 1]
        groups = [_random_images(rng, (size, *sides, channels), request) for size in batches]
        if height is None or width is None:
            larger = (height or sides[0] + 32, width or sides[1] + 64)
            groups.append(_random_images(rng, (batch or 1, *larger, channels), request))
    calls = {f"serve/{number}": images for number, images in enumerate(groups)}
    if "features" in request.signatures:
        calls["features/0"] = groups[0]
    if "serve_bytes" in request.signatures:
        calls["serve_bytes/0"] = np.array([_jpeg(rng_seed) for rng_seed in range(batch or 2)])
    return calls


def _one_and_more(images: np.ndarray) -> Iterator[np.ndarray]:
    """A batch of one, whose latency is measured, then larger ones."""
    yield images[:1]
    for start in range(1, len(images), CHECK_IMAGES):
        yield images[start : start + CHECK_IMAGES]


def _random_images(
    rng: np.random.Generator, shape: tuple[int, ...], request: ExportRequest
) -> np.ndarray:
    rgb = rng.integers(0, 256, shape, "uint8")
    if request.normalizes:
        return rgb
    if shape[-1] != 3:
        return rng.standard_normal(shape, "float32")
    return int8.normalized(rgb, request.preprocessing)


def _jpeg(seed: int) -> bytes:
    """A JPEG file of a smooth random picture that is not square."""
    from PIL import Image

    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), "uint8")
    file = io.BytesIO()
    Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC).save(file, "jpeg")
    return file.getvalue()


def _run_afresh(
    format: str, path: Path, calls: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Outputs of the file for each call, and what else was found, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        files = {key: os.path.join(folder, key) for key in ("inputs", "outputs", "result")}
        files |= {key: f"{files[key]}.npz" for key in ("inputs", "outputs")}
        np.savez(files["inputs"], **calls)
        job = Path(folder, "job.json")
        job.write_text(json.dumps({"format": format, "path": str(path), **files}))
        # -P: the folder of the script is none to import from.
        command = [sys.executable, "-P", verify.__file__, str(job)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(
                f"the exported file must run in a fresh process; nothing was written. "
                f"Received: format={format!r}, which ended with code {done.returncode}:\n"
                + "\n".join(done.stderr.splitlines()[-15:])
            )
        with np.load(files["outputs"]) as outputs:
            return dict(outputs), json.loads(Path(files["result"]).read_text())


def _expected(
    prepared: ExportGraph, request: ExportRequest, calls: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What the model says of the images of each call."""
    expected = {}
    for key, images in calls.items():
        if key.startswith("serve_bytes"):
            pictures = [read_image(io.BytesIO(data)) for data in images]
            images = np.stack([np.asarray(request.preprocessing(picture)) for picture in pictures])
        elif request.normalizes:
            images = int8.normalized(images, request.preprocessing)
        model = prepared.reference_features if key.startswith("features") else prepared.reference
        expected[key] = np.asarray(model(images, training=False))
    return expected


def _compared(
    calls: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
) -> dict[str, float | None]:
    """The fields of an `ExportReport` that say how outputs differ."""
    largest, total, count, same, classified = 0.0, 0.0, 0, 0, 0
    for key in calls:
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
