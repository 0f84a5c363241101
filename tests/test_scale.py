"""Several devices and several processes end where one ends, and none waits for ever for another."""

import atexit
import json
import os
import re
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import typer
from processes import BACKEND, started
from scale_runs import DATA, ask_to_stop, assert_same_ends, at_step, config, diverging, finish

from keras_resnets.commands.app import app
from keras_resnets.training import distribute, errors
from keras_resnets.training import processes as processes_module
from keras_resnets.training.run import Run, train
from keras_resnets.training.run_folder import RunFolder
from tools import scale_requirements

on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's strategies")
on_jax = pytest.mark.skipif(BACKEND != "jax", reason="several processes need JAX")


def on_two_devices(out: str, dtype: str, stop: str) -> None:
    """A process with two logical devices, which stops at step 4 or goes on to the end."""
    two = distribute.place(distribute.Processes(), devices=2)
    assert two.replicas == 2
    assert two.strategy is not None
    resume = Path(out).exists()
    with at_step(4 if stop == "stop" else 0, ask_to_stop):
        train(config(dtype), out, placement=two, resume=resume)


def as_one_of_two(out: str, index: str) -> None:
    """One of two processes, through all that may happen to them; the last thing ends both."""
    import jax

    processes = distribute.find_processes()
    assert processes == distribute.Processes(2, int(index), None)
    two = distribute.place(processes)
    assert two.replicas == 2
    # Of a machine by itself each has all accelerators, where JAX would leave it one.
    assert jax.config.read("jax_cuda_visible_devices") == "all"
    found = {}

    # Only one is asked, in the middle of an epoch.
    action = ask_to_stop if index == "1" else lambda steps: None
    with at_step(4, action), pytest.raises(errors.Interrupted) as stopped:
        train(config(), f"{out}/two", placement=two)
    found["stopped"] = str(stopped.value)
    result = train(config(), f"{out}/two", placement=two, resume=True)
    found["history"] = result.history
    found["evaluated"] = result.evaluation and result.evaluation.count

    with diverging(), pytest.raises(errors.DivergedError, match="must stay finite"):
        train(config(), f"{out}/broken", placement=two)
    found["diverged"] = True

    elsewhere = f"{out}/two" if index == "0" else f"{out}/elsewhere"
    RunFolder(elsewhere).create()
    RunFolder(elsewhere).write_json("config.json", config().as_dict())
    with pytest.raises(ValueError, match="must see the same checkpoints"):
        train(config(), elsewhere, placement=two, resume=True)
    found["shared"] = True
    atexit.unregister(distribute._end_at_once)  # What comes now has to ask for it again.
    Path(out, f"{index}.json").write_text(json.dumps(found))

    def fail(steps):
        raise OSError("nothing is left")

    with at_step(4, fail if index == "1" else lambda steps: None):
        train(config(), f"{out}/failing", placement=two)


# Several devices of one machine ------------------------------------------------------------------


@pytest.mark.long
@on_tensorflow
@pytest.mark.parametrize(
    ("dtype", "tolerance", "lives"),
    [
        ("float32", 1e-4, ["stop", "go on"]),
        ("bfloat16", 0.05, ["go on"]),
        ("float16", 0.05, ["go on"]),
    ],
)
def test_two_devices_end_where_one_does(dtype, tolerance, lives, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    train(config(dtype), one)
    for stop in lives:
        process = started(on_two_devices, two, dtype, stop)
        said = finish(process)
        assert (process.returncode == 0) == (stop != "stop"), said[-3000:]
        assert ("Stopped after step 4" in said) == (stop == "stop"), said[-3000:]
    assert_same_ends(one, two, tolerance)


# Several processes -------------------------------------------------------------------------------


@on_jax
@pytest.mark.backend
def test_two_processes_end_where_one_does_and_stop_fail_and_resume_together(tmp_path):
    one = train(config(), tmp_path / "one")
    variables = dict(
        # The runs are compiled alike.
        JAX_COMPILATION_CACHE_DIR=str(tmp_path / "cache"),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0.1",
        # What Slurm says to two processes on two machines; JAX makes a port of the job's number.
        SLURM_JOB_ID=str(os.getpid()),
        SLURM_STEP_NODELIST="localhost",
        SLURM_STEP_NUM_NODES="2",
        SLURM_NTASKS="2",
        SLURM_LOCALID="0",
    )
    processes = [
        started(as_one_of_two, tmp_path, i, SLURM_PROCID=str(i), **variables) for i in range(2)
    ]
    try:
        said = [finish(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for i in range(2):
        assert (tmp_path / f"{i}.json").exists(), said[i][-3000:]
    found = [json.loads((tmp_path / f"{i}.json").read_text()) for i in range(2)]
    for i in range(2):
        assert found[i]["stopped"] == "Stopped after step 4; go on with --resume."
        for row, other in zip(one.history, found[i]["history"], strict=True):
            for key in row.keys() - {"seconds"}:
                assert other[key] == pytest.approx(row[key], abs=1e-4), key
    assert [result["evaluated"] for result in found] == [21, None]
    assert_same_ends(tmp_path / "one", tmp_path / "two", 1e-4)
    # One failed, and the other did not wait for it.
    assert "nothing is left" in said[1]
    noticed = "another one is gone or has failed", "another task died"
    assert any(words in said[0] for words in noticed), said[0][-3000:]
    assert all(process.returncode for process in processes)


@on_jax
@pytest.mark.backend
def test_balanced_class_weights_are_the_same_in_all_processes():
    images, labels = DATA["train"]
    data = {"train": (images[:37], np.sort(labels)[:37]), "validation": DATA["validation"]}
    weights = []
    for i in range(2):
        placement = distribute.Placement(distribute.Processes(2, i, "h:1"), 2)
        run = Run(config(data=data, class_weights="balanced"), placement)
        weights.append(run.class_weights)
    assert weights[0] == weights[1]


# What many machines need --------------------------------------------------------------------------


def test_the_page_shows_what_the_calculation_gives():
    page = scale_requirements.PAGE.read_text(encoding="utf-8")
    shown = page.split(scale_requirements.BEGIN)[1].split(scale_requirements.END)[0]
    assert shown.strip() == scale_requirements.page(scale_requirements.Assumptions())


def test_the_page_uses_options_that_exist():
    page = scale_requirements.PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    command = typer.main.get_command(app).commands["train"]
    parameters = command.get_params(typer.Context(command))
    known = {option for parameter in parameters for option in parameter.opts}
    lines = re.findall("keras-resnets train (.*)", page)
    used = {option for line in lines for option in re.findall("--[a-z-]+", line.split("#")[0])}
    assert len(used) > 8
    assert used <= known


def test_a_ring_of_gpus_takes_what_its_formula_says():
    given = scale_requirements.Assumptions(network=10.0, hop=2.0, throughput=500.0)
    found = scale_requirements.requirements(16, 50_000_000, 1024, given)
    assert found.machines == 2
    # 2 * 15 / 16 of 200 MB at 10 GB/s, and 30 messages.
    assert found.all_reduce == pytest.approx(0.0375 + 60e-6)
    assert (found.batch, found.accumulated, found.step) == (64, 1, 0.128)
    # Two thirds of 128 ms hide all of it.
    assert (found.exposed, found.efficiency) == (0, 1)
    assert found.input_bytes == pytest.approx(16 * 500 * 115e3)
    short = scale_requirements.requirements(16, 50_000_000, 64, given)
    assert short.exposed == pytest.approx(0.03756 - 2 / 3 * 0.008)
    assert short.limit == "network"


# Where a run computes ----------------------------------------------------------------------------


def cluster(kind: str = "worker", index: int = 0, **addresses: list[str]) -> str:
    return json.dumps({"cluster": addresses, "task": {"type": kind, "index": index}})


@on_tensorflow
def test_tf_config_says_which_processes_there_are(monkeypatch):
    find = distribute.find_processes
    monkeypatch.setenv("TF_CONFIG", cluster(index=1, worker=["a:1", "b:2"]))
    assert find() == distribute.Processes(2, 1, "a:1", ("a:1", "b:2"))
    monkeypatch.setenv("TF_CONFIG", cluster(index=1, worker=["a:1", "b:2"], chief=["c:3"]))
    assert find(start_timeout=7) == distribute.Processes(3, 2, "c:3", ("c:3", "a:1", "b:2"), 7)
    # What is given goes before it.
    assert find("h:1", 2, 0) == distribute.Processes(2, 0, "h:1")
    for alone in (cluster(worker=["a:1"]), "{}"):
        monkeypatch.setenv("TF_CONFIG", alone)
        assert find() == distribute.Processes()


@on_tensorflow
@pytest.mark.parametrize(
    "stated",
    [
        "nothing",
        "[]",
        cluster(index=2, worker=["a:1", "b:2"]),
        cluster("ps", worker=["a:1", "b:2"], ps=["c:3"]),
        cluster(worker=["a:1", "b:2"], ps=["c:3"]),
        cluster(worker=["a", "b"]),
        json.dumps({"cluster": {"worker": ["a:1", "b:2"]}}),
    ],
)
def test_a_tf_config_that_makes_no_sense_is_refused(stated, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", stated)
    with pytest.raises(ValueError, match="TF_CONFIG must be JSON with the addresses"):
        distribute.find_processes()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("gpu[03-05,9],cpu1", "gpu03"), ("node7", "node7"), ("b1,a[1-2]", "b1"), ("n-[9,10]", "n-9")],
)
def test_the_first_machine_of_slurm_is_where_processes_meet(nodes, first, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NODELIST", nodes)
    monkeypatch.setenv("SLURM_JOB_ID", "4097")
    assert processes_module.coordinator_by_slurm() == f"{first}:61441"


@on_tensorflow
def test_a_process_that_never_starts_is_not_waited_for_for_ever():
    alone = distribute.Processes(2, 1, "localhost:9", start_timeout=0.1)
    with pytest.raises(TimeoutError, match="the first process must be found"):
        distribute.place(alone)


@on_tensorflow
def test_what_several_devices_cannot_do_is_refused():
    import tensorflow as tf

    placement = distribute.Placement(
        replicas=2, strategy=tf.distribute.MirroredStrategy(["/CPU:0"])
    )
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    with pytest.raises(ValueError, match="the model must be made in"):
        distribute.compiled(model, placement, optimizer=keras.optimizers.SGD(), loss="mse")
    with placement.scope():
        model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
        sgd = keras.optimizers.SGD(gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="the optimizer must be made in"):
        distribute.compiled(model, placement, optimizer=keras.optimizers.SGD(), loss="mse")
    with pytest.raises(ValueError, match="gradient_accumulation_steps must be left out"):
        distribute.compiled(model, placement, optimizer=sgd, loss="mse")
    with placement.scope():
        sgd = keras.optimizers.SGD()
    metrics = [keras.metrics.MeanSquaredError(name="far")]
    with pytest.raises(ValueError, match="the metric far must be made in"):
        distribute.compiled(model, placement, optimizer=sgd, loss="mse", metrics=metrics)
    with pytest.raises(ValueError, match="steps_per_execution and run_eagerly must be left out"):
        distribute.compiled(model, placement, optimizer=sgd, loss="mse", run_eagerly=True)
    with placement.scope(), pytest.raises(ValueError, match="must be called outside"):
        distribute.compiled(model, placement, optimizer=sgd, loss="mse")
    model = distribute.compiled(model, placement, optimizer=sgd, loss="mse")
    with pytest.raises(ValueError, match="fit must be called in placement"):
        model.fit(
            np.ones((2, 2)), np.ones((2, 1)), callbacks=[distribute.Replicas(placement.strategy)]
        )


def test_slurms_processes_are_counted_and_their_first_is_found_later(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NODELIST", "gpu[03-05,9],cpu1")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", "2")
    assert distribute.find_processes() == distribute.Processes(4, 2, None)
    assert distribute.find_processes("host:1") == distribute.Processes(4, 2, "host:1")
    # A shell beside the steps of a job, and a step of one task, are one process.
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert distribute.find_processes() == distribute.Processes()
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.delenv("SLURM_STEP_NODELIST")
    assert distribute.find_processes() == distribute.Processes()


@pytest.mark.parametrize(
    "given", [("host", 2, 0), ("host:1", 2, 2), (None, 2, 0), ("h:1", 2, None)]
)
def test_processes_that_make_no_sense_are_refused(given):
    with pytest.raises(ValueError, match="Received: coordinator="):
        distribute.find_processes(*given)


def test_a_batch_must_be_shared_evenly():
    placement = distribute.Placement(replicas=3)
    with pytest.raises(ValueError, match="multiple of the 3 devices"):
        placement.local_batch(8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert distribute.Placement(distribute.Processes(2, 0, "h:1"), 4).local_batch(8) == 4
