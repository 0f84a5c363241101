"""The command line: `keras-resnets list`, `info`, `predict`, `convert`.

What a command prints is for people, or with `--json` for machines. Exit codes: 0 if all went well,
1 for what the library refuses (its message goes to stderr, without a traceback), 2 for wrong usage.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from keras_resnets import catalog, predict
from keras_resnets.weights.pretrained import Pretrained

app = typer.Typer(
    help="Residual image networks in Keras 3.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # A traceback that reaches the user is a bug: show all of it.
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextlib.contextmanager
def errors_to_stderr() -> Iterator[None]:
    """Turns what the library raises into one message and exit code 1. Decorates every command."""
    try:
        yield
    except BrokenPipeError:  # `keras-resnets list | head` has read enough.
        raise
    except (ValueError, TypeError, OSError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def print_lines(lines: Iterable[str], style: str | None = None) -> None:
    """Prints lines whole: a name or an address cut in two by the terminal's width is no use."""
    console = Console(markup=False, highlight=False)
    for line in lines:
        console.print(line, style=style, soft_wrap=True)


def print_checkpoints(checkpoints: Sequence[Pretrained]) -> None:
    """Prints the catalog's table; checkpoints whose licence needs a look are coloured."""
    heading, *lines = catalog.checkpoint_table(checkpoints)
    print_lines([heading], style="bold")
    for checkpoint, line in zip(checkpoints, lines, strict=True):
        print_lines([line], style="yellow" if checkpoint.caution else None)


def print_scores(scores: Sequence[predict.ClassScore]) -> None:
    """Prints the likeliest classes of an image as a table."""
    table = Table("rank", "class", "probability", box=None, pad_edge=False)
    for score in scores:
        name = str(score.index) if score.name is None else f"{score.name} ({score.index})"
        table.add_row(str(score.rank), name, f"{score.probability:.4f}")
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:  # Into a pipe or a file it is as wide as it needs to be.
        console.width = max(console.measure(table).maximum, 1)
    console.print(table)


@app.command("list")
@errors_to_stderr()
def list_models(
    pattern: Annotated[str, typer.Argument(help="With the wildcards * and ?.")] = "*",
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Published checkpoints, architecture.tag.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the architectures, or the published checkpoints with accuracy and licence."""
    names = catalog.list_models(pattern, pretrained=pretrained)
    if not names:
        every = catalog.list_models(pretrained=pretrained)
        near = difflib.get_close_matches(pattern.lower(), every)
        hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(f"pattern must match a name. {hint}Received: pattern={pattern!r}")
    if pretrained:
        checkpoints = [catalog.find_tagged(name)[1] for name in names]
        if as_json:
            print_json([checkpoint.as_dict() for checkpoint in checkpoints])
        else:
            print_checkpoints(checkpoints)
    elif as_json:
        print_json(names)
    else:
        print_lines(names)


@app.command("info")
@errors_to_stderr()
def model_info(
    name: Annotated[str, typer.Argument(help="An architecture, or architecture.tag.")],
    as_json: AsJson = False,
) -> None:
    """Show what a model is, what it costs, and which checkpoints of it are published."""
    info = catalog.model_info(name)
    if as_json:
        print_json(info.as_dict())
        return
    print_lines(info.facts())
    if info.pretrained:
        print_lines([""])
        print_checkpoints(info.pretrained)


@app.command("predict")
@errors_to_stderr()
def predict_images(
    images: Annotated[list[str], typer.Argument(help="Image files.")],
    model: Annotated[
        str,
        typer.Option(help="An architecture, architecture.tag, or hf://owner/repository."),
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            help="A file, a folder, a tag or hf://owner/repository. "
            'Default: the tag of the model, else "imagenet".'
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="How many classes to show.")] = 5,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="OUT.png",
            help="Write what the likeliest class rests on (Grad-CAM); of several images "
            "OUT-1.png, OUT-2.png, ...",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Classify images, prepared as the weights ask for."""
    predictions = predict.predict(images, model, weights, top=top, explanation=explain)
    if as_json:
        print_json([dataclasses.asdict(prediction) for prediction in predictions])
        return
    for prediction in predictions:
        print_lines([prediction.image], style="bold")
        print_scores(prediction.classes)
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
    model: Annotated[str, typer.Option(help="The architecture, or architecture.tag.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
) -> None:
    """Turn a checkpoint into another format; it fits the model exactly or is refused."""
    converted = predict.convert_file(source, target, model, overwrite=overwrite)
    typer.echo(f"Wrote {target}: {converted.name}, {converted.count_params():,} weights")


if __name__ == "__main__":
    app()
