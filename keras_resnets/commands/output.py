"""What commands print: whole lines and tables for people, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

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
