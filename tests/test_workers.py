"""Several processes on TensorFlow end where one does, and none waits for ever for another."""

import atexit
import json
import os
import signal
import socket
from pathlib import Path

import keras
import numpy as np
import pytest
from processes import BACKEND, started
from scale_runs import ask_to_stop, assert_same_ends, at_step, config, diverging, finish

from keras_resnets.layers import BatchNormalization
from keras_resnets.training import distribute, errors
from keras_resnets.training.run import train

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's strategy"),
]


def free_ports(count: int) -> list[int]:
    servers = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def outcomes(function, count: int, *arguments, **variables: str) -> list[tuple[int, str]]:
    """Exit codes of processes that run a function together, and what they said."""
    ports = ",".join(map(str, free_ports(count)))
    processes = [started(function, *arguments, i, ports, **variables) for i in range(count)]
    try:
        said = [finish(process) for process in processes]
        return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]
    finally:
        for process in processes:
            process.kill()
            process.wait()


# Runs --------------------------------------------------------------------------------------------


def placed(index: str, coordinator: str | None) -> distribute.Placement:
    found = distribute.find_processes(coordinator, 2, int(index), start_timeout=120)
    two = distribute.place(found)
    assert (two.replicas, two.shard, two.is_main) == (2, (int(index), 2), index == "0")
    return two


def killed(out: str, index: str, ports: str) -> None:
    """One of two processes of Slurm's, both of which are killed in the middle of an epoch."""
    step = {"STEP_NODELIST": "localhost", "STEP_NUM_NODES": "2", "NTASKS": "2", "PROCID": index}
    os.environ |= {f"SLURM_{name}": value for name, value in step.items()}
    os.environ["SLURM_JOB_ID"] = ports.split(",")[0]  # The port is made of it.
    two = placed(index, None)
    with at_step(4, lambda steps: os.kill(os.getpid(), signal.SIGKILL)):
        train(config(checkpoint_every=3), f"{out}/two", placement=two)


def goes_on(out: str, index: str, ports: str) -> None:
    """One of two processes, through all that may happen to them; the last thing ends both."""
    two = placed(index, f"localhost:{ports.split(',')[0]}")
    found = {}
    # Only one is asked, in the second epoch.
    with (
        at_step(7, ask_to_stop if index == "1" else lambda steps: None),
        pytest.raises(errors.Interrupted) as stopped,
    ):
        train(config(checkpoint_every=3), f"{out}/two", placement=two, resume=True)
    found["stopped"] = str(stopped.value)
    result = train(config(checkpoint_every=3), f"{out}/two", placement=two, resume=True)
    found["history"] = result.history
    found["evaluated"] = result.evaluation and result.evaluation.count

    train(config("bfloat16"), f"{out}/half", placement=two)

    with diverging(), pytest.raises(errors.DivergedError, match="must stay finite"):
        train(config(), f"{out}/broken", placement=two)

    with pytest.raises(ValueError, match="must be told the same") as told:
        train(config(seed=int(index)), f"{out}/told", placement=two)
    found["told"] = str(told.value)
    atexit.unregister(distribute._end_at_once)  # What comes now has to ask for it again.
    Path(out, f"{index}.json").write_text(json.dumps(found))

    def fail(steps):
        raise OSError("nothing is left")

    with at_step(4, fail if index == "1" else lambda steps: None):
        train(config(), f"{out}/failing", placement=two)


def test_two_processes_end_where_one_does_after_kills_and_stop_and_fail_together(tmp_path):
    one = train(config(), tmp_path / "one")
    train(config("bfloat16"), tmp_path / "one_half")

    codes = [code for code, _ in outcomes(killed, 2, tmp_path)]
    assert -signal.SIGKILL in codes
    assert all(codes)
    assert not (tmp_path / "two" / "report.md").exists()

    (first, said), (second, said_by_second) = outcomes(goes_on, 2, tmp_path)
    for i, text in enumerate((said, said_by_second)):
        assert (tmp_path / f"{i}.json").exists(), text[-3000:]
    found = [json.loads((tmp_path / f"{i}.json").read_text()) for i in range(2)]
    for i in range(2):
        assert found[i]["stopped"] == "Stopped after step 7; go on with --resume."
        assert "seed: 0 in process 0, 1 in process 1" in found[i]["told"]
        for row, other in zip(one.history, found[i]["history"], strict=True):
            for key in row.keys() - {"seconds"}:
                assert other[key] == pytest.approx(row[key], abs=1e-4), key
    assert [result["evaluated"] for result in found] == [21, None]
    assert_same_ends(tmp_path / "one", tmp_path / "two", 1e-4)
    assert_same_ends(tmp_path / "one_half", tmp_path / "half", 0.05)
    # One failed, and the other did not wait for it.
    assert "nothing is left" in said_by_second
    assert "another one is gone or has failed" in said, said[-3000:]
    assert first
    assert second


# Anybody's models --------------------------------------------------------------------------------

STEPS, PART, PARTS = 10, 4, 3


def net() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(inputs)
    x = keras.layers.ReLU()(BatchNormalization(momentum=0.5, name="norm")(x))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))


def batches(part: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The batches of one process, one a step."""
    random = np.random.default_rng(part)
    labels = random.integers(0, 3, (STEPS, PART))
    images = random.normal(size=(STEPS, PART, 8, 8, 3)) + labels[..., None, None, None] + part
    return [
        (images[i].astype("float32"), np.eye(3, dtype="float32")[labels[i]]) for i in range(STEPS)
    ]


def optimizer() -> keras.Optimizer:
    return keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.3)


def loss() -> keras.Loss:
    return keras.losses.CategoricalCrossentropy(from_logits=True)


def as_one_of_three(out: str, index: str, ports: str) -> None:
    """One of three processes, as TF_CONFIG says, that trains a model of somebody's own."""
    import tensorflow as tf

    task = {"type": "worker", "index": int(index)}
    workers = [f"localhost:{port}" for port in ports.split(",")]
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
    placement = distribute.place(distribute.find_processes(start_timeout=120))
    assert placement.replicas == PARTS
    with placement.scope():
        model, adam = net(), optimizer()
    model = distribute.compiled(model, placement, optimizer=adam, loss=loss(), metrics=["accuracy"])
    if placement.is_main:
        model.save_weights(f"{out}/before.weights.h5")
    own = batches(int(index))
    arrays = [np.concatenate(values) for values in zip(*own, strict=True)]
    shared = placement.shared(tf.data.Dataset.from_tensor_slices(tuple(arrays)).batch(PART))
    with placement.scope():
        history = model.fit(
            shared,
            steps_per_epoch=STEPS,
            callbacks=[distribute.Replicas(placement.strategy)],
            verbose=0,
        )
    model.save_weights(f"{out}/{index}.weights.h5")
    Path(out, f"{index}.json").write_text(json.dumps(history.history))


def reference(path: Path) -> tuple[keras.Model, float, float]:
    """One process that normalises each part by itself; the epoch's mean loss and accuracy."""
    import tensorflow as tf

    model, adam, measure = net(), optimizer(), loss()
    model.load_weights(path)
    gathered = model.get_layer("norm").non_trainable_weights
    statistics = [[np.array(variable) for variable in gathered] for _ in range(PARTS)]
    losses, correct = [], []
    for step in zip(*map(batches, range(PARTS)), strict=True):
        gradients = []
        for part, (x, y) in enumerate(step):
            for variable, value in zip(gathered, statistics[part], strict=True):
                variable.assign(value)
            with tf.GradientTape() as tape:
                logits = model(x, training=True)
                value = measure(y, logits)
            gradients.append(tape.gradient(value, model.trainable_weights))
            losses.append(float(value))
            correct.append(np.mean(np.argmax(logits, 1) == np.argmax(y, 1)))
            statistics[part] = [np.array(variable) for variable in gathered]
        means = [tf.reduce_mean(tf.stack(parts), 0) for parts in zip(*gradients, strict=True)]
        adam.apply(means, model.trainable_weights)
    for variable, values in zip(gathered, zip(*statistics, strict=True), strict=True):
        variable.assign(np.mean(values, axis=0))
    return model, float(np.mean(losses)), float(np.mean(correct))


def test_a_model_of_ones_own_trains_on_three_processes_as_on_one(tmp_path):
    for code, said in outcomes(as_one_of_three, PARTS, tmp_path):
        assert code == 0, said[-3000:]
    expected, mean_loss, accuracy = reference(tmp_path / "before.weights.h5")
    before, trained = net(), net()
    before.load_weights(tmp_path / "before.weights.h5")
    for i in range(PARTS):
        trained.load_weights(tmp_path / f"{i}.weights.h5")
        for now, then, wanted in zip(
            trained.weights, before.weights, expected.weights, strict=True
        ):
            assert np.array(now) == pytest.approx(np.array(wanted), abs=1e-4), now.path
            assert abs(np.array(now) - np.array(then)).max() > 1e-2, now.path
        history = json.loads((tmp_path / f"{i}.json").read_text())
        assert history["loss"] == pytest.approx([mean_loss], abs=1e-4)
        assert history["accuracy"] == pytest.approx([accuracy], abs=1e-4)  # Of all three.
