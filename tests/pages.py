"""Pages of Markdown: what stands in their code blocks, and whether it would work."""

import dataclasses
import re
import shlex
import tomllib
from pathlib import Path

import typer

from keras_resnets.commands.app import app

ROOT = Path(__file__).resolve().parents[1]
# In front of a block that no test can run; the reason stands behind the colon.
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*\Z")
_BLOCK = re.compile(r"^( *)```\{?\.?(\w+)[^\n]*\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        language: that its fence names.
        code: its text.
        line: number of its first line on the page.
        reason: why no test runs it; empty where one does.
    """

    language: str
    code: str
    line: int
    reason: str = ""


def blocks(page: str, *languages: str) -> list[Block]:
    """A page's blocks of code, in order; of these languages, or all."""
    found = []
    for match in _BLOCK.finditer(page):
        indent, language, code = match.groups()
        code = re.sub(rf"^{indent}", "", code, flags=re.MULTILINE)
        reason = NOT_RUN.search(page[: match.start()])
        line = page[: match.start()].count("\n") + 2
        if not languages or language in languages:
            found.append(Block(language, code, line, reason[1] if reason else ""))
    return found


def command_lines(page: str) -> list[list[str]]:
    """The commands of a page's blocks for shells, split as a shell splits them.

    Variables in front (`KERAS_BACKEND=jax`), `srun`, and `exec` are left out.
    """
    found = []
    for block in blocks(page, "bash", "console", "yaml"):
        for line in block.code.replace("\\\n", " ").splitlines():
            line = re.sub(r"^(\s|srun |exec |[A-Z_]+=\S* )*", "", line)
            line = re.sub(r"(?<!\S)\$[A-Z]+(?!\S)", "", line)  # Nothing, or further options.
            line = re.sub(r"\$[A-Z_]+", "1", line)
            if re.match(r"(keras-resnets|pip|make|python)\b", line):
                found.append(shlex.split(line, comments=True))
    return found


def check(command: list[str]) -> None:
    """Raises or fails if a command of this project is not there, or lacks an option it is given."""
    program, *arguments = command
    if program == "keras-resnets" and arguments[:1] not in (["--version"], ["--help"]):
        name, *rest = arguments
        known = typer.main.get_command(app).commands
        assert name in known, command
        if "--help" not in rest:
            known[name].make_context(name, rest)  # Raises for an option that is not there.
    elif program == "pip":
        for extras in re.findall(r"(?:\.|keras-resnets)\[([\w,-]+)\]", " ".join(arguments)):
            assert set(extras.split(",")) <= set(project()["optional-dependencies"]), command
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text()
        for target in (text for text in arguments if "=" not in text):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), command
    elif program == "python" and arguments[:1] != ["-c"]:
        path = ROOT / arguments[0]
        if arguments[0] == "-m":
            path = ROOT / arguments[1].replace(".", "/")
            path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        assert path.is_file(), command
        given = {text.partition("=")[0] for text in arguments if text.startswith("--")}
        assert given <= set(re.findall(r'"(--[\w-]+)"', path.read_text())) | {"--help"}, command


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
