"""The site's pages say what is true: code runs, commands are there, links lead on.

That the site builds is a test of its own, `make docs`, in which every warning is an error.
"""

import os
import re
from pathlib import Path
from xml.etree import ElementTree

import keras
import numpy as np
import pages
import pytest
from PIL import Image

from tools.docs import drawing, layout, made

ROOT = pages.ROOT
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*sorted(DOCS.rglob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "README.md"]
}
# Whose code another test runs: in a process each, or among what a family's file imports.
ELSEWHERE = {"README.md", "CONTRIBUTING.md"}
# Whose code takes more than a few seconds.
SLOW = {
    "docs/choosing.md",
    "docs/families/clip.md",
    "docs/families/res2net.md",
    "docs/families/resnest.md",
    "docs/ten-minutes.md",
}

RUN = [
    pytest.param(name, marks=[pytest.mark.long] if name in SLOW else [])
    for name, page in PAGES.items()
    if name not in ELSEWHERE and any(not block.reason for block in pages.blocks(page, "python"))
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the code of a page runs: with a photograph in it."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), "uint8")
    Image.fromarray(pixels).save("cat.jpg")
    return tmp_path


@pytest.mark.parametrize("name", RUN)
def test_the_code_of_a_page_runs_from_top_to_bottom(name, folder):
    keras.utils.set_random_seed(0)
    namespace = {"__name__": "page"}
    for block in pages.blocks(PAGES[name], "python"):
        if not block.reason:
            # With lines in front, so that a traceback names the line of the page.
            code = "\n" * (block.line - 1) + block.code
            exec(compile(code, ROOT / name, "exec"), namespace)


@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_take_what_they_are_given(name):
    for command in pages.command_lines(PAGES[name]):
        pages.check(command)


def test_commands_that_are_not_there_are_found():
    """A reading that finds no commands would pass everything."""
    page = "```bash\nA=1 keras-resnets train \\\n  --wrong 1  # why\nmake nothing\n```"
    first, second = pages.command_lines(page)
    assert first == ["keras-resnets", "train", "--wrong", "1"]
    with pytest.raises(Exception, match="No such option"):
        pages.check(first)
    with pytest.raises(AssertionError):
        pages.check(second)
    assert len(pages.command_lines(PAGES["docs/ten-minutes.md"])) >= 10


@pytest.mark.parametrize("name", PAGES)
def test_the_links_of_a_page_lead_to_files(name):
    """As they are read in the repository; the site's build looks at those between its pages."""
    folder = (ROOT / name).parent
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", PAGES[name]):
        if not re.match(r"https?:", target):
            path = Path(os.path.normpath(folder / target))
            assert path.exists() or path == DOCS / "models.html", target


# What the build makes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "block", "boxes"),
    [
        (
            "resnet18",
            "layer2.0",
            ["3x3 conv 128, stride 2", "3x3 conv 128", "1x1 conv 128, stride 2"],
        ),
        (
            "res2net50_26w_4s",
            "layer1.1",
            ["split into 4", *["3x3 conv 26"] * 3, "concatenate to 104"],
        ),
    ],
)
def test_a_drawn_block_shows_every_operation_of_the_model(name, block, boxes):
    _, calls, _ = drawing.block_calls(name, block)
    svg = ElementTree.fromstring(drawing.draw(name, block))
    names = {call.operation.name for call in calls}
    space = "{http://www.w3.org/2000/svg}"
    tooltips = [title.text for title in svg.iter(f"{space}title")]
    shown = [part.split()[0] for text in tooltips for part in text.split(", ")]
    assert sorted(shown) == sorted(names)
    texts = [text.text for text in svg.iter(f"{space}text")]
    for box in boxes:
        assert texts.count(box) == boxes.count(box)
    assert "+" in texts


def test_boxes_side_by_side_keep_apart():
    wanted, widths = [0.0, 1.0, 100.0], [20.0, 40.0, 20.0]
    found = layout.apart(wanted, widths)
    assert found[2] == 100.0
    assert found[1] - found[0] == 30 + layout.GAP
    assert sum(found[:2]) == 1.0, "the two that are in each other's way move by as much each"


def test_a_page_gets_what_it_asks_for():
    assert made.filled("a <!-- made: lowest keras --> b") == "a 3.11 b"
    with pytest.raises(ValueError, match=r"made: must be one of .*variants.* '<!-- made: nothing"):
        made.filled("<!-- made: nothing x -->")
    shown = made.filled("<!-- made: source models.resnest.radix_softmax -->")
    assert shown.count("def ") == 1
    assert "layers.Softmax(axis=1" in shown
    assert "| `ReXNet300` | `rexnet_300` | 34,708,792 | 3,395,980,620 | 224 |" in made.variants(
        "ReXNet"
    )


def test_links_hold_on_the_page_that_includes_a_text():
    text = (
        "[a](../Makefile) [b](grouped.py) [`c`](README.md#d) [e](https://f.g) [h](#i) "
        "![j](results/k.png)"
    )
    folder = ROOT / "benchmarks"
    assert made.relinked(text, folder, DOCS) == (
        "`Makefile` `benchmarks/grouped.py` [`c`](benchmarks.md#d) [e](https://f.g) [h](#i) "
        "![j](results/k.png)"
    )
