"""What a run finds out by trying: its batch and its epochs."""

import dataclasses
import json
import os
import signal
import time

import keras
import pytest
from tiny_runs import ONE_BLOCK, at_step, invoke, last_arrays, names, tiny_config

from keras_resnets.training import errors, fitting
from keras_resnets.training.config import RunConfig
from keras_resnets.training.plan import plan
from keras_resnets.training.recipe import find_recipe
from keras_resnets.training.run import train

# Time --------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("text", "seconds"),
    [("50m", 3000), ("90s", 90), ("1h30m", 5400), ("2h", 7200), ("1h1m1s", 3661), (None, None)],
)
def test_times_are_hours_minutes_and_seconds(text, seconds):
    assert tiny_config(time_budget=text).seconds == seconds


@pytest.mark.long
@pytest.mark.parametrize("text", ["50", "", "0m", "m", "30m1h", "-5m", "an hour", "1.5h"])
def test_other_times_are_refused(text):
    with pytest.raises(ValueError, match="time_budget must be hours, minutes and seconds"):
        tiny_config(time_budget=text)


@pytest.mark.long
def test_a_stretched_recipe_keeps_the_shape_of_its_schedule():
    recipe = dataclasses.replace(find_recipe("resnet"), warmup_epochs=5)
    half, twice = recipe.stretched(60), recipe.stretched(240)
    assert (half.epochs, half.warmup_epochs, half.step_epochs) == (60, 2.5, (15, 30, 45))
    assert (twice.epochs, twice.warmup_epochs, twice.step_epochs) == (240, 10, (60, 120, 180))
    assert recipe.stretched(120) == recipe
    assert recipe.stretched(1).step_epochs == (1,)


@pytest.fixture
def measured(monkeypatch):
    """Says what an epoch takes, in place of a trial; how often it was asked is counted."""
    asked = []

    def seconds(run):
        asked.append(run)
        return 100.0, 10.0

    monkeypatch.setattr(fitting, "_seconds", seconds)
    return asked


@pytest.mark.long
def test_the_schedule_is_fitted_to_the_time_and_measured_once(measured, tmp_path, monkeypatch):
    """Of 300 s 10 are for the evaluation, and an epoch takes 100 and a tenth: there are two."""
    config = tiny_config(
        changes={**ONE_BLOCK, "epochs": 100, "warmup_epochs": 50}, time_budget="5m"
    )
    with monkeypatch.context() as patch:
        at_step(4, patch, lambda steps: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(errors.Interrupted):
            train(config, tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["time_budget"] == "5m"
    assert (stored["recipe"]["epochs"], stored["recipe"]["warmup_epochs"]) == (2, 1.0)
    # The whole command again, and what it has become, are the same run.
    result = train(config, tmp_path / "run", resume=True)
    assert [row["epoch"] for row in result.history] == [1, 2]
    assert result.evaluation.count == 9
    assert len(measured) == 1
    train(RunConfig.from_dict(stored | {"data": config.data}), tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match=r"time_budget: '5m' -> '4m'"):
        train(dataclasses.replace(config, time_budget="4m"), tmp_path / "run", resume=True)


@pytest.mark.long
def test_a_time_shorter_than_an_epoch_is_refused(measured, tmp_path):
    config = tiny_config(changes=ONE_BLOCK, time_budget="90s")
    with pytest.raises(ValueError, match=r"time_budget must be enough for an epoch.* 100 s.*'90s'"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_run_whose_time_is_up_ends_with_an_evaluation(measured, tmp_path, monkeypatch):
    """Epochs that turn out slower than the trial: another one would be too much."""
    config = tiny_config(changes={**ONE_BLOCK, "epochs": 100}, time_budget="6m40s")
    monkeypatch.setattr(fitting.TimeLeft, "is_up", lambda self, history: len(history) == 2)
    result = train(config, tmp_path / "run")
    assert result.folder.read_json("config.json")["recipe"]["epochs"] == 3
    assert [row["epoch"] for row in result.history] == [1, 2]
    assert {"evaluation.json", "report.md"} <= names(result.folder.path)


@pytest.mark.long
def test_time_is_left_while_another_epoch_fits():
    history = [{"seconds": 30.0}]
    now = time.monotonic()
    assert not fitting.TimeLeft(100.0, now - 60, 0.0).is_up(history)
    assert fitting.TimeLeft(100.0, now - 80, 0.0).is_up(history)
    assert fitting.TimeLeft(100.0, now - 20, 60.0).is_up(history)  # With what was before.
    assert not fitting.TimeLeft(100.0, now - 80, 0.0).is_up([])
    assert not fitting.TimeLeft(None, now - 1e6, 0.0).is_up(history)


@pytest.mark.long
def test_a_trial_measures_what_an_epoch_takes(tmp_path):
    """The numbers are the machine's; that they are told apart is what can be tested."""
    facts = plan(tiny_config(changes={**ONE_BLOCK, "epochs": 9}, time_budget="10h"))
    assert facts["epochs"] > 100
    code, text = invoke(
        *("train", "--data", "digits", "--out", tmp_path / "run", "--time-budget", "1s"),
        *("--set", "depths=1,1", "--set", "planes=16,16"),
    )
    assert (code, "time_budget must be enough for an epoch" in text) == (1, True), text


# Memory ------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("holds", "unit", "most", "found"),
    [
        (100, 1, 10**6, 96),  # 64 + 32; 112 and 104 do not fit.
        (255, 1, 10**6, 240),
        (256, 1, 10**6, 256),
        (1000, 8, 10**6, 960),
        (1000, 8, 70, 64),  # No more than there are images.
        (7, 8, 10**6, 0),
        (9, 8, 10**6, 8),
        (3, 1, 10**6, 3),
    ],
)
def test_the_largest_that_fits_is_found_to_within_an_eighth(holds, unit, most, found):
    tried = []

    def fits(size):
        tried.append(size)
        return size <= holds

    assert fitting.largest(fits, unit=unit, most=most) == found
    assert len(tried) == len(set(tried))
    assert all(size % unit == 0 and size <= most for size in tried)
    if 0 < found < most * 7 / 8:
        assert found >= holds * 7 / 8 - unit


class Full(RuntimeError):
    """RESOURCE_EXHAUSTED: what a device says."""


@pytest.fixture
def small_device(monkeypatch):
    """A device that holds the steps of six images."""
    original = keras.Model.fit

    def fit(self, x, **arguments):
        images = next(iter(x))[0]
        if images.shape[0] > 6:
            raise Full("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
        return original(self, x, **arguments)

    monkeypatch.setattr(fitting, "reports_memory", lambda: True)
    monkeypatch.setattr(keras.Model, "fit", fit)


@pytest.mark.long
def test_a_batch_is_the_largest_that_the_device_holds(small_device, tmp_path):
    config = tiny_config(changes={**ONE_BLOCK, "epochs": 1, "batch_size": "auto"})
    result = train(config, tmp_path / "run")
    stored = result.folder.read_json("config.json")["recipe"]
    assert stored["batch_size"] == 6
    assert len(last_arrays(result.folder)) > 0
    rate = stored["learning_rate"] * 6 / stored["reference_batch_size"]
    assert config.recipe.learning_rate == stored["learning_rate"]
    assert rate == pytest.approx(0.1 * 6 / 64)
    # Told "auto" again, it goes on with what was found.
    train(config, tmp_path / "run", resume=True)


@pytest.mark.long
def test_other_errors_of_a_trial_are_no_want_of_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(fitting, "reports_memory", lambda: True)

    def fit(self, x, **arguments):
        raise RuntimeError("something else")

    monkeypatch.setattr(keras.Model, "fit", fit)
    with pytest.raises(RuntimeError, match="something else"):
        train(tiny_config(changes={**ONE_BLOCK, "batch_size": "auto"}), tmp_path / "run")


@pytest.mark.long
def test_a_device_that_holds_nothing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(fitting, "reports_memory", lambda: True)

    def fit(self, x, **arguments):
        raise Full("RESOURCE_EXHAUSTED")

    monkeypatch.setattr(keras.Model, "fit", fit)
    with pytest.raises(errors.OutOfMemory, match=r"steps of one image at least.*image_size=32"):
        train(tiny_config(changes={**ONE_BLOCK, "batch_size": "auto"}), tmp_path / "run")


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("auto", "batch_size='auto' needs a device that reports its memory"),
        ("many", "batch_size must be a positive int, or 'auto'"),
        ("0", "batch_size must be a positive int, or 'auto'"),
    ],
)
def test_batches_that_cannot_be_are_refused(size, message, tmp_path):
    code, text = invoke("train", "--data", "digits", "--out", tmp_path / "r", "--batch-size", size)
    assert (code, message in text) == (1, True), text
    assert not (tmp_path / "r").exists()
