"""What `keras-resnets recipes` does."""

from __future__ import annotations

from keras_resnets.commands.output import print_json, print_lines
from keras_resnets.training import recipe as recipes


def run_recipes(name: str | None, *, as_json: bool) -> None:
    """`keras-resnets recipes`."""
    found = {key: recipes.find_recipe(key) for key in ([name] if name else recipes.list_recipes())}
    if as_json:
        print_json({key: recipe.as_dict() for key, recipe in found.items()})
    elif name is None:
        print_lines(f"{key:<16}{recipes.recipe_source(key).splitlines()[0]}" for key in found)
    else:
        print_lines([recipes.recipe_source(name), ""])
        print_lines(f"{key:<24}{value}" for key, value in found[name].as_dict().items())
