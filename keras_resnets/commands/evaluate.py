"""What `keras-resnets evaluate` does."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path

from rich.table import Table

from keras_resnets.commands.output import print_json, print_lines, print_table
from keras_resnets.loading import BEST_WEIGHTS, RUN_CONFIG, Located, locate
from keras_resnets.preparation import Preparation
from keras_resnets.training import data, evaluate, resuming, specs
from keras_resnets.training.config import RunConfig
from keras_resnets.training.data import Examples
from keras_resnets.training.evaluate import percent
from keras_resnets.training.multi_label import THRESHOLD_COLUMNS, MultiLabelEvaluation
from keras_resnets.training.run_folder import RunFolder
from keras_resnets.weights import published


def run_evaluation(
    data_spec: str,
    split: str | None,
    model: str,
    weights: str | None,
    *,
    image_size: int | None,
    crop_pct: float | None,
    batch_size: int,
    flip: bool,
    seed: int | None,
    data_dir: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """`keras-resnets evaluate`."""
    located = locate(model, weights)
    folder = _run_folder(located)
    run = folder and resuming.stored_config(folder)
    trained_here = run is not None and _same_data(run, data_spec)
    if trained_here:
        split = split or "validation"  # Which the run held out, be it a part of the same folder.
        data_dir = data_dir or run.data_dir
    own_seed = run.seed if trained_here else 0
    seed = own_seed if seed is None else seed
    examples = data.load(data_spec, split, data_dir=data_dir, seed=seed, strict=strict)
    reason = _other_images(folder, run, seed) if trained_here and examples.is_drawn else None
    if reason is not None and examples.split == "validation":
        warnings.warn(
            f"The run held out other images, {reason}. It was trained on some of these.",
            stacklevel=2,
        )
    checkpoint = located.published
    if checkpoint is not None:  # Before a model is fetched and built.
        names = published.class_names() if checkpoint.classes == 1000 else None
        evaluate.match_classes(examples, names, checkpoint.classes)
    classifier = located.build_classifier()
    preparation = evaluated_at(classifier.preparation, image_size, crop_pct)
    found = evaluate.evaluate(
        classifier, examples, preparation=preparation, batch_size=batch_size, flip=flip
    )
    what = _described(examples, seed, run, trained_here and reason is None)
    if flip:
        what += "; the mean of each image and its mirror image"
    if as_json:
        values = {"data": examples.name, "split": examples.split, "of": what, **found.as_dict()}
        if checkpoint is not None:
            values["reported"] = {"top1": checkpoint.top1, "top5": checkpoint.top5}
        print_json(values)
        return
    print_table(_by_class(found))
    if isinstance(found, MultiLabelEvaluation):
        print_lines([""])
        print_table(_by_threshold(found))
    print_lines([what, found.summary])
    if checkpoint is not None and checkpoint.top1 is not None:
        where = f"{checkpoint.name} on {checkpoint.dataset} at {checkpoint.results_size}"
        reached = f"top-1 {checkpoint.top1:.2f}%, top-5 {checkpoint.top5:.2f}%"
        print_lines([f"reported for {where}: {reached}"])


def _run_folder(located: Located) -> RunFolder | None:
    """The folder of the run that made a model; None if no run did."""
    folder = located.run
    asked = getattr(located.asked, "path", None)
    if folder is None and asked and os.path.basename(asked) == BEST_WEIGHTS:
        folder = Path(asked).parent
    return RunFolder(folder) if folder and (folder / RUN_CONFIG).is_file() else None


def _other_images(folder: RunFolder, run: RunConfig, seed: int) -> str | None:
    """Why a validation split that is drawn here is not the one that the run held out, if so."""
    if seed != run.seed:
        return f"by its seed {run.seed}, not {seed}"
    parts = [
        data.load(run.data, split, data_dir=run.data_dir, seed=seed)
        for split in ("train", "validation")
    ]
    before, now = resuming.stored_data(folder), data.described(*parts)
    return None if before in (None, now) else f"of other data: then {before}, now {now}"


def _same_data(run: RunConfig, spec: str) -> bool:
    """Whether a data set is that which a run was trained on, by whatever name."""
    names = [str(specs.absolute(name)) for name in (run.data, spec)]
    (kind, here), (other, there) = (name.partition(":")[::2] for name in names)
    if kind != other or kind not in ("folder", "csv"):
        return names[0] == names[1]
    (path, *options), (its_path, *its_options) = (
        name.split("?", 1) if kind == "csv" else [name] for name in (here, there)
    )
    return options == its_options and os.path.realpath(path) == os.path.realpath(its_path)


def _described(examples: Examples, seed: int, run: RunConfig | None, as_the_run: bool) -> str:
    """Which images of the data were taken, in a line."""
    text = f"{examples.split} of {examples.name}"
    if examples.split == "all":
        text = f"all images of {examples.name}, which has no splits"
        if run is not None:
            text += f"; the run was trained on {run.data}"
    elif examples.is_drawn:
        share = "a tenth" if examples.split == "validation" else "nine tenths"
        whose = ", as the run had it" if as_the_run else ""
        text += f": {share} of its images, drawn by the seed {seed}{whose}"
    return text


def _by_class(found: evaluate.Evaluation | MultiLabelEvaluation) -> Table:
    table = Table("class", "images", *found.columns.values(), box=None, pad_edge=False)
    for row in found.by_class():
        if row["images"]:  # A model may know more classes than the data has.
            shares = (row[key] for key in found.columns)
            table.add_row(str(row["class"]), str(row["images"]), *map(percent, shares))
    return table


def _by_threshold(found: MultiLabelEvaluation) -> Table:
    table = Table("threshold", *THRESHOLD_COLUMNS.values(), box=None, pad_edge=False)
    for row in found.by_threshold():
        shares = (percent(row[key]) for key in THRESHOLD_COLUMNS)
        table.add_row(f"{row['threshold']:g}", *shares)
    return table


def evaluated_at(
    preparation: Preparation, image_size: int | None, crop_pct: float | None
) -> Preparation:
    """The size that weights are best evaluated at, unless another is asked for."""
    preparation = preparation.at_test_size()
    if image_size is not None:
        preparation = preparation.at_size(image_size)
    if crop_pct is not None:
        preparation = dataclasses.replace(preparation, crop_pct=crop_pct)
    return preparation
