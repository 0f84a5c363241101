"""What the site's pages say and nobody types: tables, sources, drawings, taken from the code.

A page asks for it in a comment, `<!-- made: variants ResNeSt -->`, and the build puts it there.
Read elsewhere than on the site, such a page has nothing in that place.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import os
import re
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path

from benchmarks import readme
from benchmarks.__main__ import FOLDER
from keras_resnets import catalog
from keras_resnets.commands import models_page
from keras_resnets.training.recipe import Recipe, find_recipe, list_recipes, recipe_source
from tools.docs import drawing

ROOT = Path(__file__).resolve().parents[2]
ASKED = re.compile(r"<!-- made: (\w+)(?: ([^>]*?))? -->")

MAKERS: dict[str, Callable[..., str]] = {}


def maker(function: Callable[..., str]) -> Callable[..., str]:
    MAKERS[function.__name__] = function
    return function


def filled(markdown: str) -> str:
    """A page with everything made that it asks for.

    Raises:
        ValueError: if there is no such maker.
    """

    def make(match: re.Match[str]) -> str:
        name, arguments = match[1], (match[2] or "").split()
        if name not in MAKERS:
            raise ValueError(f"made: must be one of {', '.join(MAKERS)}. Received: {match[0]!r}")
        return MAKERS[name](*arguments)

    return ASKED.sub(make, markdown)


def _table(headings: list[str], rows: list[list[str]], numbers: str = "") -> str:
    """A table; `numbers` has an "r" for each column that stands to the right, or "l"."""
    rules = ["--:" if kind == "r" else "---" for kind in numbers.ljust(len(headings), "l")]
    lines = [headings, rules, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# The package ------------------------------------------------------------------------------------


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@maker
def python_versions() -> str:
    """The Pythons that the package says it works on: "3.11 to 3.13"."""
    found = re.findall(r"Python :: (3\.\d+)", "\n".join(_project()["classifiers"]))
    return f"{found[0]} to {found[-1]}"


@maker
def lowest(package: str) -> str:
    """The oldest release of a package that the package, or one of its extras, allows."""
    project = _project()
    listed = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in (text for group in listed for text in group):
        match = re.match(rf"{package}(?:\[[^]]*\])?>=([\d.]+)", requirement)
        if match:
            return match[1]
    raise ValueError(f"lowest must name a dependency. Received: {package!r}")


# Models ------------------------------------------------------------------------------------------


@maker
def number_of(what: str) -> str:
    """How many `architectures` or `checkpoints` there are."""
    return str(
        len(catalog.list_models(pretrained={"architectures": False, "checkpoints": True}[what]))
    )


@maker
def variants(*family: str) -> str:
    """A family's architectures and what they cost."""
    rows = []
    for builder in catalog.FAMILIES[" ".join(family)].__all__:
        variant = catalog.variants()[builder]
        size = variant.config.image_size
        parameters, macs = models_page.costs()[variant.name, size]
        rows.append(
            [f"`{builder}`", f"`{variant.name}`", f"{parameters:,}", f"{macs:,}", str(size)]
        )
    return _table(["builder", "name", "parameters", "MACs", "at"], rows, "llrrr")


@maker
def checkpoints(*family: str) -> str:
    """A family's published checkpoints."""
    rows = [
        [
            f"`{row.name}`",
            "" if row.top1 is None else f"{row.top1:.2f}",
            str(row.size),
            row.checkpoint.license
            + (f" ({row.checkpoint.caution})" if row.checkpoint.caution else ""),
            "yes" if row.checkpoint.imagenet else "",
        ]
        for row in models_page.rows_of(pretrained=True)
        if row.family == " ".join(family)
    ]
    if not rows:
        return "None is published."
    return _table(["checkpoint", "top-1", "at", "licence", '`"imagenet"`'], rows, "lrrll")


# Source ------------------------------------------------------------------------------------------


def _module(name: str) -> object:
    return importlib.import_module(f"keras_resnets.{name}")


@maker
def source(path: str) -> str:
    """The source of a function, class or constant: `models.resnest.split_attention`."""
    module_name, _, symbol = path.rpartition(".")
    text = inspect.getsource(_module(module_name))
    for node in ast.parse(text).body:
        names = [getattr(node, "name", None)]
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        if symbol in names:
            decorators = getattr(node, "decorator_list", [])
            first = min(node.lineno, *(d.lineno for d in decorators), node.lineno)
            lines = text.splitlines()[first - 1 : node.end_lineno]
            file = f"keras_resnets/{module_name.replace('.', '/')}.py"
            return f'```{{.python title="{file}" .shown}}\n' + "\n".join(lines) + "\n```"
    raise ValueError(f"source must name what a module defines. Received: {path!r}")


@maker
def departures(module: str) -> str:
    """What a module's docstring says of where it departs from its papers."""
    paragraphs = inspect.cleandoc(inspect.getdoc(_module(module)) or "").split("\n\n")
    found = [text for text in paragraphs if re.match("Departures?[ ,:]", text)]
    if not found:
        raise ValueError(f"departures: the docstring must state them. Received: {module!r}")
    return "\n\n".join(_as_list(text) for text in found)


def _as_list(paragraph: str) -> str:
    """A paragraph, of which what is indented becomes items that end in full stops."""
    first, *rest = paragraph.splitlines()
    if not rest or not all(line.startswith("    ") for line in rest):
        return textwrap.dedent(paragraph)
    items = re.split(r"(?<=\.)\s+(?=The |In |A )", " ".join(map(str.strip, rest)))
    return "\n".join([first, "", *(f"- {item}" for item in items)])


@maker
def papers(module: str) -> str:
    """The papers of a module's docstring, as a list with addresses."""
    text = inspect.getdoc(_module(module)) or ""
    match = re.search(r"^Papers?:(.*?)\n\n", text, re.DOTALL | re.MULTILINE)
    if match is None:
        raise ValueError(f"papers: the docstring must name them. Received: {module!r}")
    items = re.split(r"\n(?=    \S)", "\n" + match[1].strip("\n"))
    joined = [" ".join(item.split()) for item in items if item.strip()]
    return "\n".join(f"- {_with_addresses(item)}" for item in joined)


def _with_addresses(text: str) -> str:
    return re.sub(r"arXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


@maker
def block(name: str, path: str) -> str:
    """A block, drawn from the model."""
    caption = f"`{path}` of `{name}`, drawn from the model. Names are those of its layers."
    svg = drawing.draw(name, path)
    return (
        f'<figure class="block" markdown="0">\n{svg}\n<figcaption>'
        + re.sub("`(.*?)`", r"<code>\1</code>", caption)
        + "</figcaption></figure>"
    )


# Recipes -----------------------------------------------------------------------------------------


@maker
def recipes() -> str:
    """All recipes, a line each."""
    rows = []
    for name in list_recipes():
        recipe = find_recipe(name)
        size = str(recipe.image_size)
        if recipe.eval_image_size:
            size += f", evaluated at {recipe.eval_image_size}"
        rows.append(
            [
                f"[`{name}`](#{name.replace('_', '-')})",
                recipe_source(name).splitlines()[0].rstrip("."),
                f"`{recipe.model}`",
                str(recipe.epochs),
                str(recipe.batch_size),
                f"{recipe.optimizer}, {recipe.learning_rate:g} at {recipe.reference_batch_size}",
                size,
            ]
        )
    headings = ["recipe", "what", "trains", "epochs", "batch", "optimizer, rate at batch", "size"]
    return _table(headings, rows, "lllrrll")


@maker
def every_recipe() -> str:
    """Each recipe under a heading of its own: its docstring and its fields."""
    return "\n\n".join(
        f"### {name} {{#{name.replace('_', '-')}}}\n\n{recipe(name)}" for name in list_recipes()
    )


@maker
def recipe(name: str) -> str:
    """A recipe: what its file says, and every field that differs from the usual."""
    text = _with_addresses(textwrap.dedent(recipe_source(name)))
    text = re.sub(
        rf"^Command: (.*?)(?=\n(?:{_HEADINGS})|\n\n)",
        _command,
        text,
        flags=re.DOTALL | re.MULTILINE,
    )
    text = re.sub(rf"^({_HEADINGS})(?=[:, ])", r"\n**\1**", text, flags=re.MULTILINE)
    rows = [
        [f"`{field}`", _shown(value)]
        for field, value in _unusual(find_recipe(name))
        if field not in ("name", "by_model")
    ]
    rows += [
        [f"for `{pattern}`", _shown(changes)] for pattern, changes in find_recipe(name).by_model
    ]
    return f"{text}\n\n{_table(['field', 'value'], rows)}"


_HEADINGS = "Source|Reported there|Reported|Reaches|Departures?"


def _command(match: re.Match[str]) -> str:
    command = " ".join(match[1].split())
    return f"\n```bash\n{command}\n```\n"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"`{key}={item!r}`" for key, item in value.items())
    return f"`{value!r}`"


def _unusual(recipe: Recipe) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for owner in (recipe, recipe.augmentation):
        for field in dataclasses.fields(owner):
            value = getattr(owner, field.name)
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            if value != default and field.name != "augmentation":
                found.append((field.name, value))
    return found


# Other files -------------------------------------------------------------------------------------


@maker
def include(path: str) -> str:
    """A file of Markdown, with links that hold from `docs/`."""
    file = ROOT / path
    return relinked(file.read_text(encoding="utf-8"), file.parent, ROOT / "docs")


@maker
def results() -> str:
    """The benchmarks' tables and plots."""
    return relinked(readme.block(FOLDER), ROOT, ROOT / "docs")


LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
INCLUDED = {  # Files of the repository that pages of the site include.
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}


def relinked(markdown: str, folder: Path, page_folder: Path) -> str:
    """Markdown whose links hold on a page of the site.

    Those into `docs/` stay; those to files that a page includes lead to that page; what is not part
    of the site is named without a link.

    Args:
        markdown: a text.
        folder: what its links are relative to.
        page_folder: the folder of the page on which they are to hold.
    """

    def link(match: re.Match[str]) -> str:
        bang, text, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, anchor = target.partition("#")[::2]
        full = (folder / path).resolve()
        inside = full.relative_to(ROOT).as_posix() if full.is_relative_to(ROOT) else ""
        if inside in INCLUDED:
            full = ROOT / "docs" / INCLUDED[inside]
        elif inside.startswith("benchmarks/results/") and inside.endswith(".png"):
            full = ROOT / "docs" / inside.removeprefix("benchmarks/")
        elif not inside.startswith("docs/"):
            return text if text.startswith("`") else f"`{inside or text}`"
        new = Path(os.path.relpath(full, page_folder)).as_posix()
        return f"{bang}[{text}]({new}{'#' + anchor if anchor else ''})"

    return LINK.sub(link, markdown)
