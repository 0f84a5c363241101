"""What other libraries raise at a command is one sentence, and leaves nothing half-written."""

import errno
import io
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import types
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import huggingface_hub.errors
import keras
import numpy as np
import onnx
import onnxruntime
import openvino
import PIL.Image
import pytest
import safetensors
import safetensors.numpy
import tensorflow as tf
from tiny_runs import write_pictures
from typer.testing import CliRunner

import keras_resnets as kr
from keras_resnets import catalog
from keras_resnets.commands import convert, evaluate, export, predict
from keras_resnets.commands import train as commands_train
from keras_resnets.commands.app import app
from keras_resnets.deploy import compare
from keras_resnets.training import data, recipe
from keras_resnets.training import run as run_module


def refusal(*arguments) -> str:
    """What a command says that must fail: one sentence on stderr, exit code 1."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.stdout == "" or arguments[0] == "train"  # Which shows how far it is.
    assert re.fullmatch(r"Error: [^\n]{10,}\n", result.stderr), result.stderr
    assert "Traceback" not in result.stderr
    assert "\x1b" not in result.stderr
    return result.stderr


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> types.SimpleNamespace:
    """Files with which every command works."""
    folder = tmp_path_factory.mktemp("there")
    tiny = dict(depths=(1,), planes=(16,), input_shape=(32, 32, 3), include_preprocessing=True)
    model = kr.ResNet20(weights=None, classes=3, **tiny)
    model.save(folder / "good.keras")
    model.save_weights(folder / "good.weights.h5")
    kr.save_safetensors(
        kr.ResNet20(weights=None, classes=3),
        folder / "good.safetensors",
        architecture="resnet20",
        metadata={"input_size": [3, 32, 32]},
    )
    images = write_pictures(folder / "images", 6)
    return types.SimpleNamespace(
        folder=folder,
        data=f"folder:{images}",
        image=next(images.rglob("*.png")),
        weights=folder / "good.safetensors",
        model=folder / "good.keras",
        keras_weights=folder / "good.weights.h5",
    )


# What takes a model, and what only names one. OUT is where something would be written.
WITH_A_MODEL: dict[str, Callable] = {
    "predict": lambda it, model, out: ["predict", it.image, "--model", model],
    "evaluate": lambda it, model, out: [
        *("evaluate", "--data", it.data, "--model", model, "--batch-size", 4)
    ],
    "export": lambda it, model, out: ["export", out / "m.onnx", "--model", model],
    "convert": lambda it, model, out: ["convert", model, out / "m.safetensors"],
    "train": lambda it, model, out: [
        *("train", "--data", it.data, "--model", model, "--out", out / "run")
    ],
}
OTHERS: dict[str, Callable] = {
    "bench-data": lambda it, model, out: ["bench-data", "--data", it.data],
    "list": lambda it, model, out: ["list"],
    "info": lambda it, model, out: ["info", "resnet20"],
    "recipes": lambda it, model, out: ["recipes", "quick"],
}
# The first that a command does which can go wrong.
FIRST = {
    "predict": (predict, "locate"),
    "evaluate": (evaluate, "locate"),
    "export": (export, "locate"),
    "convert": (convert, "locate"),
    "train": (run_module, "Run"),
    "bench-data": (data, "load"),
    "list": (catalog, "list_models"),
    "info": (catalog, "model_info"),
    "recipes": (recipe, "find_recipe"),
}


# Thrown -------------------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable:
    def function(*args, **kwargs):
        raise error

    return function


def _hub(kind: str) -> Callable:
    response = types.SimpleNamespace(headers={}, request=None, status_code=500)
    return raising(getattr(huggingface_hub.errors, kind)("the server says no", response=response))


@tf.function
def _graph():
    raise ValueError("x must be 3")


# By library: what really makes it raise, or its class where that would take a network or a disk.
ERRORS: dict[str, Callable] = {
    "tensorflow: shapes": lambda: tf.zeros([2, 3]) @ tf.zeros([2, 3]),
    "tensorflow: bytes": lambda: tf.io.decode_png(b"x"),
    "tensorflow: records": lambda: next(iter(tf.data.TFRecordDataset("nowhere"))),
    "tensorflow: a graph": lambda: _graph(),
    "tensorflow: memory": raising(
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
    ),
    "tensorflow: a folder": lambda: tf.saved_model.load("nowhere"),
    "tensorflow: internal": raising(tf.errors.InternalError(None, None, "libdevice\nis missing")),
    "keras: ValueError": lambda: keras.layers.Dense(3)(np.zeros(2)),
    "keras: a model": lambda: keras.Sequential([keras.Input((3,))]).predict(np.zeros((1, 5))),
    "keras: TypeError": lambda: keras.layers.Dense(units=None, nonsense=1),
    "keras: a file": lambda: keras.saving.load_model("nowhere.keras"),
    "h5py: OSError": lambda: h5py.File(io.BytesIO(b"garbage")),
    "h5py: KeyError": lambda: h5py.File(io.BytesIO(), "w")["nowhere"],
    "PIL: no image": lambda: PIL.Image.open(io.BytesIO(b"garbage")),
    "PIL: a bomb": raising(PIL.Image.DecompressionBombError("Image size (400000000 pixels)")),
    "safetensors": lambda: safetensors.numpy.load(b"garbage"),
    "onnx: bytes": lambda: onnx.load_from_string(b"abc"),
    "onnx: a check": lambda: onnx.checker.check_model(onnx.ModelProto()),
    "onnxruntime": lambda: onnxruntime.InferenceSession(b"abc"),
    "openvino": lambda: openvino.Core().read_model(__file__),
    "huggingface_hub: http": _hub("HfHubHTTPError"),
    "huggingface_hub: a name": lambda: huggingface_hub.hf_hub_download("a/b/c", "d"),
    "numpy: memory": lambda: np.zeros(10**15),
    "numpy: shapes": lambda: np.zeros(2) + np.zeros(3),
    "pickle": lambda: pickle.loads(b"garbage"),
    "zipfile": lambda: zipfile.ZipFile(io.BytesIO(b"garbage")),
    "zlib": lambda: zlib.decompress(b"garbage"),
    "struct": lambda: struct.unpack("<Q", b"x"),
    "json": lambda: json.loads("{nope"),
    "MemoryError": raising(MemoryError()),
    "PermissionError": raising(PermissionError(errno.EACCES, "Permission denied", "a/file")),
    "IsADirectoryError": lambda: Path(__file__).parent.read_text(),
    "NotADirectoryError": lambda: Path(__file__, "x").read_text(),
    "a full disk": raising(OSError(errno.ENOSPC, "No space left on device")),
    "a network": raising(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")),
    "a name too long": lambda: Path("x" * 999).read_text(),
    "a name that is no text": lambda: Path("a\udcff").name.encode(),
    "a path with a zero": lambda: Path("a\0b").read_text(),
}


@pytest.mark.long
@pytest.mark.parametrize("command", FIRST)
@pytest.mark.parametrize("cause", ERRORS)
def test_what_a_library_raises_is_one_sentence(cause, command, there, tmp_path, monkeypatch):
    monkeypatch.setattr(*FIRST[command], lambda *args, **kwargs: ERRORS[cause]())
    make = {**WITH_A_MODEL, **OTHERS}[command]
    model = "resnet20" if command == "train" else there.model
    arguments = make(there, model, tmp_path)
    refusal(*arguments, *(["--weights", "none"] if command == "train" else []))
    assert left_in(tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("cause", "words"),
    {
        "tensorflow: memory": r"must fit into the memory; take fewer images.*OOM when allocating",
        "numpy: memory": r"must fit into the memory.*Unable to allocate",
        "MemoryError": r"must fit into the memory.*\(MemoryError\)",
        "a full disk": r"the disk must have room",
        "PermissionError": r"must be there and accessible \(Permission denied\).*'a/file'",
        "keras: ValueError": r"keras cannot do that.*expected min_ndim=2",
        "tensorflow: a graph": r"x must be 3",
        "h5py: KeyError": r"h5py cannot do that.*nowhere",
    }.items(),
)
def test_the_sentence_says_what_happened(cause, words, there, monkeypatch):
    monkeypatch.setattr(predict, "locate", lambda *args, **kwargs: ERRORS[cause]())
    assert re.search(words, refusal("predict", there.image, "--model", there.model))


@pytest.mark.long
@pytest.mark.parametrize("error", [KeyError("x"), AttributeError("x"), AssertionError()], ids=repr)
@pytest.mark.parametrize("command", ["predict", "train"])
def test_a_mistake_of_this_package_keeps_its_traceback(command, error, there, monkeypatch):
    monkeypatch.setattr(predict, "locate", raising(error))
    monkeypatch.setattr(commands_train, "train", raising(error))
    arguments = WITH_A_MODEL[command](there, there.model, Path("nowhere"))
    if command == "train":
        arguments = ["train", "--data", "digits", "--out", "nowhere"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is error


# Where a command is in the middle of its work -----------------------------------------------------

DURING = {
    "tensorflow": tf.errors.InternalError(None, None, "cuDNN\nis of another age"),
    "memory": tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"),
    "disk": OSError(errno.ENOSPC, "No space left on device"),
    "keras": ValueError("Exception encountered when calling Dense.call().\n\nno\n\nArguments: x"),
}


@pytest.mark.long
@pytest.mark.parametrize("error", DURING.values(), ids=DURING)
def test_predicting_fails_in_one_sentence(error, there, tmp_path, monkeypatch):
    monkeypatch.setattr(predict.grad_cam, "grad_cam", raising(error))
    picture = tmp_path / "why.png"
    refusal("predict", there.image, "--model", there.model, "--explain", picture)
    assert left_in(tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize("error", DURING.values(), ids=DURING)
def test_evaluating_fails_in_one_sentence(error, there, monkeypatch):
    monkeypatch.setattr(keras.Model, "predict_on_batch", raising(error))
    refusal(*WITH_A_MODEL["evaluate"](there, there.model, None))


@pytest.mark.long
@pytest.mark.parametrize("error", DURING.values(), ids=DURING)
@pytest.mark.parametrize("ending", [".onnx", ".tflite", ".xml", ""])
def test_exporting_fails_in_one_sentence(ending, error, there, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.Model, "export", raising(error))
    monkeypatch.setattr(keras.export, "ExportArchive", raising(error))
    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_keras_model", raising(error))
    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_concrete_functions", raising(error))
    out = tmp_path / f"m{ending}"
    refusal("export", out, "--model", there.model, "--no-fold")
    assert left_in(tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize("said", ["", "Traceback (most recent call last):\n  x\nOSError: no\n"])
def test_a_file_that_does_not_run_is_one_sentence(said, there, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.Model, "export", lambda *args, **kwargs: None)
    monkeypatch.setattr(onnx, "load", lambda path: onnx.ModelProto())
    done = subprocess.CompletedProcess([], 1, stdout="", stderr=said)
    monkeypatch.setattr(compare.subprocess, "run", lambda *args, **kwargs: done)
    text = refusal("export", tmp_path / "m.onnx", "--model", there.model, "--no-fold")
    assert "must run in a fresh process" in text
    assert ("(OSError: no)" if said else "(it said nothing)") in text
    assert left_in(tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize("error", [DURING["tensorflow"], DURING["disk"]], ids=str)
def test_training_fails_in_one_sentence(error, there, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", raising(error))
    arguments = WITH_A_MODEL["train"](there, "resnet20", tmp_path)
    refusal(*arguments, "--weights", "none", "--batch-size", 4, "--image-size", 16)
    # The run can be gone on with, and nothing of it is half there.
    found = left_in(tmp_path)
    assert "run/config.json" in found
    assert not [name for name in found if "unfinished" in name or ".lock" in name]


# What cannot be written ---------------------------------------------------------------------------

NOT_WRITTEN = {
    "disk": (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
    "rights": (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded"),
}


@pytest.mark.long
@pytest.mark.parametrize(("error", "words"), NOT_WRITTEN.values(), ids=NOT_WRITTEN)
@pytest.mark.parametrize("out", ["m.safetensors", "m.keras", "m.weights.h5", "why.png"])
def test_what_cannot_be_written_is_not_there(out, error, words, there, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", raising(error))
    if out == "why.png":
        text = refusal("predict", there.image, "--model", there.model, "--explain", tmp_path / out)
    else:
        text = refusal("convert", there.weights, tmp_path / out)
    assert "path must be writable" in text
    assert words in text
    assert left_in(tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "place"),
    [
        *(("train", place) for place in ("a file", "below a file")),
        *(
            (command, place)
            for command in ("export", "convert", "predict")
            for place in ("a file", "below a file", "a missing folder")
        ),
    ],
)
def test_a_place_where_nothing_can_be_written_is_named(command, place, there, tmp_path):
    (tmp_path / "file").write_text("mine")
    out = {"a file": "file", "below a file": "file/out", "a missing folder": "nowhere/out"}[place]
    ending = {"export": ".onnx", "convert": ".keras", "predict": ".png", "train": ""}[command]
    out = tmp_path / (out if place == "a file" else out + ending)
    arguments = {
        "train": ["train", "--data", there.data, "--out", out],
        "export": ["export", out, "--model", there.weights],
        "convert": ["convert", there.weights, out],
        "predict": ["predict", there.image, "--model", there.model, "--explain", out],
    }[command]
    assert str(out) in refusal(*arguments)
    assert left_in(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


# Damaged files ------------------------------------------------------------------------------------


def _archive(source: Path, **changed: bytes | None) -> bytes:
    """A `.keras` file with other contents; None leaves a file out."""
    content = io.BytesIO()
    changed = {name.replace("__", "."): value for name, value in changed.items()}
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(content, "w") as after:
        for name in {*before.namelist(), *changed}:
            value = changed.get(name, None if name in changed else before.read(name))
            if value is not None:
                after.writestr(name, value)
    return content.getvalue()


def _half(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: len(content) // 2]


HEADER = struct.pack("<Q", 50)
MODELS: dict[str, Callable] = {
    "cut.safetensors": lambda it: _half(it.weights),
    "empty.safetensors": lambda it: b"",
    "header.safetensors": lambda it: HEADER + b"{" + b"x" * 60,
    "huge.safetensors": lambda it: struct.pack("<Q", 2**60) + b"{",
    "nested.safetensors": lambda it: struct.pack("<Q", 9999) + b"[" * 9999,
    "cut.keras": lambda it: _half(it.model),
    "empty.keras": lambda it: b"",
    "noise.keras": lambda it: bytes(range(256)),
    "config.keras": lambda it: _archive(it.model, config__json=b"{nope"),
    "list.keras": lambda it: _archive(it.model, config__json=b"[1]"),
    "no-config.keras": lambda it: _archive(it.model, config__json=None),
    "weights.keras": lambda it: _archive(it.model, model__weights__h5=b"\x89HDF\r\n\x1a\nxyz"),
    "no-weights.keras": lambda it: _archive(it.model, model__weights__h5=None),
    "facts.keras": lambda it: _archive(it.model, keras_resnets__json=b"{nope"),
    "text.keras": lambda it: _archive(it.model, keras_resnets__json=b"\xff\xfe"),
    "cut.weights.h5": lambda it: _half(it.keras_weights),
    "garbage.weights.h5": lambda it: b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 8,
    "noise.pth": lambda it: bytes(range(256)),
    "cut.pth": lambda it: pickle.dumps(list(range(999)))[:50],
    "code.pth": lambda it: pickle.dumps(print),
}


@pytest.mark.long
@pytest.mark.parametrize("command", WITH_A_MODEL)
@pytest.mark.parametrize("name", MODELS)
def test_a_damaged_model_is_one_sentence(name, command, there, tmp_path):
    file = tmp_path / name
    file.write_bytes(MODELS[name](there))
    text = refusal(*WITH_A_MODEL[command](there, file, tmp_path))
    assert name in text
    assert left_in(tmp_path) == [name]


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in MODELS if not name.endswith(".keras")])
def test_damaged_weights_of_an_architecture_are_one_sentence(name, there, tmp_path):
    if name.endswith(".pth"):
        pytest.importorskip("torch")
    file = tmp_path / name
    file.write_bytes(MODELS[name](there))
    text = refusal("predict", there.image, "--model", "resnet20", "--weights", file)
    assert re.search(r"weights must .*cannot be read", text)
    assert name in text


CONFIGS = {
    "no JSON": b"{nope",
    "a list": b"[]",
    "no text": b"\xff\xfe",
    "nested": b"[" * 99999,
    "no recipe": b'{"recipe": 3, "model": "resnet20"}',
    "no model": b'{"recipe": {}, "model": 5}',
    "no changes": b'{"recipe": {"config_changes": [1]}, "model": "resnet20"}',
    "another architecture": b'{"architecture": "vit_tiny"}',
    "a mean of text": b'{"architecture": "resnet20", "pretrained_cfg": {"mean": "x"}}',
    "a list for a mapping": b'{"architecture": "resnet20", "pretrained_cfg": []}',
}


# Training reads images by its recipe, not by what is stated of them.
OF_IMAGES = ("a mean of text", "a list for a mapping")


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "command"),
    [
        (name, command)
        for name in CONFIGS
        for command in WITH_A_MODEL
        if name not in OF_IMAGES or command != "train"
    ],
)
def test_a_damaged_folder_is_one_sentence(name, command, there, tmp_path):
    config = CONFIGS[name]
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_bytes(config)
    is_run = b"recipe" in config
    shutil.copy(there.weights, folder / ("best.safetensors" if is_run else "model.safetensors"))
    if is_run:
        shutil.copy(there.model, folder / "best.keras")
    before = left_in(tmp_path)
    refusal(*WITH_A_MODEL[command](there, folder, tmp_path))
    assert left_in(tmp_path) == before


NO_JSON = [b"{nope", b"\xff\xfe", b"[" * 99999]


@pytest.mark.long
@pytest.mark.parametrize("content", [*NO_JSON, b"3"])
def test_weights_of_classes_that_are_no_json_are_one_sentence(content, there, tmp_path):
    file = tmp_path / "balance.json"
    file.write_bytes(content)
    out = tmp_path / "run"
    text = refusal("train", "--data", there.data, "--out", out, "--class-weights", file)
    assert "balance.json" in text
    assert left_in(tmp_path) == ["balance.json"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("file", "content"),
    [
        *(("config.json", content) for content in [*NO_JSON, b"3", b"{}", b'{"recipe": {}}']),
        *(("versions.json", content) for content in NO_JSON),
    ],
)
def test_a_run_whose_json_is_damaged_is_resumed_by_no_traceback(file, content, there, tmp_path):
    config = commands_train.resolve(there.data, "resnet20", "none")
    (tmp_path / "config.json").write_text(json.dumps(config.as_dict()))
    (tmp_path / file).write_bytes(content)
    before = left_in(tmp_path)
    assert file in refusal("train", "--resume", "--out", tmp_path)
    assert left_in(tmp_path) == before


# Damaged data -------------------------------------------------------------------------------------


def _record(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return f"tfrecord:{path}"


def _records(path: Path, *records: bytes) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return f"tfrecord:{path}"


def _labelled(number: int) -> bytes:
    features = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"garbage"])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[number])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _with_classes(folder: Path) -> str:
    (folder / "classes.txt").write_bytes(b"\xffa\nb")
    return _records(folder / "x.tfrecord", *map(_labelled, range(2)))


def _broken_images(folder: Path) -> str:
    for name in ("cross/a.png", "disc/b.jpg", "stripes/c.bmp"):
        path = folder / "images" / name
        path.parent.mkdir(parents=True)
        path.write_bytes({".png": b"\x89PNG\r\n\x1a\n", ".jpg": b"\xff\xd8\xff\xe0"}.get(
            path.suffix, b"BM"
        ))  # fmt: skip
    return f"folder:{folder / 'images'}"


def _broken_tfds(folder: Path) -> str:
    path = folder / "mine" / "1.0.0"
    path.mkdir(parents=True)
    (path / "dataset_info.json").write_text("{nope")
    (path / "features.json").write_text("{}")
    return "tfds:mine"


DATA: dict[str, Callable] = {
    "noise": lambda folder: _record(folder / "x.tfrecord", bytes(range(256)) * 9),
    "empty": lambda folder: _record(folder / "x.tfrecord", b""),
    "not compressed": lambda folder: _record(folder / "x.tfrecord.gz", bytes(range(99))),
    "other records": lambda folder: _records(folder / "x.tfrecord", b"abc"),
    "images that are none": lambda folder: _records(
        folder / "x.tfrecord", *map(_labelled, [0, 1] * 9)
    ),
    "classes that are no text": _with_classes,
    "damaged images": _broken_images,
    "a missing folder": lambda folder: f"folder:{folder / 'nowhere'}",
    "a file for a folder": lambda folder: f"folder:{__file__}",
    "an empty folder": lambda folder: f"folder:{folder}",
    "damaged tfds": _broken_tfds,
    "a name of tfds that is none": lambda folder: "tfds:../x y",
    "versions of tfds": lambda folder: "tfds:mine/1/2/3:4",
    "nothing known": lambda folder: "flowers",
}


@pytest.mark.long
@pytest.mark.parametrize("command", ["evaluate", "train", "bench-data"])
@pytest.mark.parametrize("make", DATA.values(), ids=DATA)
def test_damaged_data_is_one_sentence(make, command, there, tmp_path):
    (tmp_path / "in").mkdir()
    spec = make(tmp_path / "in")
    before = left_in(tmp_path)
    arguments = {
        "evaluate": [
            *("evaluate", "--data", spec, "--model", there.model),
            *("--batch-size", 4),
        ],
        "train": [
            *("train", "--data", spec, "--model", "resnet20", "--out", tmp_path / "run"),
            *(
                "--set",
                "depths=1,1",
                "--set",
                "planes=16,16",
                "--image-size",
                16,
                "--batch-size",
                2,
            ),
        ],
        "bench-data": ["bench-data", "--data", spec, "--batch-size", 2, "--image-size", 16],
    }[command]
    if spec.startswith("tfds"):
        arguments += ["--data-dir", tmp_path / "in"]
    refusal(*arguments)
    if "image" not in spec and make is not DATA["images that are none"]:
        assert left_in(tmp_path) == before
    assert not [name for name in left_in(tmp_path) if "unfinished" in name]


IMAGES = {
    "cut": lambda image: _half(image),
    "empty": lambda image: b"",
    "noise": lambda image: bytes(range(256)),
    "another format": lambda image: b"%PDF-1.7",
    "half a header": lambda image: image.read_bytes()[:20],
    "TIFF": lambda image: b"II*\0\x08\0\0\0\xff\xff",
    "icon": lambda image: b"\0\0\1\0\1\0" + bytes(5),
    "BMP": lambda image: b"BM" + bytes(9),
}


@pytest.mark.long
@pytest.mark.parametrize("make", IMAGES.values(), ids=IMAGES)
def test_a_damaged_image_is_one_sentence(make, there, tmp_path):
    image = tmp_path / "x.png"
    image.write_bytes(make(there.image))
    text = refusal("predict", image, "--model", there.model, "--explain", tmp_path / "why.png")
    assert "paths must be image files that PIL can read" in text
    assert left_in(tmp_path) == ["x.png"]


@pytest.mark.long
@pytest.mark.parametrize(
    "error",
    [
        struct.error("unpack requires 4 bytes"),
        PIL.Image.DecompressionBombError("Image size (400000000 pixels) exceeds limit"),
        MemoryError(),
        RecursionError(),
        KeyError("RGBX"),
        zlib.error("Error -3"),
        PermissionError(errno.EACCES, "Permission denied", "x.png"),
    ],
    ids=repr,
)
def test_whatever_pil_raises_is_one_sentence(error, there, monkeypatch):
    monkeypatch.setattr(PIL.Image, "open", raising(error))
    text = refusal("predict", there.image, "--model", there.model)
    assert "paths must be image files that PIL can read" in text
    assert str(there.image) in text


@pytest.mark.long
@pytest.mark.parametrize("command", WITH_A_MODEL)
@pytest.mark.parametrize(
    "throw",
    [_hub("HfHubHTTPError"), _hub("GatedRepoError"), _hub("RepositoryNotFoundError")]
    + [raising(error) for error in (OSError("no route"), KeyError("etag"), MemoryError())],
    ids=["http", "gated", "not found", "network", "header", "memory"],
)
def test_what_the_hub_raises_is_one_sentence(throw, command, there, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", throw)
    text = refusal(*WITH_A_MODEL[command](there, "hf://me/flowers", tmp_path))
    assert "weights must be those of a repository that can be read" in text
    assert left_in(tmp_path) == []
