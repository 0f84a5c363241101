"""What earlier versions saved is read by this one, and gives what it gave then.

The files are in `tests/fixtures`, a folder for each version, and were written by its
`tools/make_version_fixtures.py`, which says what is in them. Only public names and the command are
used here: everything else may move.
"""

import csv
import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import version_io
from goldens_io import relative_error
from processes import run_child

import keras_resnets as kr

VERSIONS = ("version_0_1",)  # By name: a folder that is gone fails.
# Of the largest output: on other machines and backends sums are added up otherwise.
TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=VERSIONS)
def version(request) -> Path:
    return version_io.FOLDER / request.param


@pytest.fixture(scope="module")
def networks(version, tmp_path_factory) -> Path:
    return version_io.unpack(version / "networks.tar.xz", tmp_path_factory.mktemp("networks"))


def call(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """The outputs; in one piece on JAX, which would compile operation by operation."""
    call = model.predict_on_batch if keras.backend.backend() == "jax" else model
    return keras.ops.convert_to_numpy(call(images))


def assert_outputs(version: Path, name: str, outputs, what: str) -> None:
    with np.load(version / "outputs.npz") as stored:
        assert relative_error(outputs, stored[name]) <= TOLERANCE, f"{name}: {what}"


# Networks ----------------------------------------------------------------------------------------

# Imports Keras and the package, nothing else: what loads a file is what the package registers by
# itself. Safe mode is load_model's default.
_LOAD = """
import json
import sys
from pathlib import Path
from unittest import mock

import keras
import keras_resnets as kr
import numpy as np

folder = Path(sys.argv[1])
facts = {}
# Random numbers to be overwritten: JAX compiles their drawing for each shape.
drawn = mock.patch.object(
    keras.initializers.VarianceScaling, "__call__", lambda _, shape, dtype: np.zeros(shape, dtype)
)
for name, net in json.loads(Path(sys.argv[2]).read_text()).items():
    with drawn:
        model = keras.models.load_model(folder / f"{name}.keras")
    call = model.predict_on_batch if keras.backend.backend() == "jax" else model
    outputs = call(np.load(folder / f"{net['takes']}.npy"))
    np.save(folder / f"{name}.outputs.npy", keras.ops.convert_to_numpy(outputs))
    weights = {
        f"{layer.name}/{variable.name}": keras.ops.convert_to_numpy(variable)
        for layer in model.layers
        for variable in layer.weights
    }
    np.savez(folder / f"{name}.weights.npz", **weights)
    levels = kr.feature_levels(model, net["arguments"].get("prefix", ""))
    classes = map(keras.saving.get_registered_object, net["registered"])
    facts[name] = {
        "levels": {key: [level.stride, level.channels] for key, level in levels.items()},
        "classes": [found and found.__name__ for found in classes],
        "layers": sorted({type(layer).__name__ for layer in (model, *model.layers)}),
    }
(folder / "facts.json").write_text(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def loaded(version, networks) -> Path:
    """The folder of the networks, with what one fresh process made of all saved models."""
    with np.load(version / "outputs.npz") as stored:
        for takes in ("rgb", "normalised"):
            values = version_io.inputs({"takes": takes}, stored["images"])
            np.save(networks / f"{takes}.npy", values)
    run_child(_LOAD, networks, version / "networks.json")
    return networks


@pytest.mark.backend
def test_saved_models_give_the_same_in_a_fresh_process(version, loaded):
    names = {path.stem for path in loaded.glob("*.keras")}
    assert names == version_io.networks(version).keys()
    for name in sorted(names):
        assert_outputs(version, name, np.load(loaded / f"{name}.outputs.npy"), ".keras")


def test_classes_of_saved_models_are_registered_by_the_package_alone(version, loaded):
    facts = json.loads((loaded / "facts.json").read_text())
    for name, net in version_io.networks(version).items():
        assert net["registered"], name
        classes = [registered.partition(">")[2] for registered in net["registered"]]
        assert facts[name]["classes"] == classes, name
        assert set(classes) <= set(facts[name]["layers"]), name


def test_loaded_models_have_their_feature_levels(version, loaded):
    facts = json.loads((loaded / "facts.json").read_text())
    for name, net in version_io.networks(version).items():
        assert facts[name]["levels"] == net["levels"], name


def weights_loaded(net: dict, folder: Path, name: str) -> Iterator[tuple[str, keras.Model]]:
    """A network of the builder with the weights of one file after the other, and of which."""
    model = version_io.build(net)
    prefix = net["arguments"].get("prefix", "")
    for ending, load in (
        ("safetensors", functools.partial(kr.load_weights, model, prefix=prefix)),
        ("weights.h5", functools.partial(kr.load_weights, model, prefix=prefix)),
        ("weights.h5", model.load_weights),
    ):
        for variable in model.weights:
            if variable.name != "rate":
                variable.assign(np.zeros(variable.shape))
        load(folder / f"{name}.{ending}")
        yield ending, model


@pytest.mark.backend
def test_files_of_weights_fit_the_networks_of_the_builder(version, loaded):
    with np.load(version / "outputs.npz") as stored:
        images = stored["images"]
    for name, net in version_io.networks(version).items():
        if net["formats"] == ["keras"]:
            continue
        saved = dict(np.load(loaded / f"{name}.weights.npz"))
        for ending, model in weights_loaded(net, loaded, name):
            assert_outputs(version, name, call(model, version_io.inputs(net, images)), ending)
            # Bit by bit too: behind a ReLU that is never active no output shows a weight.
            weights = {f"{layer.name}/{v.name}": v for layer in model.layers for v in layer.weights}
            assert weights.keys() == saved.keys()
            for key, variable in weights.items():
                values = keras.ops.convert_to_numpy(variable)
                np.testing.assert_array_equal(values, saved[key], err_msg=f"{name}: {key}")


# Runs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(version, tmp_path_factory) -> Path:
    return version_io.unpack(version / "runs.tar.xz", tmp_path_factory.mktemp("runs"))


def log(run: Path) -> list[dict[str, float]]:
    """What a run measured, an epoch a row."""
    rows = csv.DictReader((run / "log.csv").read_text().splitlines())
    return [{key: float(value) for key, value in row.items()} for row in rows]


def test_the_best_weights_of_a_run_are_as_good_as_its_log_says(runs):
    code, printed, errors = version_io.command(
        "evaluate", "--model", runs / "stopped", "--data", "digits", "--json"
    )
    assert code == 0, errors
    found = json.loads(printed)
    best = max(log(runs / "stopped"), key=lambda row: row["val_top1"])
    assert found["images"] == 360
    assert found["top1"] == pytest.approx(best["val_top1"], abs=1e-6)
    assert found["top5"] == pytest.approx(best["val_top5"], abs=1e-6)
    assert found["cross_entropy"] == pytest.approx(best["val_cross_entropy"], rel=1e-5)


def test_both_files_of_a_runs_best_weights_are_one_network(version, runs):
    folder = runs / "stopped"
    config = json.loads((folder / "config.json").read_text())
    saved = keras.models.load_model(folder / "best.keras")
    built = kr.create_model(
        config["model"],
        weights=folder / "best.safetensors",
        include_preprocessing=True,
        **config["recipe"]["config_changes"],
    )
    with np.load(version / "outputs.npz") as stored:
        images = stored["images"].astype("float32")
    one, other = (call(model, images) for model in (saved, built))
    assert one.shape == (2, len(json.loads((folder / "classes.json").read_text())))
    assert relative_error(other, one) <= TOLERANCE


def test_a_stopped_run_goes_on_to_what_it_would_have_come_to(runs, tmp_path):
    folder, whole = tmp_path / "run", runs / "finished"
    shutil.copytree(runs / "stopped", folder)
    begun = log(folder)
    assert len(begun) < len(log(whole))
    code, _, errors = version_io.command("train", "--resume", "--out", folder)
    assert code == 0, errors
    rows = log(folder)
    assert rows[: len(begun)] == begun
    for row, expected in zip(rows, log(whole), strict=True):
        for key in expected.keys() - {"seconds"}:
            assert row[key] == pytest.approx(expected[key], abs=1e-4), key
    ours, theirs = (json.loads((run / "evaluation.json").read_text()) for run in (folder, whole))
    assert ours["confusion"] == theirs["confusion"]
    assert ours["cross_entropy"] == pytest.approx(theirs["cross_entropy"], rel=1e-4)
    assert {path.name for path in whole.iterdir()} <= {path.name for path in folder.iterdir()}
