"""What `keras-resnets evaluate` does."""

from __future__ import annotations

import dataclasses

from rich.table import Table

from keras_resnets.checks import require
from keras_resnets.commands.output import print_json, print_lines, print_table
from keras_resnets.loading import locate
from keras_resnets.preparation import Preparation
from keras_resnets.training import data, evaluate
from keras_resnets.training.report import percent


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
    examples = data.load(data_spec, split, data_dir=data_dir, seed=seed, strict=strict)
    located = locate(model, weights)
    published = located.published
    classes = len(examples.class_names)
    require(
        published is None or published.classes == classes,
        f"model must have the classes of the data; {model} has {published and published.classes}",
        classes=classes,
    )
    classifier = located.build_classifier()
    preparation = evaluated_at(classifier.preparation, image_size, crop_pct)
    found = evaluate.evaluate(classifier, examples, preparation=preparation, batch_size=batch_size)
    if as_json:
        values = found.as_dict()
        if published is not None:
            values["reported"] = {"top1": published.top1, "top5": published.top5}
        print_json(values)
        return
    print_table(_by_class(found))
    print_lines([found.summary])
    if published is not None and published.top1 is not None:
        print_lines(
            [
                f"reported for {published.name} on ImageNet at {published.results_size}: "
                f"top-1 {published.top1:.2f}%, top-5 {published.top5:.2f}%"
            ]
        )


def _by_class(found: evaluate.Evaluation) -> Table:
    table = Table("class", "images", "recall", "precision", "top-5", box=None, pad_edge=False)
    for row in found.by_class():
        shares = (row[key] for key in ("recall", "precision", "top5"))
        table.add_row(str(row["class"]), str(row["images"]), *map(percent, shares))
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
