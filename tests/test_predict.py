"""`keras-resnets predict` and `keras-resnets convert`, from files to files."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from deterministic import random_state
from goldens_io import architectures, zeros_for_initial_weights
from photographs import photograph
from PIL import Image
from typer.testing import CliRunner

import keras_resnets as kr
from keras_resnets.commands import predict as commands
from keras_resnets.commands.app import app
from keras_resnets.weights import checkpoint, published


def run(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def refused(*arguments: object) -> str:
    """The one line of a command that was refused."""
    result = run(*arguments, code=1)
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    return lines[0]


def filled(name: str, **arguments) -> keras.Model:
    """A variant with the deterministic weights of the goldens."""
    with zeros_for_initial_weights():
        model = kr.create_model(name, weights=None, **arguments)
    shapes = {path: tuple(shape) for path, shape in architectures()[name]["state"].items()}
    kr.load_weights(model, random_state(shapes))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Checkpoints and photographs."""
    path = tmp_path_factory.mktemp("predict")
    model = filled("rexnet_100")
    metadata = dict(input_size=[96, 128], crop_pct=0.9, interpolation="bicubic")
    kr.save_safetensors(model, path / "rexnet.safetensors", metadata=metadata)
    model.save_weights(path / "rexnet.weights.h5")
    tiny = kr.create_model("resnet18", weights=None, classes=3, input_shape=(None, None, 1))
    tiny.save_weights(path / "gray.weights.h5")
    for name in ("chelsea", "coffee"):
        Image.fromarray(photograph(name)).save(path / f"{name}.png")
    (path / "text.png").write_text("no image")
    return path


def expected(folder: Path) -> np.ndarray:
    """The probabilities of the cat by the library itself, the images prepared by the metadata."""
    model = kr.ReXNet100(weights=folder / "rexnet.safetensors")
    config = dict(input_size=(96, 128), crop_pct=0.9, interpolation="bicubic")
    images = kr.preprocessor(config).load(folder / "chelsea.png")
    return keras.ops.convert_to_numpy(model(images))


def test_a_photograph_is_classified_and_explained(folder, tmp_path):
    picture = tmp_path / "why.png"
    arguments = ("--model", "rexnet_100", "--weights", folder / "rexnet.safetensors")
    result = run("predict", folder / "chelsea.png", *arguments, "--top", 3, "--explain", picture)
    (best, *others) = kr.decode_predictions(expected(folder), top=3)[0]
    lines = result.stdout.splitlines()
    assert lines[0] == str(folder / "chelsea.png")
    assert lines[1].split() == ["rank", "class", "probability"]
    assert lines[2].startswith("1")
    assert best[1] in lines[2]
    assert f"{best[2]:.4f}" in lines[2]
    assert all(name in line for line, (_, name, _) in zip(lines[3:5], others, strict=True))
    assert lines[5:] == [f"explained in {picture}"]
    with Image.open(picture) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (128, 96))
        assert len(image.convert("L").getcolors()) > 50
    assert list(tmp_path.iterdir()) == [picture]


def test_json_for_machines_and_a_picture_for_each_of_several_images(folder, tmp_path):
    images = [folder / "chelsea.png", folder / "coffee.png"]
    arguments = ("--model", "ReXNet100", "--weights", folder / "rexnet.safetensors", "--json")
    result = run("predict", *images, *arguments, "--explain", tmp_path / "why.png")
    predictions = json.loads(result.stdout)
    assert [entry["image"] for entry in predictions] == list(map(str, images))
    pictures = [tmp_path / "why-1.png", tmp_path / "why-2.png"]
    assert [entry["explanation"] for entry in predictions] == list(map(str, pictures))
    assert sorted(tmp_path.iterdir()) == pictures
    for entry in predictions:
        assert [score["rank"] for score in entry["classes"]] == [1, 2, 3, 4, 5]
        values = [score["probability"] for score in entry["classes"]]
        assert values == sorted(values, reverse=True)
    decoded = kr.decode_predictions(expected(folder))[0]
    for score, (synset, name, probability) in zip(predictions[0]["classes"], decoded, strict=True):
        assert (score["synset"], score["name"]) == (synset, name)
        assert score["probability"] == pytest.approx(probability, rel=1e-4)
        assert published.class_names()[score["index"]] == (synset, name)


def test_other_numbers_of_classes_have_no_names(folder):
    arguments = ("--model", "resnet18", "--weights", folder / "gray.weights.h5")
    result = run("predict", folder / "coffee.png", *arguments, "--json")
    classes = json.loads(result.stdout)[0]["classes"]
    assert sorted(score["index"] for score in classes) == [0, 1, 2]
    assert {(score["synset"], score["name"]) for score in classes} == {(None, None)}
    table = run("predict", folder / "coffee.png", *arguments).stdout.splitlines()[2:]
    assert [line.split()[1] for line in table] == [str(score["index"]) for score in classes]


def test_a_folder_like_a_repository_says_how_and_what(folder, tmp_path):
    """The config.json of fine-tuned weights has their preprocessing and the names of classes."""
    model = kr.create_model("resnet18", weights=None, classes=2, name="resnet18")
    kr.save_safetensors(model, tmp_path / "model.safetensors")
    config = dict(
        architecture="resnet18",
        num_classes=2,
        label_names=["cat", "dog"],
        pretrained_cfg=dict(input_size=[3, 64, 96], mean=[0.5] * 3, std=[0.5] * 3),
    )
    (tmp_path / "config.json").write_text(json.dumps(config))
    arguments = ("--model", "resnet18", "--weights", tmp_path, "--explain", tmp_path / "why.png")
    result = run("predict", folder / "chelsea.png", *arguments, "--json")
    names = {score["index"]: score["name"] for score in json.loads(result.stdout)[0]["classes"]}
    assert names == {0: "cat", 1: "dog"}
    with Image.open(tmp_path / "why.png") as image:
        assert image.size == (96, 64)
    # It also says which model it is of.
    again = run("predict", folder / "chelsea.png", "--model", tmp_path, "--json")
    assert json.loads(again.stdout)[0]["classes"] == json.loads(result.stdout)[0]["classes"]
    assert "weights must be left out" in refused(
        "predict", folder / "chelsea.png", "--model", tmp_path, "--weights", tmp_path
    )


@pytest.mark.parametrize(
    ("image", "changes", "message"),
    [
        ("missing.png", {}, "missing.png"),
        ("text.png", {}, "paths must be image files that PIL can read"),
        ("chelsea.png", {"--model": "rexnet_10"}, "Did you mean 'rexnet_1"),
        ("chelsea.png", {"--model": "resnet18"}, "weights must fit the model"),
        ("chelsea.png", {"--weights": "missing.safetensors"}, "weights must be"),
        ("chelsea.png", {"--weights": "in2k"}, "weights must be a published tag"),
        ("chelsea.png", {"--top": 0}, "top must be a positive int"),
        ("chelsea.png", {"--explain": "why.jpg"}, "explain must be a file ending in .png"),
        ("chelsea.png", {"--explain": "nowhere/why.png"}, "in a folder that exists"),
    ],
)
def test_what_cannot_be_predicted_is_one_line(image, changes, message, folder, tmp_path):
    options = {"--model": "rexnet_100", "--weights": folder / "rexnet.weights.h5", **changes}
    flat = [part for option in options.items() for part in option]
    assert message in refused("predict", folder / image, *flat)


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path):
    taken = tmp_path / "why.png"
    taken.mkdir()
    with pytest.raises(OSError, match="nothing was written"):
        commands._write_picture(np.zeros((8, 8, 3), "uint8"), str(taken))
    assert list(tmp_path.iterdir()) == [taken]


# Convert -----------------------------------------------------------------------------------------


def weights_of(model: keras.Model) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights]


def test_a_checkpoint_goes_through_every_format_unchanged(folder, tmp_path):
    """Its numbers of classes and of input channels are kept as well."""
    gray = dict(input_shape=(None, None, 1))
    source = folder / "gray.weights.h5"
    original = weights_of(kr.ResNet18(weights=source, **gray))
    labelled = tmp_path / "labelled.safetensors"
    model = kr.ResNet18(weights=source, **gray)
    kr.save_safetensors(model, labelled, metadata={"label_names": ["x", "y", "z"], "step": 7})
    source = labelled
    for name in ("a.safetensors", "b.keras", "c.weights.h5"):
        result = run("convert", source, tmp_path / name, "--model", "resnet18")
        assert str(tmp_path / name) in result.stdout
        source = tmp_path / name
    converted = weights_of(kr.ResNet18(weights=source, **gray))
    for ours, theirs in zip(converted, original, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    model = keras.models.load_model(tmp_path / "b.keras")
    assert model.input_shape == (None, None, None, 1)
    assert model.output_shape == (None, 3)
    assert checkpoint.read_metadata(tmp_path / "a.safetensors") == {
        "format": "pt",
        "architecture": "resnet18",
        "label_names": '["x", "y", "z"]',
    }
    assert len(list(tmp_path.iterdir())) == 4


def test_an_existing_file_is_replaced_only_on_demand(folder, tmp_path):
    target = tmp_path / "new.weights.h5"
    target.write_text("mine")
    arguments = ("convert", folder / "gray.weights.h5", target, "--model", "resnet18")
    assert "--overwrite" in refused(*arguments)
    assert target.read_text() == "mine"
    run(*arguments, "--overwrite")
    assert kr.ResNet18(weights=target, input_shape=(None, None, 1)).output_shape == (None, 3)


@pytest.mark.parametrize(
    ("source", "target", "model", "message"),
    [
        ("gray.weights.h5", "new.h5", "resnet18", "OUT must end in .safetensors"),
        ("gray.weights.h5", "nowhere/new.keras", "resnet18", "OUT must be in a folder"),
        ("gray.weights.h5", "new.keras", "resnet19", "Did you mean 'resnet1"),
        ("gray.weights.h5", "new.keras", "resnet34", "weights must fit the model"),
        ("missing.weights.h5", "new.keras", "resnet18", "missing.weights.h5"),
        ("text.png", "new.keras", "resnet18", "weights must be a file of safetensors, of PyTorch"),
    ],
)
def test_what_cannot_be_converted_is_one_line(source, target, model, message, folder, tmp_path):
    arguments = (folder / source, tmp_path / target, "--model", model)
    assert message in refused("convert", *arguments)
    assert list(tmp_path.iterdir()) == []
