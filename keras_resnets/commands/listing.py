"""`keras-resnets list`: architectures or published checkpoints, as lines, JSON or a page."""

from __future__ import annotations

import typer

from keras_resnets import catalog
from keras_resnets.checks import nearest
from keras_resnets.commands.output import print_checkpoints, print_json, print_lines


def run_list(pattern: str, *, pretrained: bool, html: str | None, as_json: bool) -> None:
    """Prints the names that match a pattern, or writes the page of them.

    Raises:
        ValueError: if none matches; the message suggests the nearest.
    """
    names = catalog.list_models(pattern, pretrained=pretrained)
    if not names:
        every = catalog.list_models(pretrained=pretrained)
        hint = nearest(pattern, every, most=3)
        raise ValueError(f"pattern must match a name. {hint}Received: pattern={pattern!r}")
    if html is not None:
        from keras_resnets.commands import models_page

        models = models_page.write_page(html, pattern, pretrained=pretrained)
        typer.echo(f"Wrote {html}: {models} models")
    elif pretrained:
        checkpoints = [catalog.find_tagged(name)[1] for name in names]
        if as_json:
            print_json([checkpoint.as_dict() for checkpoint in checkpoints])
        else:
            print_checkpoints(checkpoints)
    elif as_json:
        print_json(names)
    else:
        print_lines(names)
