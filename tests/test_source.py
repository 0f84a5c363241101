"""What weights say about themselves counts wherever they are read."""

import json

import keras
import numpy as np
import pytest
from checkpoint_files import build, state_of
from nets import CASES
from safetensors.numpy import save_file

import keras_resnets as kr
from keras_resnets.checks import canonical
from keras_resnets.layers import Preprocessor
from keras_resnets.preparation import Preparation
from keras_resnets.weights import checkpoint, published, source
from keras_resnets.weights.facts import Facts

CHANGES = dict(CASES["basic"].changes)  # A tiny ResNet-18.
HALF = dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
STATED = {"input_size": [3, 96, 128], "crop_pct": 0.9, "interpolation": "bicubic", **HALF}


def normalization_of(model: keras.Model) -> tuple[list[float], list[float]]:
    """Mean and deviation by what the model's first layer does to black and to white."""
    layer = model.get_layer("normalize")
    black, white = (
        keras.ops.convert_to_numpy(layer(np.full((1, 1, 1, 3), value, "float32")))
        .ravel()
        .astype("float64")
        for value in (0, 255)
    )
    std = 1 / (white - black)
    return (-black * std).round(5).tolist(), std.round(5).tolist()


def saved(kind: str, folder) -> str:
    """A file with the weights of the tiny network, which says that mean and deviation are 0.5."""
    model = build("basic", classes=10)
    kr.load_weights(model, state_of("basic"))
    if kind in ("file", "folder"):
        path = folder / ("model.safetensors" if kind == "folder" else "mine.safetensors")
        kr.save_safetensors(model, path, metadata=STATED)
        return str(folder if kind == "folder" else path)
    path = folder / "model.keras"
    if kind == "keras with Preprocessor":
        prepare = Preprocessor((96, 128), 0.9, "bicubic", **HALF)
        keras.Sequential([keras.Input((None, None, 3)), prepare, model]).save(path)
        return str(path)
    config = folder / "config.json"
    config.write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": HALF}))
    save_file(state_of("basic"), folder / "model.safetensors")
    if kind == "config":
        return str(folder)
    kr.ResNet18(weights=folder, include_preprocessing=True, **CHANGES).save(path)
    return str(path)


@pytest.mark.parametrize(
    "kind", ["file", "folder", "config", "keras that normalises", "keras with Preprocessor"]
)
def test_a_model_normalises_as_its_weights_say(kind, tmp_path):
    path = saved(kind, tmp_path)
    model = kr.ResNet18(weights=path, include_preprocessing=True, **CHANGES)
    assert normalization_of(model) == (HALF["mean"], HALF["std"])
    found = source.find("resnet18", path)
    assert found.preparation.mean == (0.5, 0.5, 0.5)
    states_size = kind in ("file", "folder", "keras with Preprocessor")
    assert (found.preparation == Preparation.stated_in(STATED)) == states_size


def test_a_model_of_weights_that_say_nothing_normalises_as_usual(tmp_path):
    save_file(state_of("basic"), tmp_path / "plain.safetensors")
    found = source.find("resnet18", tmp_path / "plain.safetensors")
    assert (found.preparation, found.class_names, found.licence, found.architecture) == (None,) * 4
    model = kr.ResNet18(weights=found.path, include_preprocessing=True, **CHANGES)
    assert normalization_of(model) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def test_what_cannot_be_followed_about_images_matters_only_to_who_prepares_them(tmp_path):
    path = tmp_path / "odd.safetensors"
    save_file(state_of("basic"), path, metadata={"interpolation": "lanczos"})
    assert kr.ResNet18(weights=path, **CHANGES).output_shape == (None, 10)
    with pytest.raises(ValueError, match="interpolation must be one of"):
        kr.ResNet18(weights=path, include_preprocessing=True, **CHANGES)


def test_a_config_counts_before_the_catalog_and_that_before_the_file(tmp_path):
    save_file(state_of("basic"), tmp_path / "model.safetensors", metadata={"crop_pct": "0.5"})
    entry = published.find("resnet18", "a1_in1k")

    def weights(config, entry=None):
        (tmp_path / "config.json").write_text(json.dumps(config))
        found = source.find("resnet18", str(tmp_path))
        return source.dataclasses.replace(found, published=entry)

    assert weights({"crop_pct": 0.8}, entry).preparation.crop_pct == 0.8
    assert weights({"license": "mit"}, entry).preparation == entry.preparation
    assert weights({}).preparation.crop_pct == 0.5
    assert weights({"label_names": ["a"]}, entry).class_names == (("a", "a"),)
    assert weights({}, entry).class_names == tuple(published.class_names())
    assert weights({"license": "mit"}).licence == "mit"


def test_facts_are_read_from_texts_and_from_both_levels_of_a_config():
    facts = Facts(
        {
            "architecture": "resnet50.mine",
            "num_classes": 2,
            "pretrained_cfg": {"num_classes": 1000, "input_size": [1, 28, 28], "license": "mit"},
            "label_names": '["cat", "dog"]',
            "label_descriptions": {"dog": "a dog"},
        }
    )
    assert (facts.architecture, facts.classes, facts.channels) == ("resnet50", 2, 1)
    assert facts.class_names == (("cat", "cat"), ("dog", "a dog"))
    assert facts.licence == "mit"
    kept = facts.of_the_weights()
    assert kept.keys() == {"input_size", "label_names", "label_descriptions", "license"}
    assert Facts(kept).class_names == facts.class_names
    assert Facts({"model_args": {"in_chans": 4}}).channels == 4
    nothing = Facts({"label_names": [], "num_classes": 0, "pretrained_cfg": None})
    assert (nothing.classes, nothing.class_names, nothing.channels) == (None, None, None)


def test_a_repository_of_transformers_is_read_or_refused(tmp_path):
    save_file(state_of("basic"), tmp_path / "model.safetensors")
    config = {"model_type": "resnet", "hidden_act": "relu", "downsample_in_bottleneck": False}
    config["id2label"] = {str(number): f"class {number}" for number in range(12)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    names = source.find("resnet18", str(tmp_path)).class_names
    assert names == tuple((f"class {number}",) * 2 for number in range(12))
    for change in (
        {"downsample_in_bottleneck": True},
        {"downsample_in_first_stage": True},
        {"hidden_act": "gelu"},
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=f"config.json must .* with {next(iter(change))}="):
            kr.ResNet18(weights=tmp_path, **CHANGES)


def test_names_compare_equal_however_their_accents_are_written():
    assert canonical("cafe\u0301") == canonical("caf\u00e9") == "caf\u00e9"
    assert canonical("cafe") != canonical("caf\u00e9")


def test_the_licence_of_a_file_is_mentioned(tmp_path):
    source._warn_of_licence.cache_clear()
    path = tmp_path / "theirs.safetensors"
    save_file(state_of("basic"), path, metadata={"license": "cc-by-nc-4.0"})
    with pytest.warns(UserWarning, match="'cc-by-nc-4.0', which forbids commercial use"):
        kr.ResNet18(weights=path, **CHANGES)
    assert published.is_permissive("BSD-2-Clause")


def test_metadata_is_read_with_the_tensors(tmp_path):
    path = tmp_path / "mine.safetensors"
    kr.save_safetensors(build("basic", classes=10), path, metadata={"label_names": ["a", "b"]})
    read = checkpoint.read(path)
    assert read.metadata == checkpoint.read_metadata(path)
    assert read.facts.class_names == (("a", "a"), ("b", "b"))
    assert read.facts.architecture == "resnet18"
