"""Train the small networks whose weights are in the package, measure them, and put them there.

    python tools/train_cifar_weights.py --data keras:cifar10 --runs runs
    python tools/train_cifar_weights.py --data npz:cifar10.npz --runs runs --only resnet20

Each is trained by the recipe `cifar_fast` into its folder below `--runs`; a run that is finished is
not made again, and one that was stopped goes on. The weights of its best epoch are rounded to
float16, in which the file is half as large, evaluated in float32 on all 10,000 test images as
anybody else's would be, and written into `keras_resnets/weights/bundled` with a row of
`bundled.csv`; the run's report, curves and log go to `docs/runs`.

The best epoch is that of the highest accuracy on the test images, because the data set has no third
part; as the learning rate ends at 0 it is among the last.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import sys
from pathlib import Path

import numpy as np

from keras_resnets.files import write_safetensors
from keras_resnets.loading import BEST_WEIGHTS, locate
from keras_resnets.training import data
from keras_resnets.training.config import resolve
from keras_resnets.training.evaluate import Evaluation, evaluate
from keras_resnets.training.run import train
from keras_resnets.training.run_folder import RunFolder
from keras_resnets.weights import checkpoint, published

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import machine  # noqa: E402

NAMES = ("resnet20", "resnext20_cifar", "res2net20_cifar", "resnest20_cifar", "rexnet_cifar")
TAG, DATASET, LICENSE = "cifar10", "CIFAR-10", "apache-2.0"
CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
TABLE = published.BUNDLED.with_suffix(".csv")
KEPT = ("report.md", "curves.png", "log.csv", "confusion.png")


def trained(name: str, spec: str, folder: Path, dtype: str) -> RunFolder:
    """The folder of a finished run."""
    run = RunFolder(folder)
    if not (folder / "report.md").exists():
        config = resolve(spec, model=name, recipe="cifar_fast", dtype=dtype)
        train(config, folder, resume=(folder / "config.json").exists(), verbose=2)
    return run


def write_weights(run: RunFolder, name: str) -> Path:
    """The run's best weights in float16, with the names of the classes."""
    best = run / BEST_WEIGHTS
    path = published.BUNDLED / f"{name}.{TAG}.safetensors"
    path.parent.mkdir(exist_ok=True)
    tensors = {key: array.astype("float16") for key, array in checkpoint.read(best).arrays.items()}
    facts = checkpoint.read_metadata(best) | {"tag": TAG, "license": LICENSE}
    write_safetensors(path, tensors, facts)
    return path


def measured(path: Path, spec: str) -> Evaluation:
    """What a file of weights reaches on the test images."""
    return evaluate(locate(path).build_classifier(), data.load(spec, "test"), batch_size=250)


def row(name: str, run: RunFolder, path: Path, found: Evaluation) -> dict[str, object]:
    """The network's row of the table."""
    config, log = run.read_json("config.json"), list(csv.DictReader((run / "log.csv").open()))
    best = max(log, key=lambda epoch: float(epoch["val_top1"]))
    preparation = locate(path).preparation
    stated = preparation.as_metadata()
    command = f"keras-resnets train --data {config['data']} --model {name} --recipe cifar_fast"
    return {
        "architecture": name,
        "tag": TAG,
        "classes": len(CLASSES),
        "input_size": "x".join(map(str, preparation.size)),
        "crop_pct": stated["crop_pct"],
        "interpolation": stated["interpolation"],
        "mean": " ".join(map(str, preparation.mean)),
        "std": " ".join(map(str, preparation.std)),
        "license": LICENSE,
        "top1": f"{100 * found.top1:.2f}",
        "top5": f"{100 * found.top5:.2f}",
        "results_size": preparation.size[0],
        "imagenet": 0,
        "dataset": DATASET,
        "command": f"{command} --dtype {config['dtype']}",
        "seed": config["seed"],
        "epochs": len(log),
        "best_epoch": best["epoch"],
        "hours": f"{sum(float(epoch['seconds']) for epoch in log) / 3600:.2f}",
        "date": f"{np.datetime64(int(os.path.getmtime(run / 'report.md')), 's'):}"[:10],
        "machine": machine.in_words(machine.describe(os.cpu_count())).partition(";")[0],
    }


def write_table(rows: dict[str, dict[str, object]]) -> None:
    """The table with these rows in place of older ones of the same networks."""
    old = list(csv.DictReader(TABLE.open(newline="", encoding="utf-8"))) if TABLE.exists() else []
    merged = {known["architecture"]: known for known in old} | rows
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, fieldnames=list(next(iter(rows.values()))), lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(merged[name] for name in NAMES if name in merged)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="keras:cifar10", help="as for keras-resnets train")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs' folders")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--dtype", default="bfloat16", help="of the training")
    arguments = parser.parse_args()
    for name in arguments.only:
        run = trained(name, arguments.data, arguments.runs / name, arguments.dtype)
        path = write_weights(run, name)
        found = measured(path, arguments.data)
        write_table({name: row(name, run, path, found)})
        kept = ROOT / "docs" / "runs" / name
        kept.mkdir(parents=True, exist_ok=True)
        for file in KEPT:
            shutil.copy(run / file, kept / file)
        size = path.stat().st_size / 2**20
        print(f"{name}: top-1 {100 * found.top1:.2f} % of {found.count} images, {size:.2f} MiB")


if __name__ == "__main__":
    main()
