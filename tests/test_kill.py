"""A run that is killed again and again: nothing is lost but what was promised, nothing is broken.

Runs are processes of their own, forked from a server that has imported TensorFlow and computed
nothing yet, which takes milliseconds where a fresh process takes seconds. A kill is SIGKILL: either
from outside, some random time after a moment that the run announces, or exactly at that moment.
"""

import csv
import dataclasses
import json
import multiprocessing
import os
import random
import signal
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from tiny_runs import ONE_BLOCK, pictures, tiny_config

from keras_resnets.files import UNFINISHED
from keras_resnets.training import callbacks, checkpoints
from keras_resnets.training import run as run_module
from keras_resnets.training.run import train

SEED = 20
EVERY = 3  # Steps between checkpoints; an epoch has five, so they fall anywhere in it.
EPOCHS = 12  # More than the run gets to while it is still killed.
DATA = {"train": pictures(40), "validation": pictures(21, seed=1)}


@dataclasses.dataclass(frozen=True)
class Kill:
    """When a run is killed.

    Attributes:
        moment: "begin" of the process, end of a training "step" or a "validation" step, a file
            "written" but not renamed yet, or "renamed", the begin of the "report".
        number: of that moment in the life of the process, from 1.
        delay: seconds later; None for exactly then, by the process itself.
        half: whether the file that was written is cut to its half.
    """

    moment: str
    number: int = 1
    delay: float | None = None
    half: bool = False


def kills(dice: random.Random) -> list[Kill]:
    """First some at the very beginning, then all kinds in a random order, then in the report."""
    training = [
        *(Kill("begin", delay=dice.uniform(0, 2)) for _ in range(2)),
        *(Kill("step", dice.randint(1, 4), delay=dice.uniform(0, 0.1)) for _ in range(5)),
        *(Kill("validation", dice.randint(1, 3), delay=dice.choice([None, 0.02])) for _ in "12"),
        *(Kill("written", dice.randint(2, 7), half=dice.random() < 0.5) for _ in range(5)),
        *(Kill("renamed", dice.randint(3, 7)) for _ in range(2)),
    ]
    dice.shuffle(training)
    report = [
        Kill("report", delay=dice.uniform(0, 0.5)),
        *(Kill("written", dice.randint(4, 8), half=True) for _ in range(2)),
    ]
    start = [Kill("written", 1, half=True), Kill("written", 2), Kill("renamed", 1)]
    return [*start, *training, *report]


def live(folder: str, resume: bool, kill: Kill | None, events) -> None:
    """A life of the run: to its end, or to the exact moment of the kill."""
    seen = {}

    def moment(name: str, step: int | None = None, written: str | None = None) -> None:
        seen[name] = seen.get(name, 0) + 1
        if kill is not None and (name, seen[name], None) == (kill.moment, kill.number, kill.delay):
            if written and kill.half:
                os.truncate(written, os.path.getsize(written) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        events.send((name, seen[name], step))
        outside = kill is not None and kill.moment in ("begin", "step")
        if outside and seen.get("step", 0) > kill.number + 4:
            time.sleep(60)  # However fast the machine is, the kill comes first.

    def announced(owner, attribute, announce):
        original = getattr(owner, attribute)

        def patched(*arguments, **options):
            announce(*arguments)
            return original(*arguments, **options)

        setattr(owner, attribute, patched)

    replace = os.replace

    def replaced(source, target):
        moment("written", written=source)
        replace(source, target)
        moment("renamed")

    os.replace = replaced
    steps = callbacks.Steps
    announced(steps, "on_train_batch_end", lambda self, *_: moment("step", self.progress.step + 1))
    announced(steps, "on_test_batch_end", lambda *_: moment("validation"))
    announced(run_module, "_finish", lambda *_: moment("report"))
    moment("begin")
    # Everything random that a run can have, and the averages.
    changes = dict(ONE_BLOCK, epochs=EPOCHS, dropout=0.2, mixup=0.2, ema=0.9)
    config = tiny_config(data=DATA, changes=changes, checkpoint_every=EVERY, deterministic=True)
    train(config, folder, resume=resume)


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "keras_resnets.training.report"])
    return context


def lived(processes, folder: Path, kill: Kill | None) -> tuple[int, list[tuple]]:
    """Lets a run begin or go on, until its end or the kill.

    Returns:
        The exit code, -9 if it was killed, and what it announced: moment, its number and step.
    """
    resume = (folder / "config.json").is_file()
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=live, args=(str(folder), resume, kill, sender))
    process.start()
    sender.close()
    seen = []
    try:
        while receiver.poll(120):
            seen.append(receiver.recv())
            if kill is not None and seen[-1][:2] == (kill.moment, kill.number):
                time.sleep(kill.delay)
                process.kill()
                break
        while receiver.poll(120):
            seen.append(receiver.recv())
    except EOFError:
        pass
    process.join(120)
    return process.exitcode, seen


def last_step(folder: Path) -> int:
    """The step of the last checkpoint, none of which may be damaged."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        last = checkpoints.load_last(folder / "checkpoints")
    return 0 if last is None else last[1].step


def unfinished(folder: Path) -> set[Path]:
    return set(folder.rglob(f"{UNFINISHED}*"))


def assert_every_file_is_whole(folder: Path) -> None:
    # The system lets go of a lock; its empty file stays until the run ends by itself.
    written = {path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    for path in written - unfinished(folder):
        if path.suffix == ".json":
            assert json.loads(path.read_text())
        elif path.suffix == ".csv":
            heading, *rows = csv.reader(path.read_text().splitlines())
            assert {len(row) for row in rows} == {len(heading)}
        elif path.suffix == ".safetensors":
            assert all(array.dtype for array in safetensors.numpy.load_file(path).values())
        elif path.suffix == ".keras":
            assert zipfile.ZipFile(path).testzip() is None
        elif path.suffix == ".png":
            Image.open(path).load()
        else:
            assert path.name == "report.md"
            assert "| keras_resnets |" in path.read_text()


def assert_same(one: dict, other: dict, tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=tolerance, err_msg=name)


def log(folder: Path) -> list[dict[str, float]]:
    rows = csv.DictReader((folder / "log.csv").read_text().splitlines())
    return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.long
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(processes, tmp_path):
    print(f"seed {SEED}")
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    assert lived(processes, whole, None)[0] == 0
    killed, farthest, left = [], 0, set()
    for kill in kills(random.Random(SEED)):
        before = last_step(folder)
        code, seen = lived(processes, folder, kill)
        print(f"{kill}: exit code {code}, {len(seen)} moments, at step {farthest} from {before}")
        assert code in (0, -signal.SIGKILL)
        killed += [kill] if code else []
        steps = [step for *_, step in seen if step is not None]
        assert steps == [before + 1 + i for i in range(len(steps))]
        farthest = max([farthest, *steps])
        assert before <= last_step(folder) <= farthest <= last_step(folder) + EVERY
        assert_every_file_is_whole(folder)
        if steps or ("report", 1, None) in seen:
            assert not left & unfinished(folder)
        left = unfinished(folder)
    assert len(killed) >= 20
    assert {kill.moment for kill in killed} == set(
        "begin step validation written renamed report".split()
    )

    code, _ = lived(processes, folder, None)
    assert code == 0
    assert not unfinished(folder)
    assert {p.name for p in folder.iterdir()} == {p.name for p in whole.iterdir()}
    (_, progress, arrays), (_, other_progress, other_arrays) = (
        checkpoints.load_last(path / "checkpoints") for path in (whole, folder)
    )
    assert progress.step == other_progress.step == 5 * EPOCHS
    for part in ("kernel", "moving_mean", "momentum", "average/", "iteration", "seed_generator"):
        assert any(part in name for name in arrays), part
    assert_same(arrays, other_arrays, 1e-6)
    assert_same(
        *(safetensors.numpy.load_file(p / "best.safetensors") for p in (whole, folder)), 1e-6
    )
    for one, other in zip(log(whole), log(folder), strict=True):
        assert one == pytest.approx(other, abs=1e-6)
        assert one["learning_rate"] == other["learning_rate"]
    results = [json.loads((path / "evaluation.json").read_text()) for path in (whole, folder)]
    assert results[0]["confusion"] == results[1]["confusion"]
