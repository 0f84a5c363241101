"""Markdown of what is known: tables and code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any


def table(heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """The lines of a table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return ["| " + " | ".join(escaped(str(cell)) for cell in line) + " |" for line in lines]


def escaped(text: str) -> str:
    """A text that breaks no table, whatever a class is called."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def code(*lines: str, language: str = "python") -> list[str]:
    """The lines of a block of code."""
    return [f"```{language}", *lines, "```"]
