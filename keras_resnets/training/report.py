"""A run's pictures and its `report.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keras_resnets.checks import printable
from keras_resnets.files import atomic_write, write_text
from keras_resnets.markdown import table
from keras_resnets.preparation import Preparation
from keras_resnets.training.callbacks import best_epoch
from keras_resnets.training.evaluate import Evaluation, percent
from keras_resnets.training.multi_label import THRESHOLD_COLUMNS, MultiLabelEvaluation
from keras_resnets.training.run_folder import RunFolder

# Beyond so many classes names and numbers no longer fit into the confusion matrix.
_NAMED_CLASSES = 40
_NUMBERED_CLASSES = 20


def write_report(
    folder: RunFolder,
    config: Mapping[str, Any],
    versions: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    evaluation: Evaluation | MultiLabelEvaluation,
    preparation: Preparation,
) -> None:
    """Writes the curves, the confusion matrix, the worst images, `evaluation.json`, `report.md`.

    Where an image may have several labels, `thresholds.png` stands for the confusion matrix.

    Args:
        folder: of the run.
        config: what the run was told; see `RunConfig.as_dict`.
        versions: of the packages.
        history: what was measured, one mapping an epoch.
        evaluation: of the best weights.
        preparation: how images were prepared for it.
    """
    _save(curves(history), folder, "curves.png")
    if isinstance(evaluation, MultiLabelEvaluation):
        _save(threshold_curves(evaluation), folder, "thresholds.png")
    else:
        _save(confusion_matrix(evaluation), folder, "confusion.png")
    _save(worst_images(evaluation), folder, "worst.png")
    folder.write_json("evaluation.json", evaluation.as_dict())
    text = _report(config, versions, history, evaluation, preparation)
    write_text(folder / "report.md", printable(text))


def curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Loss, accuracy (or mean average precision) and learning rate over the epochs."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in history]
    accuracy = {
        "loss": {"loss": "training", "val_cross_entropy": "validation (cross-entropy)"},
        "accuracy": {"top1": "training", "val_top1": "validation, top-1"},
    }
    if any(row.get("val_top5", 1) < 1 for row in history):
        accuracy["accuracy"]["val_top5"] = "validation, top-5"
    precision = {
        "loss": {"loss": "training", "val_cross_entropy": "validation"},
        "mean average precision": {
            "mean_average_precision": "training",
            "val_mean_average_precision": "validation",
        },
    }
    several = any("val_mean_average_precision" in row for row in history)
    plots = precision if several else accuracy
    plots |= {"learning rate": {"learning_rate": "learning rate"}}
    for panel, (title, lines) in zip(panels, plots.items(), strict=True):
        for key, label in lines.items():
            values = [row.get(key, float("nan")) for row in history]
            # One epoch alone has no line.
            panel.plot(epochs, values, label=label, marker="o" if len(epochs) < 20 else None, ms=3)
        panel.set(title=title, xlabel="epoch")
        panel.grid(alpha=0.3)
        panel.xaxis.get_major_locator().set_params(integer=True)
        if len(lines) > 1:
            panel.legend()
    return figure


def confusion_matrix(evaluation: Evaluation) -> Figure:
    """Share of each class's images (rows) that was taken for each class (columns)."""
    counts = evaluation.confusion
    classes = len(counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(max(4.5, 0.42 * classes + 2), 16)
    figure = Figure(figsize=(side + 1, side), layout="compressed")
    panel = figure.subplots()
    picture = panel.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(picture, ax=panel, shrink=0.8, label="share of the class")
    panel.set(xlabel="predicted", ylabel="true", title=f"{evaluation.top1:.2%} right")
    if classes <= _NAMED_CLASSES:
        names = list(map(printable, evaluation.class_names))
        panel.set_xticks(range(classes), names, rotation=90)
        panel.set_yticks(range(classes), names)
    if classes <= _NUMBERED_CLASSES:
        for row, column in zip(*np.nonzero(counts), strict=True):
            dark = shares[row, column] > 0.5
            panel.text(
                column,
                row,
                counts[row, column],
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "black",
            )
    return figure


def threshold_curves(evaluation: MultiLabelEvaluation) -> Figure:
    """Precision, recall and F1 of all labels over the threshold."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    panel = figure.subplots()
    rows = evaluation.by_threshold()
    for key, label in {"precision": "precision", "recall": "recall", "f1": "F1"}.items():
        values = [float("nan") if row[key] is None else row[key] for row in rows]
        panel.plot([row["threshold"] for row in rows], values, label=label, marker="o", ms=3)
    panel.axvline(evaluation.threshold, color="grey", ls=":", lw=1)
    panel.set(xlabel="threshold", ylabel="share of the labels", xlim=(0, 1), ylim=(0, 1.02))
    panel.grid(alpha=0.3)
    panel.legend()
    return figure


def worst_images(evaluation: Evaluation | MultiLabelEvaluation) -> Figure:
    """The images that the model is farthest from, with what they are and are taken for."""
    columns = 4
    rows = max(-(-len(evaluation.worst) // columns), 1)
    figure = Figure(figsize=(2.6 * columns, 2.9 * rows), layout="constrained")
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for panel in panels:
        panel.set_axis_off()
    names = list(map(printable, evaluation.class_names))
    for panel, image in zip(panels, evaluation.worst, strict=False):
        panel.imshow(image.image)
        panel.set_title(
            image.described(names),
            fontsize=9,
            color="tab:red" if image.is_wrong else "black",
        )
    return figure


def _save(figure: Figure, folder: RunFolder, name: str) -> None:
    with atomic_write(folder / name) as unfinished:
        # Cut to what is drawn: square panels leave the rest of a figure empty.
        FigureCanvasAgg(figure).print_figure(
            unfinished, format="png", bbox_inches="tight", pad_inches=0.15
        )


def _report(
    config: Mapping[str, Any],
    versions: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    evaluation: Evaluation | MultiLabelEvaluation,
    preparation: Preparation,
) -> str:
    seconds = sum(row["seconds"] for row in history)
    facts = {
        "data": config["data"],
        "model": config["model"],
        "weights at the start": config["weights"] or "random",
        "recipe": config["recipe"]["name"],
        "epochs": f"{len(history)} of {config['recipe']['epochs']}",
        "best epoch": best_epoch(history),
        "time in epochs": f"{seconds:.0f} s",
        "seed": config["seed"],
        "images evaluated": evaluation.count,
        "images prepared": preparation,
        **evaluation.facts(),
    }
    several = isinstance(evaluation, MultiLabelEvaluation)
    columns = evaluation.columns
    first = next(iter(columns))
    by_class = [row for row in evaluation.by_class() if row["images"]]
    by_class.sort(key=lambda row: (row[first], row["class"]))
    return "\n".join(
        [
            f"# {config['model']} on {config['data']}",
            "",
            *table(("", ""), facts.items()),
            "",
            "The figures are of the weights in `best.keras` and `best.safetensors`"
            + (", the moving average." if config["recipe"]["ema"] else "."),
            "",
            "![curves](curves.png)",
            "",
            "![thresholds](thresholds.png)" if several else "![confusion matrix](confusion.png)",
            "",
            *(_thresholds(evaluation) if several else []),
            "## Classes, the worst first",
            "",
            *table(
                ("class", "images", *columns.values()),
                [
                    (row["class"], row["images"], *(percent(row[key]) for key in columns))
                    for row in by_class[:50]
                ],
            ),
            "",
            "## Images of the highest cross-entropy"
            if several
            else "## Images whose class got the least probability",
            "",
            "![worst images](worst.png)",
            "",
            "## Versions",
            "",
            *table(("", ""), versions.items()),
            "",
        ]
    )


def _thresholds(evaluation: MultiLabelEvaluation) -> list[str]:
    """The section on thresholds."""
    rows = evaluation.by_threshold()
    return [
        "## Thresholds",
        "",
        "Of all labels together; the last column is a mean over the classes. The model's own "
        f"threshold is {evaluation.threshold:g}.",
        "",
        *table(
            ("threshold", *THRESHOLD_COLUMNS.values()),
            [
                (f"{row['threshold']:g}", *(percent(row[key]) for key in THRESHOLD_COLUMNS))
                for row in rows
            ],
        ),
        "",
    ]
