"""The options of `keras-resnets train` that are fields of its configuration.

A field of `RunConfig` is an option: its name, type and default are the field's, its help the text
of the class' docstring. So a new option is written once, in `training/config.py`, which needs no
Keras, so that `--help` does not either.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any

import typer

from keras_resnets.training.config import RunConfig, resolve
from keras_resnets.training.recipe import Recipe

# The fields of a recipe that have an option of their own; `--set` changes any.
OF_THE_RECIPE = ("epochs", "batch_size", "learning_rate", "layer_decay", "image_size", "loss")


def with_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command with `**options` the options of a run in their place."""
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    command.__signature__ = signature.replace(parameters=[*own, *_run_options()])
    return command


def _run_options() -> list[inspect.Parameter]:
    arguments = inspect.signature(resolve).parameters  # The command has them by itself.
    fields = [field for field in dataclasses.fields(RunConfig) if field.name not in arguments]
    return [
        *(_option(Recipe, name, "the recipe's") for name in OF_THE_RECIPE),
        *(_option(RunConfig, field.name, field.default) for field in fields),
    ]


def _option(owner: type, name: str, default: Any) -> inspect.Parameter:
    """An option that is None unless it is given, so that `--resume` sees what is."""
    hint = typing.get_type_hints(owner)[name]
    kind = _plain(hint)
    shown = "" if default is None or default is False else f" Default: {default}."
    words = str in typing.get_args(hint) and kind is int  # Such as "auto" in place of a number.
    parsing = dict(parser=_number_or_word, metavar="INTEGER|auto") if words else {}
    option = typer.Option(help=help_of(owner)[name] + shown, **parsing)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _number_or_word(text: str) -> int | str:
    return int(text) if text.removeprefix("-").isdigit() else text


def _plain(kind: Any) -> type:
    """The type of a field that can be written on a command line: of `int | None` it is int."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return next(kind for kind in kinds if kind in (str, int, float, bool))


def help_of(owner: type) -> dict[str, str]:
    """What a dataclass' docstring says of each field, as sentences."""
    section = inspect.getdoc(owner).partition("\nAttributes:\n")[2]
    section = re.split(r"\n(?=\w)", section)[0]
    entries = re.findall(r"^    (\w+): ((?:.|\n {8})+)", section, re.MULTILINE)
    return {name: _sentence(" ".join(text.split())) for name, text in entries}


def _sentence(text: str) -> str:
    text = text.replace("`", "").removesuffix(".")
    return f"{text[:1].upper()}{text[1:]}."


def expanded(path: str | None) -> str | None:
    """A path with the home folder in the place of `~`; no shell sees to that after a `=`."""
    return path and os.path.expanduser(path)
