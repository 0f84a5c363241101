"""The README says what is true: its code runs and its table is the code's."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import keras_resnets as kr
from keras_resnets.commands.app import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.long
def test_the_code_in_the_readme_runs_as_it_stands(tmp_path):
    snippets = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert snippets
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for snippet in snippets:
        done = subprocess.run(
            [sys.executable, "-c", snippet],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


def test_the_table_of_variants_is_that_of_the_code():
    spec = importlib.util.spec_from_file_location("table", ROOT / "tools" / "variant_table.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.with_table(README) == README, "run: python tools/variant_table.py"
    listed = re.findall(r"^\| `\w+` \| `(\w+)` \|", README, flags=re.MULTILINE)
    assert sorted(listed) == kr.list_models()
    assert f"{len(listed)} variants" in README


def test_the_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_commands_of_the_readme_take_what_they_are_given():
    commands = typer.main.get_command(app).commands
    lines = re.findall(r"^keras-resnets (.+)", README, flags=re.MULTILINE)
    assert lines
    for line in lines:
        name, *arguments = shlex.split(line, comments=True)
        commands[name].make_context(name, arguments)  # Raises for an option that is not there.


def test_the_scripts_of_the_readme_take_what_they_are_given():
    lines = re.findall(r"\bpython (examples/\w+\.py)([^\n`]*)", README)
    assert lines
    for script, rest in lines:
        known = re.findall(r'"(--[\w-]+)"', (ROOT / script).read_text())
        assert set(re.findall(r"--[\w-]+", rest)) <= set(known), script
