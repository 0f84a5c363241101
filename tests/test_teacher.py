"""Distillation: what the loss is, whose classes, and that nothing of a teacher stays in a run."""

import json
import os
import re
import signal
import types

import keras
import numpy as np
import pytest
from tiny_runs import (
    ONE_BLOCK,
    at_step,
    invoke,
    last_arrays,
    pictures,
    tiny_config,
    write_pictures,
)

from keras_resnets.graph.classifier import Classifier
from keras_resnets.preparation import Preparation
from keras_resnets.training import data, distribute, errors
from keras_resnets.training import teacher as teacher_module
from keras_resnets.training.plan import plan
from keras_resnets.training.recipe import LOSSES
from keras_resnets.training.run import Run, train
from keras_resnets.training.run_folder import RunFolder

BRIEF = {**ONE_BLOCK, "epochs": 1}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The folder of a run on the same data."""
    return train(tiny_config(), tmp_path_factory.mktemp("runs") / "teacher").folder.path


def probabilities(logits, loss: str) -> np.ndarray:
    if loss != "cross_entropy":
        return 1 / (1 + np.exp(-logits))
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def cross_entropy(targets, logits, loss: str) -> float:
    p = probabilities(logits, loss)
    if loss != "cross_entropy":
        entropies = -(targets * np.log(p) + (1 - targets) * np.log(1 - p))
        return entropies.mean() if loss == "binary_cross_entropy" else entropies.sum(1).mean()
    return -(targets * np.log(p)).sum(1).mean()


@pytest.mark.long
@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_its_formula_and_that_of_validation_is_about_labels_alone(loss, teacher):
    share, temperature = 0.3, 4.0
    changes = dict(loss=loss, teacher_share=share, teacher_temperature=temperature)
    config = tiny_config(teacher=str(teacher), changes={**ONE_BLOCK, **changes})
    model = Run(config, distribute.Placement()).model
    images = pictures(5)[0].astype("float32").repeat(2, 1).repeat(2, 2)[:, :32, :32]
    targets = np.eye(3, dtype="float32")[[0, 1, 2, 0, 1]] * 0.9 + 0.1 / 3
    logits = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    saved = keras.saving.load_model(teacher / "best.keras").predict(images, verbose=0)
    told = probabilities(np.log(saved) / temperature, loss="cross_entropy")
    if loss != "cross_entropy":  # The logits of a softmax are known up to a number.
        told = probabilities(np.log(saved) / temperature, loss)
    of_labels = cross_entropy(targets, logits, loss)
    of_teacher = cross_entropy(told, logits / temperature, loss)
    arguments = dict(x=images, y=targets, y_pred=logits)
    expected = (1 - share) * of_labels + share * temperature**2 * of_teacher
    assert float(model.compute_loss(**arguments)) == pytest.approx(expected, rel=1e-4)
    found = float(model.compute_loss(**arguments, training=False))
    assert found == pytest.approx(of_labels, rel=1e-4)


def stubborn(names=None, activation="linear") -> Classifier:
    """Says of every image the same: logits 1, 5 and 3, or what an activation makes of them."""
    image = keras.Input((None, None, 3))
    none = keras.layers.GlobalAveragePooling2D()(image)[:, :3] * 0.0
    scores = keras.layers.Activation(activation)(none + keras.ops.array([[1.0, 5.0, 3.0]]))
    known = names and tuple((name, name) for name in names)
    return Classifier(keras.Model(image, scores), Preparation(size=24), known)


@pytest.mark.backend
def test_a_student_comes_to_say_what_its_teacher_says(monkeypatch, tmp_path):
    """With the labels out of the loss all that there is to learn is the teacher's."""
    located = types.SimpleNamespace(build_classifier=stubborn)
    monkeypatch.setattr(teacher_module, "locate", lambda *_: located)
    keras.utils.set_random_seed(0)
    changes = dict(ONE_BLOCK, epochs=8, ema=0.0, teacher_share=1.0, warmup_epochs=0)
    changes |= dict(learning_rate=0.3, reference_batch_size=8, optimizer="adamw", epochs=10)
    run = Run(tiny_config(teacher="a teacher", changes=changes), distribute.Placement())
    folder = RunFolder(tmp_path / "run")
    folder.create()
    run.fit(folder)
    # Of the last weights: the best ones are chosen by the labels.
    logits = run.model.predict_on_batch(np.full((3, 32, 32, 3), 100.0, "float32"))
    assert np.argsort(logits, 1).tolist() == [[0, 2, 1]] * 3
    said = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    taught = np.exp([1.0, 5.0, 3.0]) / np.exp([1.0, 5.0, 3.0]).sum()
    assert said == pytest.approx(np.stack([taught] * 3), abs=0.2)  # At first a third each.


@pytest.mark.long
@pytest.mark.parametrize("activation", ["linear", "softmax", "sigmoid"])
def test_a_teachers_logits_are_in_the_order_of_the_data_whatever_it_ends_in(activation, tmp_path):
    examples = data.load(f"folder:{write_pictures(tmp_path, 9)}", "all")
    assert examples.class_names == ("cross", "disc", "stripes")
    classifier = stubborn(("stripes", "cross", "disc"), activation)
    model = teacher_module._logits(classifier, tiny_config(), examples)
    logits = keras.ops.convert_to_numpy(model(np.zeros((2, 32, 32, 3), "float32")))
    assert logits - logits[:, 2:] == pytest.approx(np.array([[4.0, 2.0, 0.0]] * 2), abs=1e-4)


@pytest.mark.long
def test_nothing_of_a_teacher_stays_in_a_run(teacher, tmp_path):
    plain = train(tiny_config(changes=BRIEF), tmp_path / "plain")
    config = tiny_config(changes=BRIEF, teacher=str(teacher))
    taught = train(config, tmp_path / "taught")
    one, other = (last_arrays(result.folder) for result in (plain, taught))
    assert {name: array.shape for name, array in one.items()} == {
        name: array.shape for name, array in other.items()
    }
    assert any((one[name] != other[name]).any() for name in one if name.startswith("model"))
    models = [keras.saving.load_model(r.folder / "best.keras") for r in (plain, taught)]
    assert models[0].count_params() == models[1].count_params()
    assert plan(config)["parameters"] == plan(tiny_config(changes=BRIEF))["parameters"]


@pytest.mark.long
def test_a_run_with_a_teacher_goes_on_as_if_it_had_not_been_stopped(teacher, tmp_path, monkeypatch):
    config = tiny_config(teacher=str(teacher), changes={**ONE_BLOCK, "epochs": 2})
    whole = train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        at_step(4, patch, lambda steps: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(errors.Interrupted):
            train(config, tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["teacher"] == str(teacher)
    resumed = train(config, tmp_path / "run", resume=True)
    one, other = last_arrays(whole.folder), last_arrays(resumed.folder)
    for name in one:
        assert one[name] == pytest.approx(other[name], abs=1e-5), name


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--teacher", "ten.keras"], "teacher must have the classes .* has 3 and the teacher 10"),
        (["--teacher", "resnet50", "--teacher-weights", "none"], "weights must be"),
        (["--teacher-weights", "none"], "teacher_weights needs a teacher"),
        (["--teacher", "resnet21"], "Did you mean"),
        (["--teacher", "elsewhere.keras"], "file or folder that exists"),
        (["--teacher", "fixed.keras"], r"size of training, or of any.*\(24, 24\), image_size=32"),
        (["--set", "teacher_share=2"], "teacher_share must be a number"),
        (["--set", "teacher_temperature=0"], "teacher_temperature must be above 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_teacher_that_cannot_teach_is_refused_before_anything(
    options, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "pictures", 40)
    image = keras.Input((24, 24, 3))
    scores = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    keras.Model(image, scores).save("fixed.keras")
    keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10),
        ]
    ).save("ten.keras")
    code, text = invoke("train", "--data", "folder:pictures", "--out", "run", *options)
    assert code == 1
    assert re.search(message, text), text
    assert not (tmp_path / "run").exists()
