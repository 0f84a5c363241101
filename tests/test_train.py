"""Runs: every recipe for a few steps, what a run leaves behind, and what stops and resumes one."""

import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from PIL import Image
from processes import started
from record_files import write_records
from tiny_runs import (
    CLASSES,
    DATA,
    ONE_BLOCK,
    TINY,
    at_step,
    invoke,
    last_arrays,
    names,
    pictures,
    tiny_config,
    write_pictures,
)

import keras_resnets as kr
from keras_resnets.loading import locate
from keras_resnets.training import callbacks, checkpoints, data, distribute, errors
from keras_resnets.training import run as run_module
from keras_resnets.training.batches import evaluation_batches
from keras_resnets.training.config import RunConfig, resolve
from keras_resnets.training.plan import plan
from keras_resnets.training.recipe import LOSSES, find_recipe, list_recipes
from keras_resnets.training.run import Run, RunResult, train
from keras_resnets.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> RunResult:
    """A run from beginning to end, with a moving average and a drop rate that moves."""
    changes = dict(ema=0.9, drop_block=0.1, ramp_drop_block=True, dropout=0.2)
    config = tiny_config(changes=changes, checkpoint_every=2, keep=20)
    return train(config, tmp_path_factory.mktemp("runs") / "run")


# Recipes -----------------------------------------------------------------------------------------

SMALL = {
    "rexnet": dict(initial_channels=16, final_channels=40, depth=0.2, small_inputs=True),
    "cifar": TINY,
    "quick": TINY,
}


@pytest.mark.long
@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_trains_a_tiny_network_of_its_family(name, tmp_path):
    shape = SMALL.get(name, dict(TINY, stem_width=16, small_inputs=True))
    changes = dict(epochs=1, batch_size=8, image_size=32, eval_image_size=32, warmup_epochs=0)
    config = resolve(DATA, None, "none", name, {**changes, **shape})
    run = Run(config, distribute.Placement())
    before = {v.path: keras.ops.convert_to_numpy(v) for v in run.model.trainable_variables}
    folder = RunFolder(tmp_path / "run")
    folder.create()
    progress = run.fit(folder)
    assert progress.step == 3
    assert np.isfinite([value for row in progress.history for value in row.values()]).all()
    moved = [v for v in run.model.trainable_variables if (v.numpy() != before[v.path]).any()]
    # A squeezed gate may rest on a ReLU that is never active, and blocks start as the identity.
    assert len(moved) > len(before) / 2
    assert {"best.keras", "best.safetensors", "log.csv"} <= names(folder.path)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_soft_labels_are_their_formulas(loss):
    config = tiny_config(changes={"loss": loss})
    run = Run(config, distribute.Placement())
    random = np.random.default_rng(0)
    logits = random.normal(size=(5, 3)).astype("float32")
    # A mixture of two classes, smoothed by 0.1.
    mixed = 0.7 * np.eye(3)[[0, 1, 2, 0, 1]] + 0.3 * np.eye(3)[[1, 1, 0, 2, 2]]
    targets = (0.9 * mixed + 0.1 / 3).astype("float32")
    if loss == "cross_entropy":
        logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        expected = -(targets * logs).sum(1).mean()
    else:
        p = 1 / (1 + np.exp(-logits))
        expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean()
        expected *= 3 if loss == "multi_label" else 1  # A sum over the classes.
    value = run.model.compute_loss(y=tf.constant(targets), y_pred=tf.constant(logits))
    assert float(value) == pytest.approx(expected, rel=1e-5)


# What a run leaves behind ------------------------------------------------------------------------


def test_a_run_leaves_everything_that_is_promised(finished):
    assert names(finished.folder.path) == set(
        "config.json versions.json classes.json log.csv checkpoints best.keras best.safetensors "
        "curves.png confusion.png worst.png evaluation.json report.md".split()
    )
    for picture in ("curves.png", "confusion.png", "worst.png"):
        with Image.open(finished.folder / picture) as image:
            assert min(image.size) > 200
            assert len(np.unique(np.asarray(image.convert("L")))) > 10
    report = (finished.folder / "report.md").read_text()
    assert f"| top-1 | {finished.evaluation.top1:.2%} |" in report
    assert "moving average" in report
    classifier = locate(finished.folder.path).build_classifier()
    assert f"| images prepared | {classifier.preparation} |" in report
    assert finished.folder.read_json("config.json")["recipe"]["epochs"] == 3
    assert "keras" in finished.folder.read_json("versions.json")


def test_the_log_has_a_line_for_each_epoch(finished):
    lines = (finished.folder / "log.csv").read_text().splitlines()
    columns = lines[0].split(",")
    assert {"epoch", "learning_rate", "loss", "top1", "val_top1", "val_cross_entropy"} <= set(
        columns
    )
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3"]


def test_the_exports_are_the_average_of_the_best_epoch(finished):
    """The last epoch's checkpoint has both; the export of that epoch would be the average."""
    history = finished.history
    best = callbacks.best_epoch(history)
    step = best * 3
    path = finished.folder.checkpoints / f"step-{step:010d}.safetensors"
    arrays = safetensors.numpy.load_file(path)
    model = keras.saving.load_model(finished.folder / "best.keras")
    averages = {name.split("/", 2)[2]: array for name, array in arrays.items() if "average" in name}
    weights = {name.split("/", 2)[2]: a for name, a in arrays.items() if name.startswith("model")}
    assert any("moving_mean" in name for name in averages)
    for variable in model.weights:
        if variable.name != "rate":
            assert np.array_equal(variable.numpy(), averages[variable.path]), variable.path
    assert any((averages[name] != weights[name]).any() for name in averages)


def test_exports_give_the_accuracy_that_is_reported(finished):
    model = keras.saving.load_model(finished.folder / "best.keras")
    probabilities = model.predict(np.zeros((1, 32, 32, 3)), verbose=0)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    same = kr.create_model(
        "resnet20",
        weights=str(finished.folder / "best.safetensors"),
        include_preprocessing=True,
        **TINY,
    )
    assert same.predict(np.zeros((1, 32, 32, 3)), verbose=0) == pytest.approx(
        probabilities, abs=1e-6
    )
    best = max(row["val_top1"] for row in finished.history)
    assert finished.evaluation.top1 == pytest.approx(best, abs=1e-6)


def test_the_weights_file_says_how_images_are_prepared(finished):
    with safetensors.safe_open(finished.folder / "best.safetensors", framework="np") as file:
        metadata = {key: file.metadata()[key] for key in ("input_size", "mean", "label_names")}
    assert {key: json.loads(value) for key, value in metadata.items()} == {
        "input_size": [3, 32, 32],
        "mean": [0.485, 0.456, 0.406],
        "label_names": list(finished.evaluation.class_names),
    }


def test_an_evaluation_counts_every_image_once(finished):
    evaluation = finished.evaluation
    assert evaluation.count == 9
    assert evaluation.confusion.sum(1).tolist() == [3, 3, 3]
    worst = [image.probability for image in evaluation.worst]
    assert len(worst) == 9
    assert worst == sorted(worst)
    assert evaluation.cross_entropy == pytest.approx(-np.log(worst).mean(), rel=1e-4)
    for row, recall in zip(evaluation.by_class(), np.diag(evaluation.confusion) / 3, strict=True):
        assert row["recall"] == pytest.approx(recall)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_validation_loss_is_that_of_the_images_alone(loss, tmp_path, capsys):
    """Nine images fill one batch of eight and an eighth of another; the tenth is damaged."""
    write_pictures(tmp_path / "train", 24)
    write_pictures(tmp_path / "val", 9, seed=1)
    (tmp_path / "val" / "disc" / "damaged.png").write_bytes(b"no image")
    config = tiny_config(
        data=f"folder:{tmp_path}", changes={**ONE_BLOCK, "epochs": 1, "ema": 0.0, "loss": loss}
    )
    with pytest.warns(UserWarning, match="damaged"):
        result = train(config, tmp_path / "run", verbose=2)
    model = keras.saving.load_model(result.folder / "best.keras")
    examples = data.load(config.data, "validation")
    losses = []
    for images, labels, weights in evaluation_batches(
        examples, image_size=32, batch_size=5, crop_pct=1.0
    ):
        p, y = model.predict_on_batch(images), labels.numpy()
        one = -(y * np.log(p)).sum(1)
        if loss != "cross_entropy":
            one = -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(1)
            one /= 3 if loss == "binary_cross_entropy" else 1
        losses += one[weights.numpy() > 0].tolist()
    assert len(losses) == 9
    name = "cross_entropy" if loss == "multi_label" else loss
    assert result.history[0][f"val_{name}"] == pytest.approx(np.mean(losses), rel=1e-4)
    printed = re.search(r"val_loss: ([\d.]+)", capsys.readouterr().out)
    assert float(printed[1]) == pytest.approx(np.mean(losses), abs=1e-3)


# Stopping and resuming ---------------------------------------------------------------------------


def same_state(one, other) -> None:
    """Weights, statistics, optimizer, average and random states of two runs agree."""
    first, second = last_arrays(one), last_arrays(other)
    assert first.keys() == second.keys()
    for name in first:
        assert first[name] == pytest.approx(second[name], abs=1e-5), name


def resumed_equals(finished, config, folder) -> None:
    result = train(config, folder, resume=True)
    same_state(finished.folder, result.folder)
    for one, other in zip(finished.history, result.history, strict=True):
        for key in one.keys() - {"seconds"}:
            assert one[key] == pytest.approx(other[key], abs=1e-4), key


def interrupted(config, folder) -> errors.Interrupted:
    with pytest.raises(errors.Interrupted) as stopped:
        train(config, folder)
    return stopped.value


def stored_config(finished) -> RunConfig:
    changes = dict(ema=0.9, drop_block=0.1, ramp_drop_block=True, dropout=0.2)
    return tiny_config(changes=changes, checkpoint_every=2, keep=20)


def test_a_run_stopped_within_an_epoch_ends_as_if_it_had_not(finished, tmp_path, monkeypatch):
    config = stored_config(finished)
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        at_step(5, patch, lambda steps: os.kill(os.getpid(), signal.SIGINT))
        assert interrupted(config, tmp_path / "run").exit_code == 130
    assert signal.getsignal(signal.SIGINT) is handler
    found = names(tmp_path / "run" / "checkpoints")
    assert max(found) == "step-0000000005.safetensors"
    resumed_equals(finished, config, tmp_path / "run")


def test_a_run_stopped_while_it_validates_measures_that_epoch_first(
    finished, tmp_path, monkeypatch
):
    config = stored_config(finished)

    def stop(steps):
        if steps.average.is_in_model:
            steps.interrupts.number = signal.SIGTERM

    with monkeypatch.context() as patch:
        at_step(6, patch, stop)
        assert interrupted(config, tmp_path / "run").exit_code == 143
    resumed_equals(finished, config, tmp_path / "run")


@pytest.mark.long
def test_a_run_goes_on_elsewhere_and_without_the_file_that_it_started_from(tmp_path, monkeypatch):
    start = kr.create_model("resnet20", weights=None, classes=3, **TINY)
    half = dict(mean=[0.5, 0.4, 0.3], std=[0.5, 0.6, 0.7], input_size=[3, 32, 32])
    kr.save_safetensors(start, tmp_path / "start.safetensors", metadata=half)
    write_pictures(tmp_path / "pictures" / "train", 24)
    write_pictures(tmp_path / "pictures" / "val", 9, seed=1)
    monkeypatch.chdir(tmp_path)
    options = dict(data="folder:pictures", weights="start.safetensors", changes={"epochs": 1})
    whole = train(tiny_config(**options), "whole")
    with monkeypatch.context() as patch:
        at_step(2, patch, lambda steps: os.kill(os.getpid(), signal.SIGINT))
        interrupted(tiny_config(**options), tmp_path / "run")
    (tmp_path / "start.safetensors").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, text = invoke("train", "--resume", "--out", "../run")
    assert code == 0, text
    same_state(RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run"))
    assert whole.evaluation.top1 == json.loads(Path("../run/evaluation.json").read_text())["top1"]
    for folder in ("whole", "run"):
        normalize = keras.saving.load_model(tmp_path / folder / "best.keras").get_layer("normalize")
        assert normalize.offset == pytest.approx(np.divide([-0.5, -0.4, -0.3], [0.5, 0.6, 0.7]))


def test_a_folder_belongs_to_one_run_for_as_long_as_it_lasts(tmp_path, monkeypatch):
    folder, refused = RunFolder(tmp_path / "runs" / "run"), []

    def begin_again(steps):
        before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
        for resume in (False, True):
            with pytest.raises(OSError, match="another process trains in it") as error:
                train(tiny_config(changes={**ONE_BLOCK, "epochs": 1}), folder.path, resume=resume)
            refused.append(type(error.value))
        assert before == {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}

    at_step(2, monkeypatch, begin_again)
    train(tiny_config(changes={**ONE_BLOCK, "epochs": 1}), folder.path)
    assert refused == [BlockingIOError, BlockingIOError]
    assert not (folder / ".lock").exists()


def test_a_new_folder_is_taken_before_anything_is_in_it(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "runs" / "run")
    with folder.locked():
        code, text = invoke("train", "--data", "digits", "--out", folder)
        assert (code, "another process trains in it" in text) == (1, True)
        assert names(folder.path) == {".lock"}
        # Of several processes the first holds the folder for all; there is none to ask here.
        monkeypatch.setattr(distribute.Placement, "require_told_the_same", lambda *told: None)
        second = distribute.Placement(distribute.Processes(2, 1, "host:1"), 2)
        with run_module._held(folder, tiny_config(), resume=False, placement=second):
            pass
    assert not (tmp_path / "runs").exists(), "nothing came of it"


def test_what_a_killed_process_leaves_of_its_lock_is_no_obstacle(tmp_path):
    folder = RunFolder(tmp_path / "run")
    process = started(hold_for_ever, folder)
    while not (folder / "held").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    with pytest.raises(BlockingIOError), folder.locked():
        pass
    process.kill()
    process.wait()
    (folder / "held").unlink()
    assert names(folder.path) == {".lock"}
    assert folder.is_empty()
    with folder.locked():
        pass


def hold_for_ever(folder: str) -> None:
    with RunFolder(folder).locked():
        (RunFolder(folder) / "held").touch()
        time.sleep(120)


def test_the_best_epoch_is_the_most_accurate_and_of_several_that_of_the_lowest_loss():
    def best(*rows):
        columns = ("val_top1", "val_cross_entropy", "val_binary_cross_entropy")
        named = [dict(zip(columns, row, strict=False)) for row in rows]
        return callbacks.best_epoch([{"epoch": i, **row} for i, row in enumerate(named, start=1)])

    assert best((0.5, 1.0), (0.6, 2.0), (0.6, 1.5), (0.4, 0.1)) == 3
    assert best((0.6, 1.5), (0.6, 1.5)) == 1
    # The loss is what was trained by.
    assert best((0.6, 1.0, 9.0), (0.6, 9.0, 1.0)) == 2


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder.path, folder)
    *_, before, last = sorted((folder / "checkpoints").iterdir())
    last.write_bytes(last.read_bytes()[:-100])
    (folder / "checkpoints" / ".unfinished-1-step.safetensors").write_bytes(b"half")
    with pytest.warns(UserWarning, match="is damaged and is passed over"):
        path, progress, _ = checkpoints.load_last(folder / "checkpoints")
    assert (path, progress.step) == (before, 8)
    flipped = bytearray(before.read_bytes())
    flipped[-1] ^= 1
    before.write_bytes(flipped)
    with pytest.warns(UserWarning, match="checksum"):
        assert checkpoints.load_last(folder / "checkpoints")[1].step == 6
    RunFolder(folder).create()
    assert not list((folder / "checkpoints").glob(".*"))


def test_only_the_last_checkpoints_are_kept(tmp_path):
    progress = checkpoints.Progress()
    for progress.step in (1, 5, 20):
        checkpoints.save(tmp_path, progress, {"a": np.float32(progress.step)}, keep=2)
    assert names(tmp_path) == {"step-0000000005.safetensors", "step-0000000020.safetensors"}
    _, read, arrays = checkpoints.load_last(tmp_path)
    assert read == progress
    assert arrays["a"].shape == ()


def test_a_checkpoint_of_another_model_is_refused(finished, tmp_path):
    config = tiny_config(changes={"planes": (24, 32), "ema": 0.9})
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.write_json("config.json", config.as_dict())
    shutil.copytree(finished.folder.checkpoints, folder.checkpoints, dirs_exist_ok=True)
    with pytest.raises(ValueError, match=r"must be of this model and optimizer.*Other shape"):
        train(config, folder.path, resume=True)


def test_a_resumed_run_must_be_told_the_same(finished):
    changed = dataclasses.replace(
        stored_config(finished), seed=3, recipe=dataclasses.replace(find_recipe("quick"), epochs=9)
    )
    with pytest.raises(ValueError, match=r"recipe.epochs: 3 -> 9.*seed: 0 -> 3"):
        train(changed, finished.folder.path, resume=True)


@pytest.mark.long
def test_a_resumed_run_must_have_the_same_data(tmp_path, monkeypatch):
    write_pictures(tmp_path / "data", 40)
    config = tiny_config(data=f"folder:{tmp_path}/data", changes={**ONE_BLOCK, "epochs": 1})
    with monkeypatch.context() as patch:
        at_step(2, patch, lambda steps: os.kill(os.getpid(), signal.SIGINT))
        interrupted(config, tmp_path / "run")
    moved = next((tmp_path / "data" / "disc").iterdir())
    moved.rename(tmp_path / "data" / "cross" / "moved.png")
    with pytest.raises(ValueError, match=r"data of a resumed run must be what it was.*36 and 4"):
        train(config, tmp_path / "run", resume=True)
    (tmp_path / "data" / "cross" / "moved.png").rename(moved)
    train(config, tmp_path / "run", resume=True)


def test_a_folder_that_holds_something_is_left_alone(finished, tmp_path):
    before = names(finished.folder.path)
    with pytest.raises(FileExistsError, match="pass --resume"):
        train(tiny_config(), finished.folder.path)
    assert names(finished.folder.path) == before
    with pytest.raises(ValueError, match="must be the folder of a run"):
        train(tiny_config(), tmp_path, resume=True)


@pytest.mark.long
def test_patience_ends_a_run_that_gets_no_better(tmp_path, monkeypatch):
    monkeypatch.setattr(callbacks, "best_epoch", lambda history: 1)
    monkeypatch.setattr(run_module, "best_epoch", lambda history: 1)
    result = train(tiny_config(changes={**ONE_BLOCK, "epochs": 9}, patience=2), tmp_path / "run")
    assert len(result.history) == 3


# Faults ------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path):
    config = tiny_config(
        changes={"learning_rate": 1e25, "warmup_epochs": 0, "schedule": "constant"},
        checkpoint_every=1,
    )
    with pytest.raises(
        errors.DivergedError, match=r"at step \d+ .*(the loss is|not finite)"
    ) as stop:
        train(config, tmp_path / "run")
    found = checkpoints.load_last(tmp_path / "run" / "checkpoints")
    if found is None:
        assert "There is no checkpoint yet" in str(stop.value)
    else:
        assert str(found[0]) in str(stop.value)
        assert not checkpoints.not_finite(found[2])


@pytest.mark.parametrize(
    ("damaged", "options", "message"),
    [
        (1, ["--strict-data"], "Error: images must be whole files that can be decoded"),
        (24, [], "Error: a batch must have at least one image that can be decoded"),
    ],
)
def test_data_that_cannot_be_read_stop_a_run_in_our_words(damaged, options, message, tmp_path):
    write_pictures(tmp_path / "train", 24)
    write_pictures(tmp_path / "val", 3, seed=1)
    for path in sorted((tmp_path / "train").rglob("*.png"))[:damaged]:
        path.write_bytes(b"no image")
    tiny = ("--set", "depths=1,1", "--set", "planes=16,16", "--batch-size", 8, "--epochs", 1)
    command = ("train", "--data", f"folder:{tmp_path}", "--out", tmp_path / "run", *tiny)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, text = invoke(*command, *options)
    assert code == 1
    assert message in text
    assert "Traceback" not in text


def test_a_batch_too_large_for_the_memory_says_what_to_try(tmp_path, monkeypatch):
    def fit(self, *args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    monkeypatch.setattr(keras.Model, "fit", fit)
    with pytest.raises(errors.OutOfMemory, match=r"a batch of 8 images of 32 pixels.*accumulate"):
        train(tiny_config(), tmp_path / "run")


def test_a_full_disk_leaves_the_checkpoints_that_are_there(tmp_path, monkeypatch):
    write = safetensors.numpy.save_file

    def full(arrays, path, metadata=None):
        if "step" in str(path) and "step-0000000002" not in str(path):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(arrays, path, metadata)

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(OSError, match=r"the disk is full.*--resume"):
        train(tiny_config(checkpoint_every=2), tmp_path / "run")
    assert names(tmp_path / "run" / "checkpoints") == {"step-0000000002.safetensors"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"freeze": "layer9"}, "until must be one of"),
        ({"class_weights": {"0": 1.0}}, "must name every class: 0, 1, 2"),
        ({"data": "folder:/nowhere"}, "nowhere"),
        ({"changes": {"drop_block": 2}}, "drop_block must be"),
        ({"weights": "nowhere.safetensors"}, "weights must be"),
        ({"data": (np.zeros((9, 8, 8), "uint8"), np.zeros(9, int))}, "two classes or more"),
        ({"data": pictures(3)}, "two or more of a class.* 3 of 3 classes"),
    ],
)
def test_what_is_wrong_shows_before_a_folder_is_made(wrong, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(tiny_config(**wrong), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Options of a run --------------------------------------------------------------------------------


def test_balanced_class_weights_make_rare_classes_count_as_much():
    images, labels = pictures(24)
    keep = np.flatnonzero((labels != 2) | (np.arange(24) < 6))
    data = {"train": (images[keep], labels[keep]), "validation": DATA["validation"]}
    run = Run(tiny_config(data=data, class_weights="balanced"), distribute.Placement())
    counts = np.bincount(labels[keep])
    total = [run.class_weights[i] * n for i, n in enumerate(counts)]
    assert total == pytest.approx([len(keep) / 3] * 3)


@pytest.mark.parametrize("mixing", [{"mixup": 0.4}, {"cutmix": 1.0, "label_smoothing": 0.1}])
def test_the_weight_of_a_mixture_is_the_mean_of_its_classes_by_their_shares(mixing):
    weights = {"0": 1.0, "1": 10.0, "2": 100.0}
    config = tiny_config(class_weights=weights, changes={**ONE_BLOCK, **mixing})
    run = Run(config, distribute.Placement())
    assert run.class_weights == [1.0, 10.0, 100.0]
    smoothing = mixing.get("label_smoothing", 0.0)
    for _, targets, found in run.training(0).take(3):
        shares = (targets.numpy() - smoothing / 3) / (1 - smoothing)
        assert ((shares > 0.01) & (shares < 0.99)).any(), "nothing is mixed"
        np.testing.assert_allclose(found, shares @ [1, 10, 100], rtol=1e-4)


def test_the_weights_of_classes_reach_the_loss():
    """As Keras' own do where nothing is mixed."""
    weights = {"0": 0.0, "1": 3.0, "2": 0.5}
    config = tiny_config(class_weights=weights, changes={**ONE_BLOCK, "epochs": 1})
    run = Run(config, distribute.Placement())
    images, labels, found = next(iter(run.training(0)))
    kept = labels.numpy().argmax(1)
    assert found.numpy().tolist() == [list(weights.values())[label] for label in kept]
    ours = run.model.evaluate(images, labels, sample_weight=found, verbose=0, return_dict=True)
    one = [run.model.evaluate(images[i : i + 1], labels[i : i + 1], verbose=0)[0] for i in range(8)]
    assert ours["loss"] == pytest.approx(np.mean(found.numpy() * one), rel=1e-4)


def test_a_frozen_run_keeps_the_frozen_part(tmp_path):
    config = tiny_config(freeze="layer1", changes={"epochs": 1, "ema": 0.0})
    train(config, tmp_path / "run")
    arrays = last_arrays(RunFolder(tmp_path / "run"))
    for stage, stays in (("layer1", True), ("layer2", False)):
        means = [array for name, array in arrays.items() if f"{stage}_0_bn1/moving_mean" in name]
        # Statistics start at zero and move with the first batch.
        assert [not array.any() for array in means] == [stays]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_trains_with_float32_logits_and_leaves_the_policy_alone(dtype, tmp_path):
    config = tiny_config(dtype=dtype, changes={**ONE_BLOCK, "epochs": 1})
    result = train(config, tmp_path / "run")
    assert np.isfinite(result.history[0]["loss"])
    assert keras.config.dtype_policy().name == "float32"
    model = keras.saving.load_model(result.folder / "best.keras")
    assert model.get_layer("layer1_0_conv1").compute_dtype == dtype
    assert model.get_layer("fc").compute_dtype == "float32"


def test_accumulation_xla_and_tensorboard_go_together(tmp_path):
    changes = {**ONE_BLOCK, "epochs": 2}
    config = tiny_config(accumulate=2, jit=True, tensorboard=True, changes=changes)
    result = train(config, tmp_path / "run")
    assert config.effective_batch == 16
    arrays = last_arrays(result.folder)
    # Six batches are three updates; Keras counts batches.
    assert [int(arrays[name]) for name in arrays if name.endswith("sgd/iteration")] == [6]
    assert any("gradient_accumulator" in name for name in arrays)
    assert list((tmp_path / "run" / "tensorboard").rglob("events*"))


def test_logs_for_a_tensorboard_that_is_not_there_are_refused_at_once(monkeypatch):
    monkeypatch.setattr(run_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        Run(tiny_config(tensorboard=True), distribute.Placement())


def test_accumulation_on_several_tensorflow_devices_is_refused():
    placement = distribute.Placement(replicas=2, strategy="mirrored")
    with pytest.raises(ValueError, match="accumulate must be 1 with several devices"):
        Run(tiny_config(accumulate=2), placement)


def test_a_plan_says_what_a_run_would_do():
    facts = plan(tiny_config())
    assert facts["steps"] == 9
    assert facts["images"] == {"train": 24, "validation": 9}
    assert facts["decayed variables"].startswith("6 kernels")


# Commands ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder / "train", 96)
    write_pictures(folder / "validation", 30, seed=1)
    return folder


SMALLER = ("--set", "depths=1,1", "--set", "planes=16,32", "--batch-size", 16)


def test_a_folder_of_images_is_learned_and_evaluated(image_folder, tmp_path):
    out = tmp_path / "run"
    command = ("train", "--data", f"folder:{image_folder}", "--recipe", "quick", "--out", out)
    # So small a network takes large steps.
    code, text = invoke(*command, *SMALLER, "--learning-rate", 0.4)
    assert code == 0, text
    result = json.loads((out / "evaluation.json").read_text())
    assert result["top1"] >= 0.95
    assert {"report.md", "curves.png", "confusion.png", "worst.png"} <= names(out)
    assert [row["class"] for row in result["by_class"]] == sorted(CLASSES)

    code, text = invoke("evaluate", "--data", f"folder:{image_folder}", "--model", out, "--json")
    assert code == 0, text
    assert json.loads(text)["top1"] == pytest.approx(result["top1"])

    # Going on with a run that is over adds nothing, and evaluates once more.
    code, text = invoke("train", "--resume", "--out", out)
    assert code == 0, text
    assert len((out / "log.csv").read_text().splitlines()) == 16
    code, text = invoke("train", "--resume", "--out", out, "--epochs", 9)
    assert code == 1
    assert "--resume stands alone" in text


@pytest.mark.long
def test_records_are_trained_on_and_resumed(tmp_path):
    """What can only be read from its beginning; a run's usual seed is 0."""
    spec, options = write_records(tmp_path, np.arange(40) % 2), ("--image-size", 16, "--epochs", 2)
    out = tmp_path / "run"
    code, text = invoke("train", "--data", spec, "--out", out, *SMALLER, *options)
    assert code == 0, text
    assert json.loads((out / "evaluation.json").read_text())["images"] == 4
    code, text = invoke("train", "--resume", "--out", out)
    assert code == 0, text


def test_names_of_classes_may_have_any_bytes(tmp_path):
    """Nor has a system without a locale any other than ASCII's."""
    names = ("caf\udce9", "Füße", "a b")
    data_set = f"folder:{write_pictures(tmp_path / 'data', 30, names=names)}"
    out = tmp_path / "run"
    options = ("--epochs", 1, "--image-size", 16, *SMALLER)
    code, text = invoke("train", "--data", data_set, "--out", out, *options)
    assert code == 0, text
    assert "| caf\ufffd |" in (out / "report.md").read_text(encoding="utf-8")
    image = next((tmp_path / "data").rglob("*.png"))
    code, text = invoke("predict", image, "--model", out, "--json")
    assert code == 0, text
    found = {score["name"] for score in json.loads(text)[0]["classes"]}
    assert found == set(names)


def test_ctrl_c_ends_the_command_with_130_and_one_checkpoint(image_folder, tmp_path, monkeypatch):
    at_step(2, monkeypatch, lambda steps: os.kill(os.getpid(), signal.SIGINT))
    out = tmp_path / "run"
    code, text = invoke("train", "--data", f"folder:{image_folder}", "--out", out, *SMALLER)
    assert code == 130
    assert "go on with --resume" in text
    assert names(out / "checkpoints") == {"step-0000000002.safetensors"}


def test_a_dry_run_prints_the_plan_and_writes_nothing(image_folder, tmp_path):
    out = tmp_path / "run"
    code, text = invoke(
        "train", "--data", f"folder:{image_folder}", "--out", out, "--dry-run", *SMALLER
    )
    assert code == 0, text
    for words in ("learning_rate", "steps per epoch", "parameters", "estimated memory", "mixup"):
        assert words in text
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "quik"], "Did you mean 'quick'"),
        (["--model", "resnet2"], "Did you mean"),
        (["--set", "epochs"], "set must be NAME=VALUE"),
        (["--dtype", "int8"], "dtype must be one of"),
        (["--num-processes", 2, "--process-id", 0, "--coordinator", "h"], "must be HOST:PORT"),
        (
            "--num-processes 2 --process-id 1 --coordinator h:9 --start-timeout 0.1".split(),
            "the first process must be found",
        ),
        (["--start-timeout", 0], "start_timeout must be a positive number"),
        (["--num-processes", 2], "process_id"),
        (["--batch-size", 0], "batch_size must be"),
    ],
)
def test_wrong_options_are_one_message_and_exit_code_1(arguments, message, tmp_path):
    code, text = invoke("train", "--data", "digits", "--out", tmp_path / "run", *arguments)
    assert (code, message in text) == (1, True), text
    assert not (tmp_path / "run").exists()


def test_recipes_are_listed_and_shown():
    code, text = invoke("recipes")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == list_recipes()
    code, text = invoke("recipes", "a2")
    assert "arXiv:2110.00476" in text
    assert re.search(r"^weight_decay +0.02$", text, re.MULTILINE)


def test_a_layer_decay_trains_and_is_refused_where_the_classifier_alone_does(tmp_path):
    data = {split: pictures(count) for split, count in (("train", 8), ("validation", 3))}
    options = dict(data=data, changes={"epochs": 1, "layer_decay": 0.5, "learning_rate": 0.1})
    run = Run(tiny_config(**options), distribute.Placement())
    assert run.model.optimizer.scales["conv1/kernel"] == 0.125
    with pytest.raises(ValueError, match=r"layer_decay needs two stages or more that train"):
        Run(tiny_config(**options, freeze="layer2"), distribute.Placement())
    code, text = invoke("train", "--data", "digits", "--out", tmp_path / "r", "--layer-decay", 2)
    assert (code, "layer_decay must be at most 1" in text) == (1, True)
