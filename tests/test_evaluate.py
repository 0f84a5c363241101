"""What `keras-resnets evaluate` counts: which images, of which classes, in whose words."""

import dataclasses
import json
import shutil
import unicodedata

import keras
import numpy as np
import pytest
from tiny_runs import CLASSES, ONE_BLOCK, invoke, pictures, tiny_config, write_pictures

import keras_resnets as kr
from keras_resnets import loading
from keras_resnets.graph.classifier import Classifier
from keras_resnets.preparation import Preparation
from keras_resnets.training import answers, batches, data, evaluate
from keras_resnets.training.run import train
from keras_resnets.weights import hub

SEED = 5


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory):
    """Two images of each class are held out for validation."""
    return write_pictures(tmp_path_factory.mktemp("plain"), 60)


@pytest.fixture(scope="module")
def run(plain_folder, tmp_path_factory):
    """A run on the folder, whose splits are drawn by a seed."""
    config = tiny_config(
        data=f"folder:{plain_folder}", seed=SEED, changes={**ONE_BLOCK, "epochs": 1}
    )
    return train(config, tmp_path_factory.mktemp("runs") / "run").folder.path


def evaluated(*arguments) -> dict:
    """What the command says in JSON, warnings apart."""
    code, text = invoke("evaluate", "--json", *arguments)
    assert code == 0, text
    return json.loads(text[text.index("{") :])


def images_in(result: dict) -> set[str]:
    """The images that were counted, where there are no more than are listed."""
    assert result["images"] <= 16
    return {image["id"] for image in result["worst"]}


def held_out(folder, seed: int, split: str = "validation") -> set[str]:
    return set(data.load(f"folder:{folder}", split, seed=seed).source.ids)


# How images are prepared -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_of_imagenet(tmp_path_factory):
    """One image of each of two of ImageNet's classes."""
    names = ("n01440764", "n02124075", "n07753592")
    return write_pictures(tmp_path_factory.mktemp("two"), 2, names=names)


@pytest.fixture(scope="module")
def weights_of_resnet18(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    kr.save_safetensors(kr.ResNet18(weights=None), path)
    return path


@pytest.fixture
def fetched(weights_of_resnet18, monkeypatch) -> None:
    """Published weights, of whatever values, are on this machine."""

    def fetch(address):
        return hub.HubRepository(str(weights_of_resnet18), None, address)

    monkeypatch.setattr(hub, "fetch", fetch)


# None is left to the usual: 224 pixels, crop 0.875, bilinear.
PUBLISHED = {
    "the default": (["resnet18"], "a1_in1k"),
    "imagenet": (["resnet18", "--weights", "imagenet"], "a1_in1k"),
    "a tag": (["resnet18.a3_in1k"], "a3_in1k"),
    "weights by tag": (["resnet18", "--weights", "tv_in1k"], "tv_in1k"),
    "another name": (["ResNet18", "--weights", "gluon_in1k"], "gluon_in1k"),
    "an address": (["resnet18", "--weights", "hf://timm/resnet18.a2_in1k"], "a2_in1k"),
}


@pytest.mark.parametrize(("model", "tag"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_weights_are_evaluated_at_their_own_size_crop_and_interpolation(
    model, tag, two_of_imagenet, fetched, monkeypatch
):
    seen = {}

    def recorded(examples, **arguments):
        seen.update(arguments)
        return batches.evaluation_batches(examples, **arguments)

    monkeypatch.setattr(answers, "evaluation_batches", recorded)
    data_set = ("--data", f"folder:{two_of_imagenet}", "--batch-size", 2)
    result = evaluated(*data_set, "--model", *model)
    stated = kr.ResNet18.pretrained[tag].preparation.at_test_size()
    assert seen["image_size"] == stated.size[0]
    assert (seen["crop_pct"], seen["interpolation"]) == (stated.crop_pct, stated.interpolation)
    assert result["reported"]["top1"] == kr.ResNet18.pretrained[tag].top1


@pytest.mark.parametrize(("model", "tag"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_weights_are_exported_with_their_own_preparation_and_licence(
    model, tag, fetched, tmp_path, monkeypatch
):
    seen = {}

    def recorded(network, path, **arguments):
        seen.update(arguments)
        raise ValueError("that is enough")

    monkeypatch.setattr("keras_resnets.commands.export.export", recorded)
    code, text = invoke("export", tmp_path / "m.onnx", "--model", *model)
    assert (code, "that is enough" in text) == (1, True)
    row = kr.ResNet18.pretrained[tag]
    assert seen["preprocessing"] == row.preparation
    assert (seen["licence"], seen["architecture"]) == (row.license, "resnet18")
    assert seen["labels"][0] == "tench, Tinca tinca"


# Which images ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["the folder", "its best model", "another name of the data"])
def test_a_run_is_evaluated_on_what_it_held_out(name, run, plain_folder, tmp_path):
    model, folder = run, plain_folder
    if name == "its best model":
        model = run / "best.keras"
    if name == "another name of the data":
        folder = tmp_path / "link"
        folder.symlink_to(plain_folder)
    result = evaluated("--model", model, "--data", f"folder:{folder}")
    found = {path.replace(str(folder), str(plain_folder)) for path in images_in(result)}
    assert found == held_out(plain_folder, SEED)
    assert found != held_out(plain_folder, 0)
    assert result["of"].endswith(f"drawn by the seed {SEED}, as the run had it")


def test_a_seed_that_contradicts_the_runs_wins_and_is_named(run, plain_folder):
    with pytest.warns(UserWarning, match="held out other images, by its seed 5, not 3"):
        result = evaluated("--model", run, "--data", f"folder:{plain_folder}", "--seed", 3)
    assert images_in(result) == held_out(plain_folder, 3)
    assert "as the run had it" not in result["of"]


@pytest.mark.parametrize("change", ["another image", "one fewer", "another class"])
def test_data_that_have_changed_since_the_run_are_named(change, run, plain_folder, tmp_path):
    folder = tmp_path / "plain"
    shutil.copytree(plain_folder, folder)
    shutil.copytree(run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text()) | {"data": f"folder:{folder}"}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    command = ("--model", tmp_path / "run", "--data", f"folder:{folder}")
    assert evaluated(*command)["of"].endswith("as the run had it")
    images = sorted((folder / "disc").iterdir())
    if change == "another image":
        images[0].rename(folder / "disc" / "new.png")
    elif change == "one fewer":
        images[0].unlink()
    else:
        images[0].rename(folder / "cross" / images[0].name)
    with pytest.warns(UserWarning, match="held out other images, of other data: then 54 and 6"):
        assert "as the run had it" not in evaluated(*command)["of"]


def test_other_data_without_splits_is_counted_whole(run, tmp_path):
    other = write_pictures(tmp_path / "other", 15, seed=9)
    result = evaluated("--model", run, "--data", f"folder:{other}")
    assert images_in(result) == {str(path) for path in other.rglob("*.png")}
    assert result["of"].startswith("all images of folder:")
    assert "the run was trained on folder:" in result["of"]
    # What was held out can still be had, by any model.
    result = evaluated("--model", run, "--data", f"folder:{other}", "--split", "validation")
    assert images_in(result) == held_out(other, 0)
    assert result["of"].endswith("a tenth of its images, drawn by the seed 0")


def test_data_with_splits_is_counted_by_the_one_for_it(run, tmp_path):
    for split, count in (("train", 6), ("Testing", 9)):
        write_pictures(tmp_path / split, count)
    result = evaluated("--model", run, "--data", f"folder:{tmp_path}")
    assert (result["split"], result["images"]) == ("test", 9)
    write_pictures(tmp_path / "dev", 12)
    result = evaluated("--model", run, "--data", f"folder:{tmp_path}")
    assert (result["split"], result["images"]) == ("validation", 12)
    code, text = invoke(
        "evaluate", "--model", run, "--data", f"folder:{tmp_path}", "--split", "all"
    )
    assert (code, "'all' is for data sets without splits" in text) == (1, True)


def test_the_mean_over_mirror_images_is_the_same_either_way_round():
    """A model that sees only the left of an image; mirrored it sees the right."""
    image = keras.Input((None, None, 3))
    left = keras.layers.GlobalAveragePooling2D()(keras.layers.Cropping2D(((0, 0), (0, 12)))(image))
    outputs = keras.layers.Activation("softmax")(left / 25.5)
    seer = Classifier(keras.Model(image, outputs), Preparation(size=24, crop_pct=1.0), None)
    images = np.random.default_rng(0).integers(0, 256, (6, 24, 24, 3), "uint8")
    images[:, :, :12, 0], images[:, :, 12:, 1] = 250, 250
    labels = np.arange(6) % 3
    means = [
        x.astype("float64").mean((1, 2)) / 25.5 for x in (images[:, :, :12], images[:, :, 12:])
    ]
    shares = [np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in means]
    for flipped in (images, images[:, :, ::-1]):
        examples = data.load((flipped, labels), "all")
        found = evaluate.evaluate(seer, examples, batch_size=4, flip=True)
        expected = -np.log(np.mean(shares, axis=0)[range(6), labels]).mean()
        assert found.cross_entropy == pytest.approx(expected, rel=1e-4)
        plain = evaluate.evaluate(seer, examples, batch_size=4)
        assert plain.cross_entropy != pytest.approx(expected, rel=1e-2)


def test_the_command_says_that_it_flips(run, plain_folder):
    result = evaluated("--model", run, "--data", f"folder:{plain_folder}", "--flip")
    assert result["of"].endswith("as the run had it; the mean of each image and its mirror image")


# Which classes -----------------------------------------------------------------------------------


class Constant(keras.layers.Layer):
    """Says of every image that it is of the second class."""

    def call(self, inputs):
        ones = keras.ops.ones_like(inputs[:, 0, 0, :1])
        return keras.ops.concatenate([0 * ones, ones, 0 * ones], axis=1)


def classifier(*names: str, known: bool = True) -> Classifier:
    image = keras.Input((None, None, 3))
    outputs = keras.layers.Activation("softmax")(100 * Constant()(image))
    preparation = Preparation(size=24, crop_pct=1.0)
    both = tuple((name, name) for name in names)
    return Classifier(keras.Model(image, outputs), preparation, both if known else None)


def recalls(evaluation: evaluate.Evaluation) -> dict[str, float | None]:
    return {row["class"]: row["recall"] for row in evaluation.by_class()}


def test_classes_in_another_order_are_matched_by_name(tmp_path):
    examples = data.load(f"folder:{write_pictures(tmp_path, 9)}", None)
    assert examples.class_names == ("cross", "disc", "stripes")
    found = evaluate.evaluate(classifier("stripes", "cross", "disc"), examples, batch_size=4)
    assert recalls(found) == {"stripes": 0.0, "cross": 1.0, "disc": 0.0}
    # Without names there are places only, as many as classes.
    unnamed = classifier("stripes", "cross", "disc", known=False)
    assert recalls(evaluate.evaluate(unnamed, examples, batch_size=4))["disc"] == 1.0


def test_classes_that_the_data_lacks_are_no_obstacle(tmp_path):
    images, labels = pictures(9)
    write_pictures(tmp_path, 9)
    for path in (tmp_path / "cross").iterdir():
        path.unlink()
    (tmp_path / "cross").rmdir()
    examples = data.load(f"folder:{tmp_path}", "all")
    found = evaluate.evaluate(classifier(*CLASSES), examples, batch_size=4)
    assert found.class_names == CLASSES
    assert recalls(found) == {"cross": None, "disc": 1.0, "stripes": 0.0}
    # Where the data only numbers its classes, they are places.
    numbered = data.load((images[labels < 2], labels[labels < 2]), "all")
    assert recalls(evaluate.evaluate(classifier(*CLASSES), numbered, batch_size=4)) == {
        "cross": 0.0,
        "disc": 1.0,
        "stripes": None,
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("cross", "disk", "stripes"), r"it has cross, disc, stripes.*'disc'.*unknown=\['disk'\]"),
        (("a", "b", "c"), r"unknown=\['a', 'b', 'c'\]"),
        (("cross", "Disc", "stripes"), r"Did you mean 'disc'"),
    ],
)
def test_classes_that_the_model_does_not_know_are_refused(names, message, tmp_path):
    examples = data.load(f"folder:{write_pictures(tmp_path, 9, names=names)}", None)
    with pytest.raises(ValueError, match=f"model must have the classes of the data.*{message}"):
        evaluate.evaluate(classifier(*CLASSES), examples, batch_size=4)


def test_accents_are_the_same_however_a_system_writes_them(tmp_path):
    composed = ("cr\u00eape", "disc", "stripes")
    apart = tuple(unicodedata.normalize("NFD", name) for name in composed)
    assert apart != composed
    examples = data.load(f"folder:{write_pictures(tmp_path, 9, names=apart)}", None)
    found = evaluate.evaluate(classifier(*composed), examples, batch_size=4)
    assert found.class_names == composed


def test_imagenets_classes_go_by_their_synset_or_a_name_of_theirs_alone():
    known = kr.weights.published.class_names()

    def matched(*names):
        examples = data.Examples("", "all", names, data.load("digits", "train").source)
        return evaluate.match_classes(examples, known, 1000)[1]

    assert matched("n01443537", "tench", "hammerhead, hammerhead shark") == [1, 0, 4]
    with pytest.raises(ValueError, match=r"unknown=\['crane'\]"):
        matched("crane", "tench")


def test_a_published_model_of_other_classes_is_refused_before_it_is_built(plain_folder):
    for model in ("resnet50.a1_in1k", "resnet50"):
        code, text = invoke("evaluate", "--data", f"folder:{plain_folder}", "--model", model)
        assert code == 1
        assert "model must have the classes of the data" in text


def test_what_is_reported_of_a_published_checkpoint_stands_beside_what_is_measured(
    run, plain_folder, monkeypatch
):
    published = kr.ResNet50.pretrained["a1_in1k"]
    located = loading.locate(str(run))
    known = dataclasses.replace(published, classes=len(CLASSES))
    as_published = dataclasses.replace(
        located, run=None, asked=dataclasses.replace(located.asked, published=known)
    )
    monkeypatch.setattr("keras_resnets.commands.evaluate.locate", lambda *names: as_published)
    code, text = invoke(
        "evaluate", "--data", f"folder:{plain_folder}", "--model", "resnet50.a1_in1k"
    )
    assert code == 0, text
    assert f"reported for resnet50.a1_in1k on ImageNet at {published.results_size}" in text
    assert f"{published.top1:.2f}%" in text
    assert all(name in text for name in CLASSES)


# Faults ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"no image", b"\xff\xd8\xff\xe0 half of a JPEG"])
def test_a_damaged_image_is_named_or_stops_the_evaluation_in_our_words(content, run, tmp_path):
    write_pictures(tmp_path, 9)
    damaged = tmp_path / "disc" / "damaged.jpg"
    damaged.write_bytes(content)
    command = ("evaluate", "--data", f"folder:{tmp_path}", "--model", run)
    with pytest.warns(UserWarning, match=r"images must be whole.*damaged\.jpg"):
        code, text = invoke(*command)
    assert (code, "of 9 images" in text) == (0, True)
    code, text = invoke(*command, "--strict-data")
    assert code == 1
    assert text.startswith("Error: images must be whole files")
    assert str(damaged) in text
    assert "Traceback" not in text


def test_a_file_that_goes_away_is_named_in_our_words(tmp_path):
    examples = data.load(f"folder:{write_pictures(tmp_path, 9)}", None, strict=True)
    next((tmp_path / "disc").iterdir()).unlink()
    with pytest.raises(ValueError, match=r"data must stay readable.*disc"):
        list(batches.read(batches.evaluation_batches(examples, image_size=8, batch_size=4)))
