"""Several labels an image: measures, losses, runs, and the way from a table to a service."""

import csv
import importlib.util
import json
import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import sklearn.datasets
import sklearn.metrics
from PIL import Image
from tiny_runs import ONE_BLOCK, TINY, at_step, invoke, last_arrays, names, pictures, tiny_config

import keras_resnets as kr
from keras_resnets.commands import predict
from keras_resnets.graph.classifier import Classifier
from keras_resnets.loading import locate
from keras_resnets.preparation import Preparation
from keras_resnets.training import callbacks, data, distribute, errors, evaluate
from keras_resnets.training.losses import MeanAveragePrecision, MultiLabelCrossentropy
from keras_resnets.training.multi_label import THRESHOLDS, MultiLabelEvaluation, average_precision
from keras_resnets.training.run import Run, train

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name: str):
    """The module of an example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def answers(images=300, classes=5, seed=0, steps=20) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that know something of them; many are equal."""
    random = np.random.default_rng(seed)
    labels = (random.uniform(size=(images, classes)) < [0.02, 0.1, 0.3, 0.5, 0.9]).astype("uint8")
    known = labels + random.normal(scale=1.0, size=labels.shape)
    probabilities = 1 / (1 + np.exp(-2 * known + 1))
    return labels, (probabilities * steps).round() / steps if steps else probabilities


# Measures ----------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("steps", [0, 3, 20])
@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_scikit_learn(steps, seed):
    labels, probabilities = answers(seed=seed, steps=steps)
    for own, scores in zip(labels.T, probabilities.T, strict=True):
        expected = sklearn.metrics.average_precision_score(own, scores)
        assert average_precision(own, scores) == pytest.approx(expected, abs=1e-12)
    assert average_precision(np.zeros(4), np.arange(4)) is None
    assert average_precision(np.ones(4), np.arange(4)) == 1.0


@pytest.mark.long
def test_the_table_of_thresholds_is_that_of_scikit_learn():
    labels, probabilities = answers()
    evaluation = MultiLabelEvaluation(tuple("abcde"), labels, probabilities, 0.35, ())
    rows = evaluation.by_threshold()
    assert [row["threshold"] for row in rows] == sorted({*THRESHOLDS, 0.35})
    for row in rows:
        said = probabilities >= row["threshold"]
        for average, keys in (("micro", ("precision", "recall", "f1")), ("macro", ("mean_f1",))):
            expected = sklearn.metrics.precision_recall_fscore_support(
                labels, said, average=average, zero_division=0
            )[:3]
            found = [row[key] or 0.0 for key in keys]
            assert found == pytest.approx(list(expected[-len(found) :]))
    recalls = sklearn.metrics.recall_score(labels, probabilities >= 0.35, average=None)
    assert [row["recall"] for row in evaluation.by_class()] == pytest.approx(list(recalls))
    expected = sklearn.metrics.average_precision_score(labels, probabilities)
    assert evaluation.mean_average_precision == pytest.approx(expected)


def of_equals(labels: np.ndarray, logits: np.ndarray) -> float:
    """The exact mean of answers that are equal where they lie between two thresholds."""
    return sklearn.metrics.average_precision_score(labels, np.ceil(logits.clip(-10, 10) / 0.02))


@pytest.mark.backend
@pytest.mark.parametrize("shift", [0.0, -5.0])
def test_what_is_measured_in_epochs_is_the_exact_mean_up_to_equals(shift):
    """Also where all probabilities are small, as those of rare classes are."""
    labels, probabilities = answers(steps=0, images=600)
    logits = np.log(probabilities / (1 - probabilities)) + shift
    labels[:, 2] = 0  # A class without images is left out.
    kept = [0, 1, 3, 4]
    expected = sklearn.metrics.average_precision_score(labels[:, kept], logits[:, kept])
    metric = MeanAveragePrecision(5, labels.sum(0))
    for batch in range(0, 600, 200):
        rows = slice(batch, batch + 200)
        wrong = 1 - labels[:50]  # Of weight 0, as what fills up a batch.
        metric.update_state(
            np.concatenate([labels[rows], wrong]).astype("float32"),
            np.concatenate([logits[rows], logits[:50]]).astype("float32"),
            np.repeat([1.0, 0.0], [200, 50]).astype("float32"),
        )
    assert float(metric.result()) == pytest.approx(expected, abs=3e-3)
    found = of_equals(labels[:, kept], logits[:, kept])
    assert float(metric.result()) == pytest.approx(found, abs=1e-3)
    smooth = MeanAveragePrecision(5, labels.sum(0))
    smooth.update_state(0.8 * labels + 0.1, logits.astype("float32"))
    assert float(smooth.result()) == pytest.approx(float(metric.result()), abs=1e-5)


@pytest.mark.backend
def test_class_weights_multiply_the_part_of_their_class():
    labels, probabilities = answers(images=6, steps=0)
    logits = np.log(probabilities / (1 - probabilities)).astype("float32")
    weights = [1.0, 2.0, 0.0, 5.0, 0.5]
    parts = -np.where(labels, np.log(probabilities), np.log(1 - probabilities))
    found = MultiLabelCrossentropy(weights)(labels.astype("float32"), logits)
    assert float(found) == pytest.approx((parts @ weights).mean(), rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([(0.2, 5.0), (0.8, 4.0), (0.7, 1.0)], 2),
        ([(0.8, 5.0), (0.8, 4.0), (0.8, 4.0)], 2),
    ],
)
def test_the_best_epoch_has_the_highest_mean_average_precision(rows, best):
    history = [
        {"epoch": i + 1, "val_mean_average_precision": precision, "val_cross_entropy": loss}
        for i, (precision, loss) in enumerate(rows)
    ]
    assert callbacks.best_epoch(history) == best


# Runs --------------------------------------------------------------------------------------------


def several(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Figures, two of them overlaid in every third image and none of them in one."""
    images, labels = pictures(count, seed)
    hot = np.eye(3, dtype="uint8")[labels]
    images[::3] = np.maximum(images[::3], np.roll(images, 1, 0)[::3])
    hot[::3] |= np.roll(hot, 1, 0)[::3]
    images[-1], hot[-1] = 0, 0
    return images, hot


SEVERAL = {"train": several(24), "validation": several(9, seed=1)}
BRIEF = dict(loss="multi_label", epochs=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    config = tiny_config(data=SEVERAL, changes=BRIEF, class_weights="balanced")
    return train(config, tmp_path_factory.mktemp("runs") / "run")


@pytest.mark.long
def test_a_run_reports_mean_average_precision_and_thresholds(finished):
    assert isinstance(finished.evaluation, MultiLabelEvaluation)
    assert {"thresholds.png", "worst.png", "curves.png"} <= names(finished.folder.path)
    assert "confusion.png" not in names(finished.folder.path)
    report = (finished.folder / "report.md").read_text()
    found = finished.evaluation.mean_average_precision
    assert f"| mean average precision | {found:.2%} |" in report
    assert "| threshold | precision | recall | F1 | mean F1 of the classes |" in report
    assert "\n| 0.5 |" in report
    written = finished.folder.read_json("evaluation.json")
    assert written["mean_average_precision"] == pytest.approx(found)
    assert len(written["by_threshold"]) == len(THRESHOLDS)
    assert [row["images"] for row in written["by_class"]] == SEVERAL["validation"][1].sum(
        0
    ).tolist()


@pytest.mark.long
def test_what_is_measured_in_the_best_epoch_is_what_is_evaluated(finished):
    best = callbacks.best_epoch(finished.history)
    row = finished.history[best - 1]
    evaluation = finished.evaluation
    assert row["val_cross_entropy"] == pytest.approx(evaluation.cross_entropy, rel=1e-4)
    logits = np.log(evaluation.probabilities / (1 - evaluation.probabilities))
    found = row["val_mean_average_precision"]
    assert found == pytest.approx(of_equals(evaluation.labels, logits), abs=1e-3)


@pytest.mark.long
def test_the_files_of_a_run_say_that_images_have_several_labels(finished, tmp_path):
    whole = locate(str(finished.folder)).build_classifier()
    images = SEVERAL["validation"][0].repeat(2, 1).repeat(2, 2)[:, :32, :32]
    expected = whole.probabilities(images)
    assert not np.allclose(expected.sum(1), 1)
    converted = tmp_path / "converted.safetensors"
    code, text = invoke("convert", finished.folder, converted)
    assert code == 0, text
    for path in (finished.folder / "best.keras", finished.folder / "best.safetensors", converted):
        located = locate(str(path))
        assert located.threshold == 0.5
        changes = {} if located.whole else {"include_preprocessing": True, **TINY}
        found = located.build(**changes).predict(images, verbose=0)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    # A classifier for other classes is one of one class again.
    fresh = locate(str(converted)).build(classes=4, **TINY)
    assert fresh.predict(images[:1] / 255, verbose=0).sum() == pytest.approx(1)


@pytest.mark.backend
def test_a_run_of_several_labels_stopped_within_an_epoch_ends_as_if_it_had_not(
    finished, tmp_path, monkeypatch
):
    config = tiny_config(data=SEVERAL, changes=BRIEF, class_weights="balanced", checkpoint_every=1)
    with monkeypatch.context() as patch:
        at_step(5, patch, lambda steps: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(errors.Interrupted):
            train(config, tmp_path / "run")
    result = train(config, tmp_path / "run", resume=True)
    for one, other in zip(finished.history, result.history, strict=True):
        for key in one.keys() - {"seconds"}:
            assert one[key] == pytest.approx(other[key], abs=1e-4), key
    first, second = last_arrays(finished.folder), last_arrays(result.folder)
    for name in first:
        assert first[name] == pytest.approx(second[name], abs=1e-5), name


@pytest.mark.long
def test_mixtures_have_the_labels_of_both_by_their_shares():
    config = tiny_config(data=SEVERAL, changes={**ONE_BLOCK, **BRIEF, "mixup": 0.4})
    run = Run(config, distribute.Placement())
    seen = np.concatenate([batch[1].numpy() for batch in run.training(0).take(6)])
    assert ((seen > 0.01) & (seen < 0.99)).any()
    assert seen.sum(1).max() > 1.5  # Not shares of one label.


@pytest.mark.long
def test_weights_of_classes_do_not_come_with_the_images():
    """An image of three labels would count three times, and one of none not at all."""
    config = tiny_config(
        data=SEVERAL, changes={**ONE_BLOCK, **BRIEF}, class_weights={"0": 1.0, "1": 2.0, "2": 3.0}
    )
    run = Run(config, distribute.Placement())
    [batch] = run.training(0).take(1)
    assert len(batch) == 2
    assert run.model.loss.class_weights == (1.0, 2.0, 3.0)


@pytest.mark.long
def test_data_of_one_label_may_be_trained_so_too():
    config = tiny_config(changes={**ONE_BLOCK, **BRIEF, "label_smoothing": 0.2})
    run = Run(config, distribute.Placement())
    [(_, targets)] = run.training(0).take(1)
    np.testing.assert_allclose(np.sort(targets, 1), [[0.1, 0.1, 0.9]] * 8, rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_other_losses_are_refused_where_images_have_several_labels(loss, tmp_path):
    config = tiny_config(data=SEVERAL, changes={"loss": loss})
    with pytest.raises(ValueError, match="loss must be 'multi_label' for data whose images"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_the_command_takes_the_loss_as_an_option(tmp_path):
    rows = [f"{i}.png,{'a|b' if i % 2 else 'b'}" for i in range(20)]
    for i, image in enumerate(pictures(20)[0]):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    (tmp_path / "images.csv").write_text("\n".join(["path,labels", *rows]))
    command = (
        "train",
        "--data",
        f"csv:{tmp_path}/images.csv",
        "--out",
        tmp_path / "run",
        "--dry-run",
    )
    code, text = invoke(*command, "--loss", "multi_label")
    assert (code, "multi_label" in text) == (0, True), text
    code, text = invoke(*command)
    assert (code, "pass --loss multi_label" in text) == (1, True)


# Answers -----------------------------------------------------------------------------------------


def constant(*logits: float, threshold=None, activation="linear") -> Classifier:
    """Says the same of every image."""
    image = keras.Input((None, None, 3))
    none = keras.layers.GlobalAveragePooling2D()(image)[:, :1] * 0.0
    scores = keras.layers.Activation(activation)(none + keras.ops.array([logits]))
    model = keras.Model(image, scores)
    return Classifier(model, Preparation(size=24, crop_pct=1.0), None, threshold)


@pytest.mark.long
def test_logits_of_several_labels_become_probabilities_one_by_one():
    images = np.zeros((1, 24, 24, 3))
    np.testing.assert_allclose(
        constant(0.0, np.log(3), -50.0, threshold=0.5).probabilities(images),
        [[0.5, 0.75, 0.0]],
        atol=1e-6,
    )


@pytest.mark.long
def test_a_model_of_one_class_is_refused_where_images_have_several_labels():
    examples = data.load(SEVERAL, "validation")
    with pytest.raises(ValueError, match=r"must say of each class by itself.*softmax"):
        evaluate.evaluate(constant(0.0, 1.0, 2.0, activation="softmax"), examples, batch_size=4)
    found = evaluate.evaluate(constant(0.0, 1.0, 2.0, activation="sigmoid"), examples, batch_size=4)
    assert (found.threshold, found.count) == (0.5, 9)


@pytest.mark.long
def test_classes_that_the_data_lacks_are_not_asked_about():
    examples = data.load({"train": (SEVERAL["train"][0][:-1], np.arange(23) % 2)}, "all")
    found = evaluate.evaluate(constant(0.0, 1.0, 2.0, threshold=0.5), examples, batch_size=4)
    assert found.class_names == ("0", "1")
    assert found.probabilities.shape == (23, 2)


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(SEVERAL["validation"][0][0]).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.long
def test_predictions_are_all_labels_that_reach_the_threshold(finished, photo):
    [every] = predict.predict([photo], finished.folder.path, top=3)
    values = [score.probability for score in every.classes]
    assert values == sorted(values, reverse=True)
    low, high = values[1] - 1e-4, values[0] + 1e-4
    for threshold, count in ((low, 2), (high, 0)):
        [found] = predict.predict([photo], finished.folder.path, threshold=threshold)
        assert found.threshold == threshold
        assert found.classes == every.classes[:count]
    code, text = invoke("predict", photo, "--model", finished.folder, "--threshold", high)
    assert (code, text.splitlines()[1]) == (0, f"no label reaches {high:g}")


@pytest.mark.long
def test_a_threshold_is_for_several_labels(finished, photo, tmp_path):
    one = train(tiny_config(changes={**ONE_BLOCK, "epochs": 1}), tmp_path / "run").folder
    for command in (("predict", photo), ("export", tmp_path / "model.onnx")):
        code, text = invoke(*command, "--model", one, "--threshold", 0.4)
        assert (code, "threshold is for models of several labels" in text) == (1, True)
        code, text = invoke(*command, "--model", finished.folder, "--threshold", 1.5)
        assert (code, "threshold must be a number between 0 and 1" in text) == (1, True)
    code, text = invoke(
        "export", tmp_path / "model.onnx", "--model", finished.folder, "--activation", "softmax"
    )
    assert (code, "activation must be 'sigmoid', or 'linear'" in text) == (1, True)
    assert not (tmp_path / "model.onnx").exists()


# The whole way -----------------------------------------------------------------------------------


def digit_pairs(folder: Path, count: int = 3000) -> Path:
    """scikit-learn's digits, two to an image at places of their own, and the table of them.

    The images of validation are made of digits that those of training do not have.
    """
    digits = sklearn.datasets.load_digits()
    scans = np.rint(digits.images * (255 / 16)).astype("uint8")
    random = np.random.default_rng(0)
    with open(folder / "pairs.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("image", "labels", "split"))
        for number in range(count):
            split, known = ("val", range(1400, 1797)) if number % 6 == 0 else ("train", range(1400))
            chosen = random.choice(known, 2, replace=False)
            picture = np.zeros((24, 24), "uint8")
            for which, left in zip(
                chosen, (random.integers(5), random.integers(12, 17)), strict=True
            ):
                top = random.integers(17)
                picture[top : top + 8, left : left + 8] = scans[which]
            Image.fromarray(picture).save(folder / f"{number}.png")
            labels = sorted({str(digits.target[which]) for which in chosen})
            rows.writerow((f"{number}.png", "|".join(labels), split))
    return folder / "pairs.csv"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """The table, and the folder of a run on it by the command alone."""
    folder = tmp_path_factory.mktemp("pairs")
    table = digit_pairs(folder)
    changes = dict(
        crop_pct="1.0", crop_scale="null", flip="false", depths="1,1,1", planes="16,32,64"
    )
    code, text = invoke(
        *("train", "--data", f"csv:{table}", "--loss", "multi_label", "--out", folder / "run"),
        *("--model", "resnet20", "--epochs", 14, "--batch-size", 64, "--image-size", 24),
        *(part for item in changes.items() for part in ("--set", "=".join(item))),
    )
    assert code == 0, text
    return table, folder / "run"


def truth(table: Path) -> dict[str, set[str]]:
    """The labels of each image of validation."""
    with open(table, newline="") as file:
        return {
            row["image"]: set(row["labels"].split("|"))
            for row in csv.DictReader(file)
            if row["split"] == "val"
        }


@pytest.mark.long
def test_digits_two_to_an_image_are_learnt(pairs):
    table, run = pairs
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["mean_average_precision"] >= 0.95
    assert evaluation["images"] == len(truth(table))
    code, text = invoke("evaluate", "--json", "--data", f"csv:{table}", "--model", run)
    assert code == 0, text
    again = json.loads(text[text.index("{") :])
    assert again["mean_average_precision"] == pytest.approx(evaluation["mean_average_precision"])
    for row, before in zip(again["by_threshold"], evaluation["by_threshold"], strict=True):
        assert row == pytest.approx(before)
    code, text = invoke("evaluate", "--data", f"csv:{table}", "--model", run)
    assert "mean average precision" in text.splitlines()[-1]
    assert any(line.split()[:1] == ["0.5"] for line in text.splitlines())


@pytest.mark.long
@pytest.mark.parametrize("activation", ["unchanged", "linear"])
def test_exported_and_served_they_have_the_same_labels(activation, pairs, tmp_path):
    """As `predict` names them, in ONNX by the service's own functions and in LiteRT."""
    table, run = pairs
    known = truth(table)
    files = [table.with_name(name) for name in list(known)[:60]]
    expected = [
        {score.name: score.probability for score in found.classes}
        for found in predict.predict(files, run)
    ]
    for suffix in (".onnx", ".tflite"):
        options = ("--model", run, "--include-preprocessing", "--activation", activation)
        code, text = invoke("export", tmp_path / f"model{suffix}", *options)
        assert code == 0, text
    serve, on_device = example("serve"), example("on_device")
    service = serve.Classifier(tmp_path / "model.onnx")
    device = on_device.Classifier(tmp_path / "model.tflite")
    for classifier in (service, device):
        assert classifier.metadata["multi_label"] is True
        assert classifier.threshold == classifier.metadata["threshold"] == 0.5
        assert classifier.metadata["labels"] == [str(digit) for digit in range(10)]
        assert classifier.metadata["activation"] == {"unchanged": "sigmoid"}.get(
            activation, "linear"
        )
    right = 0
    for file, named in zip(files, expected, strict=True):
        crop, values = serve.read_crop(file.read_bytes(), service)
        [(probabilities, _)] = service.answer([values], with_features=False)
        served = {service.label(i): probabilities[i] for i in service.best(probabilities)}
        told = dict(device.top(on_device.read_image(file)))
        for found in (served, told):
            # One at the threshold may fall on either side of it.
            for label in found.keys() ^ named.keys():
                assert {**found, **named}[label] == pytest.approx(0.5, abs=1e-3)
            for label in found.keys() & named.keys():
                assert found[label] == pytest.approx(named[label], abs=1e-3)
        right += served.keys() == known[file.name]
        assert len(service.best(probabilities, top=4)) == len(device.top(np.asarray(crop), 4)) == 4
    assert right / len(files) > 0.7


@pytest.mark.long
def test_the_service_answers_with_all_labels(pairs, tmp_path):
    import asyncio

    import httpx2

    table, run = pairs
    serve = example("serve")
    kr.export(
        locate(str(run)).build(),
        tmp_path / "model.onnx",
        preprocessing=locate(str(run)).preparation,
        labels=[f"digit {i}" for i in range(10)],
        threshold=0.3,
    )
    app = serve.create_app(
        serve.Classifier(tmp_path / "model.onnx"),
        max_batch=4,
        max_wait=0.01,
        max_bytes=100_000,
        queue=8,
    )

    async def asked(*queries: str) -> list[dict]:
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://service") as client,
        ):
            body = (table.with_name(next(iter(truth(table))))).read_bytes()
            found = [await client.post(f"/predict?{query}", content=body) for query in queries]
            return [(await client.get("/health")).json(), *(one.json() for one in found)]

    health, labels, every = asyncio.run(asked("grad_cam=true", "top=10"))
    assert health["threshold"] == labels["threshold"] == 0.3
    assert health["grad_cam"] is True
    assert labels["overlay"].startswith("data:image/png")
    over = [entry for entry in every["predictions"] if entry["probability"] >= 0.3]
    assert len(every["predictions"]) == 10
    assert labels["predictions"] == over
    assert 1 <= len(over) <= 3
