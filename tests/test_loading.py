"""One answer to "which model": every command and function takes whatever any other takes."""

import importlib.util
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from tiny_runs import CLASSES, invoke, pictures

import keras_resnets as kr
from keras_resnets import loading
from keras_resnets.preparation import IMAGENET_MEAN, Preparation
from keras_resnets.weights import checkpoint
from keras_resnets.weights.facts import Facts

SIZE = 32
SMALL = ("--set", "depths=1,1", "--set", "planes=16,32", "--epochs", 14, "--batch-size", 8)
OWN = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3), "input_size": (3, 48, 48)}


def write_pictures(folder: Path, count: int, seed: int = 0) -> Path:
    images, labels = pictures(count, seed)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / CLASSES[label] / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_pictures(folder / "train", 60)
    write_pictures(folder / "validation", 18, seed=1)
    return folder


@pytest.fixture(scope="module")
def run(images, tmp_path_factory) -> Path:
    """The folder of a run of seconds, of a network that is no published one."""
    out = tmp_path_factory.mktemp("runs") / "shapes"
    code, text = invoke(
        *("train", "--data", f"folder:{images}", "--model", "resnet20", "--recipe", "quick"),
        *("--out", out, "--image-size", SIZE, "--learning-rate", 0.4, *SMALL),
    )
    assert code == 0, text
    assert json.loads((out / "evaluation.json").read_text())["top1"] >= 0.9
    return out


def top1(text: str) -> list[str]:
    """The likeliest class of each image, of what `predict --json` printed."""
    return [prediction["classes"][0]["name"] for prediction in json.loads(text)]


def some(images: Path) -> list[Path]:
    return sorted(images.glob("validation/*/*.png"))


@pytest.mark.parametrize(
    "what", ["folder", "folder for others", "saved model", "saved model elsewhere", "weights"]
)
def test_what_a_run_has_left_is_predicted_with_by_its_class_names(what, run, images, tmp_path):
    elsewhere = shutil.copy(run / "best.keras", tmp_path / "mine.keras")
    named = {
        "folder": [run],
        "folder for others": [kr.save_pretrained(run, tmp_path / "shared")],
        "saved model": [run / "best.keras"],
        "saved model elsewhere": [elsewhere],
        "weights": ["resnet20", "--weights", run / "best.safetensors"],
    }[what]
    files = some(images)
    code, text = invoke("predict", *files, "--model", *named, "--json")
    if what == "weights":  # Of another depth than the architecture's.
        assert code == 1
        assert "weights must fit the model" in text
        return
    assert code == 0, text
    right = [path.parent.name for path in files]
    assert np.mean([a == b for a, b in zip(top1(text), right, strict=True)]) >= 0.9
    located = loading.locate(named[0])
    assert located.preparation.size == (SIZE, SIZE)
    assert [label for label, _ in located.class_names] == sorted(CLASSES)
    assert kr.preprocessor(named[0]).size == (SIZE, SIZE)
    assert kr.create_model(named[0]).output_shape == (None, len(CLASSES))


def test_every_command_takes_a_run(run, images, tmp_path):
    commands = {
        "evaluate": ["evaluate", "--data", f"folder:{images}", "--model", run],
        "convert": ["convert", run, tmp_path / "run.safetensors"],
        "train": [
            *("train", "--data", f"folder:{images}", "--model", run, "--dry-run"),
            *("--out", tmp_path / "second", "--image-size", SIZE),
        ],
    }
    for name, command in commands.items():
        code, text = invoke(*command)
        assert code == 0, (name, text)
    facts = Facts(checkpoint.read_metadata(tmp_path / "run.safetensors"))
    assert facts.preparation == loading.locate(run).preparation
    assert facts.class_names == loading.locate(run).class_names


@pytest.mark.parametrize("file", ["best.keras", "best.safetensors", "a home folder", "converted"])
def test_every_command_takes_what_a_run_left_wherever_it_is_taken(
    file, run, images, tmp_path, monkeypatch
):
    """The network is no published one: the file says what was changed in it."""
    if file == "a home folder":
        monkeypatch.setenv("HOME", str(tmp_path))
        shutil.copy(run / "best.safetensors", tmp_path / "mine.safetensors")
        moved = "~/mine.safetensors"
    elif file == "converted":
        moved = tmp_path / "mine.safetensors"
        assert invoke("convert", run, moved)[0] == 0
    else:
        moved = shutil.copy(run / file, tmp_path / f"mine{Path(file).suffix}")
    files = some(images)[::3]
    commands = {
        "predict": ["predict", *files, "--model", moved, "--json"],
        "evaluate": ["evaluate", "--data", f"folder:{images}", "--model", moved, "--json"],
        "convert": ["convert", moved, tmp_path / "again.safetensors"],
        "train": [
            *("train", "--data", f"folder:{images}", "--model", moved, "--dry-run"),
            *("--out", tmp_path / "second", "--image-size", SIZE),
        ],
    }
    said = {name: invoke(*command) for name, command in commands.items()}
    assert {name: code for name, (code, _) in said.items()} == dict.fromkeys(commands, 0), said
    expected = json.loads((run / "evaluation.json").read_text())
    evaluated = said["evaluate"][1]
    found = json.loads(evaluated[evaluated.index("{") :])
    assert found["confusion"] == expected["confusion"]
    assert set(top1(said["predict"][1])) <= set(CLASSES)
    again, here = (loading.locate(path) for path in (tmp_path / "again.safetensors", run))
    assert (again.preparation, again.class_names) == (here.preparation, here.class_names)
    assert again.build().count_params() == here.build().count_params()


@pytest.mark.parametrize("option", ["--out", "--weights", "--data-dir", "--explain"])
def test_a_home_folder_is_meant_by_its_sign_in_every_option(option, run, images, monkeypatch):
    """No shell expands it after `=`."""
    monkeypatch.setenv("HOME", str(run.parent))
    image = some(images)[0]
    train = ["train", "--data", f"folder:{images}", "--model", "resnet20"]
    command = {
        "--out": [*train, "--out=~/shapes"],
        "--weights": [*train, "--weights=~/shapes/best.safetensors", "--out=~/no", "--dry-run"],
        "--data-dir": ["bench-data", "--data", "tfds:mnist", "--data-dir=~/shapes"],
        "--explain": ["predict", image, "--model=~/shapes", "--explain=~/shapes/x/why.png"],
    }[option]
    code, text = invoke(*command)
    assert code == 1
    assert ("best.safetensors' does not fit" if option == "--weights" else str(run)) in text
    assert "'~" not in text


# Which preparation -------------------------------------------------------------------------------


def weights_with_own_preparation(kind: str, folder: Path) -> list[str]:
    """A tiny ResNet-18 that states its preparation: what to name as the model and its weights."""
    model = kr.ResNet18(weights=None, classes=3)
    file = folder / "own.safetensors"
    kr.save_safetensors(model, file, architecture="resnet18", metadata=OWN)
    if kind == "file":
        return ["resnet18", str(file)]
    if kind == "file that names its architecture":
        return [str(file)]
    file.rename(folder / "model.safetensors")
    if kind == "folder of a file":
        return ["resnet18", str(folder)]
    stated = {"crop_pct": 0.875} if kind == "repository that says a part" else OWN
    config = {"architecture": "resnet18", "num_classes": 3, "pretrained_cfg": stated}
    (folder / "config.json").write_text(json.dumps(config))
    return [str(folder)]


@pytest.mark.parametrize(
    "kind",
    [
        *("file", "file that names its architecture", "folder of a file"),
        *("repository", "repository that says a part"),
    ],
)
def test_what_weights_state_of_images_counts_everywhere(kind, tmp_path):
    named = weights_with_own_preparation(kind, tmp_path)
    stated = Preparation.stated_in(OWN)
    located = loading.locate(*named)
    assert located.preparation == stated
    normalize = located.build(include_preprocessing=True).get_layer("normalize")
    np.testing.assert_allclose(normalize.scale, 1 / (255 * np.array(stated.std)), rtol=1e-6)
    classifier = located.build_classifier()
    assert classifier.preparation.size == (48, 48)
    if len(named) == 1:
        assert kr.preprocessor(named[0]).mean == stated.mean
        model = kr.create_model(named[0], include_preprocessing=True)
        assert list(model.get_layer("normalize").scale) == list(normalize.scale)


@pytest.mark.parametrize("target", ["m.keras", "m.safetensors", "m.keras m.safetensors"])
def test_what_is_stated_of_images_is_kept_by_converting(target, images, tmp_path):
    """A saved model that takes normalised images is given them, where it says by what numbers."""
    (source,) = weights_with_own_preparation("file that names its architecture", tmp_path)
    path = source
    for name in target.split():
        before, path = path, tmp_path / name
        assert invoke("convert", before, path)[0] == 0
    assert loading.locate(path).preparation == Preparation.stated_in(OWN)
    assert kr.preprocessor(path).mean == OWN["mean"]
    pictures = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3)).astype("float32")
    found, expected = (
        loading.locate(model).build_classifier().probabilities(pictures) for model in (path, source)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    said = [invoke("predict", some(images)[0], "--model", model) for model in (path, source)]
    assert said[0] == said[1]
    assert said[0][0] == 0


def test_what_nobody_states_is_said_aloud(tmp_path):
    kr.ResNet18(weights=None, classes=3).save_weights(tmp_path / "bare.weights.h5")
    located = loading.locate("resnet18", str(tmp_path / "bare.weights.h5"))
    assert located.preparation is None
    with pytest.warns(UserWarning, match="Nothing states how images are prepared"):
        assert located.preparation_or_usual().mean == IMAGENET_MEAN


def saved(tmp_path: Path, *own: layers.Layer, activation: str | None = "softmax") -> Path:
    """A whole model of somebody's own, with layers in front."""
    image = keras.Input((24, 24, 3))
    x = image
    for layer in own:
        x = layer(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(x))
    model = keras.Model(image, layers.Dense(3, activation=activation)(x))
    model.save(tmp_path / "own.keras")
    return tmp_path / "own.keras"


def test_a_saved_model_that_takes_normalised_images_is_refused(tmp_path, images):
    path = saved(tmp_path)
    for command in (
        ["evaluate", "--data", f"folder:{images}", "--model", path],
        ["predict", some(images)[0], "--model", path],
    ):
        code, text = invoke(*command)
        assert code == 1
        assert "must normalise RGB values 0 to 255 in its own layers" in text


@pytest.mark.parametrize(
    "front", [layers.Rescaling(1 / 255), layers.Normalization(mean=0.0, variance=1e4)]
)
def test_a_saved_model_of_logits_is_given_its_softmax(front, tmp_path, images):
    path = saved(tmp_path, front, activation=None)
    code, text = invoke("predict", some(images)[0], "--model", path, "--json")
    assert code == 0, text
    shares = [score["probability"] for score in json.loads(text)[0]["classes"]]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert min(shares) >= 0
    code, text = invoke("evaluate", "--data", f"folder:{images}", "--model", path, "--json")
    assert code == 0, text
    assert np.isfinite(json.loads(text)["cross_entropy"])


# What is none ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        *("runs/typo", "./resnet50", "flowers.keras", "best.safetensors", "~/nothing/there"),
        *("resnet50.safetensors", "resnet50.keras", "resnet50.in1k.pth"),  # Called by what it is.
    ],
)
def test_what_looks_like_a_path_is_spoken_of_as_one(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="must be a file or folder that exists") as error:
        loading.locate(model)
    assert repr(Path(model).expanduser().name)[1:-1] in str(error.value)
    code, text = invoke("predict", "cat.png", "--model", model)
    assert code == 1
    assert "must be a file or folder that exists" in text


def test_a_file_that_is_called_like_an_architecture_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = kr.ResNet20(weights=None, classes=3, include_preprocessing=True)
    model.save("resnet20.keras")
    kr.save_safetensors(model, "resnet20.in1k.safetensors", architecture="resnet20")
    for file in ("resnet20.keras", "resnet20.in1k.safetensors"):
        assert kr.create_model(file).output_shape == (None, 3)


def test_a_run_without_weights_yet_says_so(run, tmp_path):
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(run / "config.json", begun)
    with pytest.raises(ValueError, match="the run must have finished an epoch"):
        loading.locate(begun)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half of one"])
def test_a_damaged_saved_model_is_one_sentence(content, tmp_path):
    (tmp_path / "broken.keras").write_bytes(content)
    with pytest.raises(ValueError, match=r"Received: .*broken\.keras"):
        loading.locate(tmp_path / "broken.keras").build()


def test_a_file_of_weights_that_names_no_architecture_asks_for_it(tmp_path):
    kr.ResNet18(weights=None, classes=3).save_weights(tmp_path / "bare.weights.h5")
    with pytest.raises(ValueError, match="name the architecture as the model"):
        loading.locate(tmp_path / "bare.weights.h5")


# The README's own way ----------------------------------------------------------------------------


def example(name: str):
    path = Path(__file__).parents[1] / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.exhaustive
def test_from_training_to_serving_the_same_images_get_the_same_classes(run, images, tmp_path):
    """Trained at 32 pixels on pictures of 24, exported with preprocessing, served and run."""
    files = some(images)
    code, text = invoke("predict", *files, "--model", run, "--json")
    expected = top1(text)
    assert np.mean([a == p.parent.name for a, p in zip(expected, files, strict=True)]) >= 0.9
    names = {}
    for suffix in ("onnx", "tflite", "xml", ""):
        out = tmp_path / f"model.{suffix}".rstrip(".")
        code, text = invoke("export", out, "--model", run, "--include-preprocessing", "--json")
        assert code == 0, text
        metadata = json.loads(text)["metadata"]
        assert tuple(metadata["input_size"][-2:]) == (SIZE, SIZE)
        assert metadata["labels"] == sorted(CLASSES)
        names[suffix] = out
    serve, on_device = example("serve"), example("on_device")
    service = serve.Classifier(names["onnx"])
    answers = []
    for path in files:
        crop, _ = serve.read_crop(path.read_bytes(), service)
        [(scores, _)] = service.answer([service.values(crop)], with_features=False)
        answers.append(service.label(int(np.argmax(scores))))
    assert answers == expected
    device = on_device.Classifier(names["tflite"])
    found = [device.labels[int(np.argmax(device.answer(np.asarray(Image.open(p)))))] for p in files]
    assert found == expected
