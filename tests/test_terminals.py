"""What commands print is whole, however narrow a terminal or a pipe is."""

import json
import re
from pathlib import Path

import pytest
from tiny_runs import ONE_BLOCK, tiny_config, write_pictures
from typer.testing import CliRunner

from keras_resnets.commands.app import app
from keras_resnets.deploy.compare import Comparison
from keras_resnets.training.run import train

NAMES = ("a_class_with_a_very_long_name_indeed", "another with blanks in it", "Füße")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("images"), 60, names=NAMES)


@pytest.fixture(scope="module")
def run(images, tmp_path_factory) -> Path:
    changes = {**ONE_BLOCK, "epochs": 1}
    config = tiny_config(data=f"folder:{images}", changes=changes)
    return train(config, tmp_path_factory.mktemp("runs") / "run").folder.path


def printed(columns: int, *arguments) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": str(columns)})
    assert result.exit_code == 0, result.output
    return result.stdout


COMMANDS = {
    "predict": lambda run, images: ["predict", *sorted(images.rglob("*.png"))[:2], "--model", run],
    "predict all": lambda run, images: [
        *("predict", next(images.rglob("*.png")), "--model", run, "--top", 9)
    ],
    "evaluate": lambda run, images: ["evaluate", "--data", f"folder:{images}", "--model", run],
    "list": lambda run, images: ["list", "res*"],
    "checkpoints": lambda run, images: ["list", "resnet50*", "--pretrained"],
    "info": lambda run, images: ["info", "resnet50"],
    "info of a tag": lambda run, images: ["info", "resnet50.a1_in1k"],
    "recipes": lambda run, images: ["recipes"],
    "a recipe": lambda run, images: ["recipes", "resnet"],
    "dry run": lambda run, images: [
        *("train", "--data", f"folder:{images}", "--model", "resnet20", "--weights", "none"),
        *("--out", run / "no", "--dry-run"),
    ],
}


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_no_terminal_is_too_narrow(command, run, images):
    arguments = COMMANDS[command](run, images)
    wide = printed(999, *arguments)
    assert "…" not in wide
    for columns in (80, 20, 1):
        assert printed(columns, *arguments) == wide


@pytest.mark.long
def test_a_table_has_the_numbers_that_the_json_has(run, images):
    arguments = ["predict", next(images.rglob("*.png")), "--model", run]
    (prediction,) = json.loads(printed(20, *arguments, "--json"))
    table = printed(20, *arguments)
    for found in prediction["classes"]:
        row = rf"{found['rank']} +{re.escape(found['name'])} \({found['index']}\) +"
        assert re.search(rf"^{row}{found['probability']:.4f} *$", table, re.MULTILINE)
    arguments = ["evaluate", "--data", f"folder:{images}", "--model", run]
    counted = printed(20, *arguments, "--json")
    table = printed(20, *arguments)
    for row in json.loads(counted[counted.index("{") :])["by_class"]:
        line = next(line for line in table.splitlines() if line.startswith(row["class"]))
        assert line.removeprefix(row["class"]).split()[:2] == [
            str(row["images"]),
            f"{row['recall']:.1%}",
        ]


@pytest.mark.long
@pytest.mark.parametrize("columns", [1, 20, 80])
def test_the_report_of_an_export_is_whole(columns, run, tmp_path, monkeypatch):
    compared = Comparison(
        operators={"Conv": 12345678},
        images=12345,
        max_difference=1.25e-7,
        mean_difference=1e-9,
        top1_agreement=0.98765,
        latency=0.00123456,
        latency_batch=1,
    )
    monkeypatch.setattr("keras_resnets.deploy.export.compare", lambda *args: compared)
    text = printed(columns, "export", tmp_path / "m", "--model", run)
    for number in ("12345678", "12345 images", "98.8%", "1.23 ms"):
        assert number in text
    assert "…" not in text
