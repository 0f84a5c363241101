"""The command line: `keras-resnets list`, `info`, `predict`, `convert`, `export`, `train`, ...

What a command prints is for people, or with `--json` for machines. Exit codes: 0 if all went well,
1 for what the library refuses (its message goes to stderr, without a traceback), 2 for wrong usage.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Annotated, Any

import typer

from keras_resnets import __version__
from keras_resnets.commands.arguments import AsJson, Model, OfWeights, Threshold, Weights
from keras_resnets.commands.errors import errors_to_stderr
from keras_resnets.commands.options import expanded, with_run_options
from keras_resnets.commands.output import (
    print_checkpoints,
    print_json,
    print_lines,
    print_scores,
)
from keras_resnets.training.specs import EVERY_FORM

# The commands import what they need, so that --help needs neither Keras nor a backend.

app = typer.Typer(
    help="Residual image networks in Keras 3.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # A traceback that reaches the user is a bug: show all of it.
)


def main() -> None:
    """The command `keras-resnets`."""
    # TensorFlow's own lines would stand in front of every answer.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"keras-resnets {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    pass


@app.command("list")
@errors_to_stderr()
def list_models(
    pattern: Annotated[str, typer.Argument(help="With the wildcards * and ?.")] = "*",
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Published checkpoints, architecture.tag.")
    ] = False,
    html: Annotated[
        str | None,
        typer.Option(
            metavar="OUT.html",
            callback=expanded,
            help="Write a page with a table to sort and the accuracies by cost.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the architectures, or the published checkpoints with accuracy and licence."""
    from keras_resnets.commands.listing import run_list

    run_list(pattern, pretrained=pretrained, html=html, as_json=as_json)


@app.command("info")
@errors_to_stderr()
def model_info(
    name: Annotated[str, typer.Argument(help="An architecture, or architecture.tag.")],
    as_json: AsJson = False,
) -> None:
    """Show what a model is, what it costs, and which checkpoints of it are published."""
    from keras_resnets import catalog

    info = catalog.model_info(name)
    if as_json:
        print_json(info.as_dict())
        return
    print_lines(info.facts())
    if info.pretrained:
        print_lines([""])
        print_checkpoints(info.pretrained)


@app.command("card")
@errors_to_stderr()
def print_card(name: OfWeights) -> None:
    """Print the model card of weights, as Markdown: what is known of them, and how to use them."""
    from keras_resnets.sharing import card, pretrained

    typer.echo(card.text_of(pretrained.about_named(name)), nl=False)


@app.command("predict")
@errors_to_stderr()
def predict_images(
    images: Annotated[list[str], typer.Argument(help="Image files.")],
    model: Model,
    weights: Weights = None,
    top: Annotated[
        int | None,
        typer.Option(
            help="How many classes to show. Default: 5; of a model of several labels an image all "
            "that reach its threshold."
        ),
    ] = None,
    threshold: Threshold = None,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="OUT.png",
            callback=expanded,
            help="Write what the likeliest class rests on (Grad-CAM); of several images "
            "OUT-1.png, OUT-2.png, ...",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Classify images, prepared as the weights ask for."""
    from keras_resnets.commands import predict

    predictions = predict.predict(
        images, model, weights, top=top, threshold=threshold, explanation=explain
    )
    if as_json:
        print_json([dataclasses.asdict(prediction) for prediction in predictions])
        return
    for prediction in predictions:
        print_lines([prediction.image], style="bold")
        if prediction.classes:
            print_scores(prediction.classes)
        else:
            print_lines([f"no label reaches {prediction.threshold:g}"])
        if prediction.explanation is not None:
            print_lines([f"explained in {prediction.explanation}"])


@app.command("convert")
@errors_to_stderr()
def convert_weights(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="A file, a folder or hf://owner/repository.")
    ],
    target: Annotated[
        str, typer.Argument(metavar="OUT", help="Ends in .safetensors, .weights.h5 or .keras.")
    ],
    model: Annotated[
        str | None,
        typer.Option(help="The architecture, or architecture.tag. Default: what IN states."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
) -> None:
    """Turn a checkpoint into another format; it fits the model exactly or is refused."""
    from keras_resnets.commands.convert import convert_file

    converted = convert_file(source, target, model, overwrite=overwrite)
    typer.echo(f"Wrote {target}: {converted.name}, {converted.count_params():,} weights")


@app.command("export")
@errors_to_stderr()
def export_model(
    out: Annotated[
        str,
        typer.Argument(metavar="OUT", help="A folder, or a file ending in .tflite, .onnx or .xml."),
    ],
    model: Model,
    weights: Weights = None,
    format: Annotated[
        str | None,
        typer.Option(help="saved_model, litert, onnx or openvino. Default: by the end of OUT."),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="float32, float16, bfloat16, int8 or int8-dynamic.")
    ] = "float32",
    fold: Annotated[
        bool, typer.Option("--fold/--no-fold", help="Fold batch norms into convolutions.")
    ] = True,
    batch: Annotated[
        str | None, typer.Option(help='Images a call, or "dynamic". Default: litert 1.')
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(help='Side in pixels, HEIGHTxWIDTH or "dynamic".')
    ] = None,
    include_preprocessing: Annotated[
        bool, typer.Option("--include-preprocessing", help="Take uint8 RGB and normalise it.")
    ] = False,
    activation: Annotated[
        str, typer.Option(help="Of the output: softmax, linear, ... or unchanged.")
    ] = "unchanged",
    threshold: Threshold = None,
    signatures: Annotated[
        str, typer.Option(help="Of a SavedModel: serve and any of features,serve_bytes.")
    ] = "serve",
    data: Annotated[
        str | None,
        typer.Option(help=f"What int8 is calibrated with: {EVERY_FORM}."),
    ] = None,
    keep_float: Annotated[
        list[str] | None, typer.Option(help="A layer that int8 leaves alone. Again and again.")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="Largest difference, relative to the largest output.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a model for TensorFlow, LiteRT, ONNX Runtime or OpenVINO, and check the file."""
    from keras_resnets.commands.export import run_export

    report = run_export(
        model,
        weights,
        out,
        format=format,
        precision=precision,
        fold=fold,
        batch=batch,
        image_size=image_size,
        include_preprocessing=include_preprocessing,
        activation=activation,
        threshold=threshold,
        signatures=signatures.split(","),
        data=data,
        keep_float=keep_float or None,
        tolerance=tolerance,
        overwrite=overwrite,
    )
    if as_json:
        print_json(report.as_dict())
    else:
        typer.echo(str(report))


# Training: TensorFlow, which reads the data, is imported by these commands only -------------------

DataSpec = Annotated[
    str,
    typer.Option(
        help=f"{EVERY_FORM}; a folder has a subfolder for each class, a table the columns path and "
        "label, or labels separated by |."
    ),
]
DataDir = Annotated[
    str | None, typer.Option(help="Where prepared tfds data sets are.", callback=expanded)
]
StrictData = Annotated[
    bool, typer.Option("--strict-data", help="Stop at an image that cannot be read.")
]
BatchSize = Annotated[int | None, typer.Option(help="Images a step, over all devices.")]
ImageSize = Annotated[int | None, typer.Option(help="Side of the images in pixels.")]


@app.command("train")
@errors_to_stderr()
@with_run_options
def train_model(
    out: Annotated[str, typer.Option(help="Folder of the run, new or empty.", callback=expanded)],
    data: Annotated[
        str | None,
        typer.Option(help=f"{EVERY_FORM}."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="An architecture or architecture.tag. Default: the recipe's.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help='What to start from: a tag, a file, "imagenet" or "none".'),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="See `keras-resnets recipes`. Default: quick.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Change a field of the recipe, its augmentation or the architecture: "
            "--set mixup=0.2 --set depths=1,1,1. Again and again.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run in --out: alone, or with the whole command again.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and stop.")
    ] = False,
    devices: Annotated[
        int | None, typer.Option(help="Of this machine. Default: all accelerators.")
    ] = None,
    coordinator: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Of the first of several processes.")
    ] = None,
    num_processes: Annotated[
        int | None, typer.Option(help="How many processes train together.")
    ] = None,
    process_id: Annotated[int | None, typer.Option(help="Which one this is, from 0.")] = None,
    start_timeout: Annotated[
        float, typer.Option(help="Seconds to wait for processes that have not started yet.")
    ] = 300,
    **options: Any,
) -> None:
    """Train a model on your images, by a recipe; see also `keras-resnets recipes`."""
    from keras_resnets.commands.train import run_training
    from keras_resnets.training.config import parse_changes

    run_training(
        out,
        data=data,
        model=model,
        weights=weights,
        recipe=recipe,
        changes=parse_changes(changes or []),
        options={key: value for key, value in options.items() if value is not None},
        resume=resume,
        dry_run=dry_run,
        devices=devices,
        processes=dict(
            coordinator=coordinator,
            num_processes=num_processes,
            process_id=process_id,
            start_timeout=start_timeout,
        ),
    )


@app.command("evaluate")
@errors_to_stderr()
def evaluate_model(
    data: DataSpec,
    model: Model,
    weights: Weights = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="train, validation, test, or all of a data set without splits. Default: the "
            "images that the run of --model held out, where it was trained on this data; else "
            "validation or test images if the data comes with such, else all."
        ),
    ] = None,
    image_size: ImageSize = None,
    crop_pct: Annotated[
        float | None, typer.Option(help="Side of the central crop, of the shorter side.")
    ] = None,
    batch_size: BatchSize = 64,
    flip: Annotated[
        bool,
        typer.Option("--flip", help="Average over each image and its mirror image."),
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(help="Of a split that is drawn from the training images. Default: the run's."),
    ] = None,
    data_dir: DataDir = None,
    strict_data: StrictData = False,
    as_json: AsJson = False,
) -> None:
    """Count how often a model is right, by class too."""
    from keras_resnets.commands.evaluate import run_evaluation

    run_evaluation(
        data,
        split,
        model,
        weights,
        image_size=image_size,
        crop_pct=crop_pct,
        batch_size=batch_size,
        flip=flip,
        seed=seed,
        data_dir=data_dir,
        strict=strict_data,
        as_json=as_json,
    )


@app.command("bench-data")
@errors_to_stderr()
def bench_data(
    data: DataSpec,
    recipe: Annotated[str, typer.Option(help="Whose augmentation to measure.")] = "resnet",
    batch_size: BatchSize = None,
    image_size: ImageSize = None,
    seconds: Annotated[float, typer.Option(help="For how long to count.")] = 10,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Measure how many images a second a recipe's input pipeline delivers."""
    from keras_resnets.commands.bench_data import run_bench_data

    run_bench_data(
        data,
        recipe,
        batch_size=batch_size,
        image_size=image_size,
        seconds=seconds,
        data_dir=data_dir,
        as_json=as_json,
    )


@app.command("recipes")
@errors_to_stderr()
def list_recipes(
    name: Annotated[
        str | None, typer.Argument(help="Show this one: its source and its fields.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the training recipes, or show one."""
    from keras_resnets.commands.recipes import run_recipes

    run_recipes(name, as_json=as_json)
