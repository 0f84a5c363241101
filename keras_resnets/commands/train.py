"""What the commands `keras-resnets train`, `evaluate` and `bench-data` do."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from keras_resnets.checks import require
from keras_resnets.training import distribute, evaluate, train
from keras_resnets.training.recipe import Recipe, find_recipe
from keras_resnets.training.report import percent
from keras_resnets.training.run_folder import RunFolder


def run_training(
    out: str,
    *,
    data: str | None,
    model: str | None,
    weights: str | None,
    recipe: str | None,
    changes: Mapping[str, Any],
    texts: Sequence[str],
    options: Mapping[str, Any],
    resume: bool,
    dry_run: bool,
    devices: int | None,
    processes: Mapping[str, Any],
) -> None:
    """`keras-resnets train`."""
    options = dict(options)
    if options.get("class_weights") not in (None, "balanced"):
        options["class_weights"] = _class_weights(options["class_weights"])
    changes = {**changes, **train.parse_changes(texts)}
    told = dict(model=model, weights=weights, recipe=recipe, **changes, **options)
    if resume and data is None:
        told = {key: value for key, value in told.items() if value is not None}
        require(
            not told,
            "--resume stands alone with --out, or with the whole command again, --data included",
            **told,
        )
        config = _stored(RunFolder(out))
    else:
        require(data is not None, "data must say what to train on", data=data)
        config = train.resolve(data, model, weights, recipe or "quick", changes, **options)
    placement = distribute.place(distribute.find_processes(**processes), devices=devices)
    if dry_run:
        _print_facts(_flat_recipe(config.recipe), "recipe")
        facts = {"data": config.data, "model": config.model, "weights": config.weights or "random"}
        _print_facts(facts | train.plan(config, placement), "run")
        return
    verbose = (1 if sys.stdout.isatty() else 2) if placement.is_main else 0
    result = train.train(config, out, resume=resume, placement=placement, verbose=verbose)
    if result.evaluation is not None:
        _print_accuracy(result.evaluation)
        _print_lines([f"Wrote {out}: best.keras, best.safetensors, report.md, ..."])


def _stored(folder: RunFolder) -> train.RunConfig:
    """What the run in a folder was told."""
    require(
        (folder / "config.json").is_file(),
        "out must be the folder of a run where --resume is given",
        out=str(folder),
    )
    values = folder.read_json("config.json")
    return train.RunConfig(**(values | {"recipe": Recipe(**values["recipe"])}))


def _class_weights(path: str) -> dict[str, float]:
    require(Path(path).is_file(), 'class_weights must be "balanced" or a JSON file', file=path)
    try:
        weights = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"class_weights must be JSON. Received: {path!r} ({error})") from error
    require(isinstance(weights, dict), "class_weights must map classes to weights", file=path)
    return weights


def run_evaluation(
    data_spec: str,
    split: str,
    model: str,
    weights: str | None,
    *,
    image_size: int | None,
    crop_pct: float | None,
    batch_size: int,
    seed: int,
    data_dir: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """`keras-resnets evaluate`."""
    from keras_resnets.training import data

    examples = data.load(data_spec, split, data_dir=data_dir, seed=seed, strict=strict)
    classes = len(examples.class_names)
    subject = evaluate.load_subject(
        model, weights, classes=classes, image_size=image_size, crop_pct=crop_pct
    )
    found = evaluate.evaluate(
        subject.model,
        examples,
        image_size=subject.image_size,
        crop_pct=subject.crop_pct,
        interpolation=subject.interpolation,
        batch_size=batch_size,
    )
    published = subject.published
    if as_json:
        values = found.as_dict()
        if published is not None:
            values["reported"] = {"top1": published.top1, "top5": published.top5}
        print(json.dumps(values, indent=2))
        return
    table = Table("class", "images", "recall", "precision", "top-5", box=None, pad_edge=False)
    for row in found.by_class():
        shares = (row[key] for key in ("recall", "precision", "top5"))
        table.add_row(str(row["class"]), str(row["images"]), *map(percent, shares))
    _console().print(table)
    _print_accuracy(found)
    if published is not None and published.top1 is not None:
        _print_lines(
            [
                f"reported for {published.name} on ImageNet at {published.results_size}: "
                f"top-1 {published.top1:.2f}%, top-5 {published.top5:.2f}%"
            ]
        )


def run_bench_data(
    data_spec: str,
    recipe: str,
    *,
    batch_size: int | None,
    image_size: int | None,
    seconds: float,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """`keras-resnets bench-data`."""
    from keras_resnets.training import bench_data

    chosen = find_recipe(recipe)
    result = bench_data.measure(
        data_spec,
        chosen.augmentation,
        image_size=image_size or chosen.image_size,
        batch_size=batch_size or min(chosen.batch_size, 64),
        seconds=seconds,
        data_dir=data_dir,
    )
    if as_json:
        print(json.dumps(result.as_dict(), indent=2))
    else:
        _print_lines(
            [
                f"{result.images_per_second:,.0f} images/s: {result.images:,} images in "
                f"{result.seconds:.1f} s; the first batch took {result.first_batch:.1f} s"
            ]
        )


def _flat_recipe(recipe: Recipe) -> dict[str, Any]:
    values = recipe.as_dict()
    return {
        key: value for key, value in values.items() if key not in ("augmentation", "by_model")
    } | values["augmentation"]


def _print_accuracy(found: evaluate.Evaluation) -> None:
    _print_lines([f"top-1 {found.top1:.2%}, top-5 {found.top5:.2%} of {found.count:,} images"])


def _print_facts(facts: Mapping[str, Any], title: str) -> None:
    _print_lines([title, *(f"  {key:<28}{value}" for key, value in facts.items()), ""])


def _print_lines(lines: Iterable[str]) -> None:
    console = _console()
    for line in lines:
        console.print(line, soft_wrap=True)


def _console() -> Console:
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:  # Into a pipe or a file it is as wide as it needs to be.
        console.width = 200
    return console
