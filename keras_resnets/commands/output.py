"""What commands print: whole lines and tables for people, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:  # Printing needs neither.
    from keras_resnets.commands.predict import ClassScore
    from keras_resnets.weights.published import Pretrained

_WIDEST = 10_000  # Columns that no table has.


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def print_lines(lines: Iterable[str], style: str | None = None) -> None:
    """Prints lines whole: a name or an address cut in two by the terminal's width is no use."""
    console = Console(markup=False, highlight=False)
    for line in lines:
        console.print(line, style=style, soft_wrap=True)


def print_table(table: Table) -> None:
    """Prints a table as wide as it needs to be: a terminal wraps lines, and no number is cut."""
    console = Console(markup=False, highlight=False)
    console.width = _WIDEST
    needed = max(console.measure(table).maximum, 1)
    console.width = needed
    console.print(table, soft_wrap=True)


def print_checkpoints(checkpoints: Sequence[Pretrained]) -> None:
    """Prints the catalog's table; checkpoints whose licence needs a look are coloured."""
    from keras_resnets import catalog

    heading, *lines = catalog.checkpoint_table(checkpoints)
    print_lines([heading], style="bold")
    for checkpoint, line in zip(checkpoints, lines, strict=True):
        print_lines([line], style="yellow" if checkpoint.caution else None)


def print_scores(scores: Sequence[ClassScore]) -> None:
    """Prints the likeliest classes of an image, or all its labels, as a table."""
    table = Table("rank", "class", "probability", box=None, pad_edge=False)
    for score in scores:
        name = str(score.index) if score.name is None else f"{score.name} ({score.index})"
        table.add_row(str(score.rank), name, f"{score.probability:.4f}")
    print_table(table)
