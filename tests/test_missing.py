"""A command that needs a package which is not installed says what to install, before it works."""

import json
import re
import subprocess
import sys

import pytest
from processes import child_environment
from tiny_runs import write_pictures

_CHILD = """
import json, sys

hidden, commands = map(json.loads, sys.argv[1:])


class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            return None
        return self.finder.find_spec(name, path, target)


sys.meta_path[:] = map(Hiding, sys.meta_path)
from typer.testing import CliRunner
from keras_resnets.commands.app import app

for command in commands:
    result = CliRunner().invoke(app, command)
    print(json.dumps([result.exit_code, result.output, repr(result.exception)]))
"""


def said_without(hidden: list[str], *commands: list[str], backend: str) -> list[str]:
    """What commands say in a process that lacks some packages; all of them must fail."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, json.dumps(hidden), json.dumps(commands)],
        env=child_environment() | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(commands)
    for code, text, exception in results:
        assert (code, exception) == (1, "SystemExit(1)"), text
        assert re.fullmatch(r"Error: [^\n]+\n", text), text
    return [text for _, text, _ in results]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("images"), 6)


def test_without_tensorflow_commands_that_read_data_or_export_say_what_brings_it(images, tmp_path):
    pytest.importorskip("jax")  # Keras' backend "numpy" needs it.
    commands = {
        "train": ["train", "--data", f"folder:{images}", "--out", str(tmp_path / "run")],
        "dry run": ["train", "--data", "digits", "--out", str(tmp_path / "run"), "--dry-run"],
        "evaluate": ["evaluate", "--data", "digits", "--model", "resnet20", "--weights", "none"],
        "bench-data": ["bench-data", "--data", "digits"],
        "export": ["export", str(tmp_path / "m.onnx"), "--model", "resnet20"],
        "saved model": ["export", str(tmp_path / "m"), "--model", "resnet20"],
    }
    hidden = ["tensorflow", "tensorflow_datasets"]
    for text in said_without(hidden, *commands.values(), backend="numpy"):
        assert "tensorflow" in text
        assert "pip install 'keras-resnets[tensorflow" in text
    assert not list(tmp_path.iterdir())


# What is written last, and what only some data or some formats need.
MISSING = {
    "matplotlib": (["train", "--data", "FOLDER", "--out", "OUT/run"], "[training]"),
    "sklearn": (
        ["evaluate", "--data", "digits", "--model", "resnet18"],
        "pip install scikit-learn",
    ),
    "tensorflow_datasets": (["bench-data", "--data", "tfds:mnist"], "tensorflow-datasets"),
    "tensorboard": (
        ["train", "--data", "FOLDER", "--out", "OUT/run", "--tensorboard"],
        "pip install tensorboard",
    ),
    "tf2onnx": (["export", "OUT/m.onnx", "--model", "resnet20"], "[export]"),
    "openvino": (["export", "OUT/m.xml", "--model", "resnet20"], "[export]"),
}


def test_without_a_package_of_an_extra_its_commands_name_it(images, tmp_path):
    commands = [
        [part.replace("FOLDER", f"folder:{images}").replace("OUT", str(tmp_path)) for part in given]
        for given, _ in MISSING.values()
    ]
    texts = said_without(list(MISSING), *commands, backend="tensorflow")
    for text, (package, (_, words)) in zip(texts, MISSING.items(), strict=True):
        assert words in text, package
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_evaluating_works(images, tmp_path):
    """It draws nothing."""
    data = ["--data", f"folder:{images}", "--batch-size", "2", "--image-size", "16"]
    evaluate = ["evaluate", *data, "--model", "resnet20", "--weights", "none"]
    (text,) = said_without(["matplotlib"], evaluate, backend="tensorflow")
    assert "model must have the classes of the data" in text  # All is imported by then.
