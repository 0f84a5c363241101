"""Writes constraints.txt and constraints-oldest.txt: one release of every package.

    python tools/pin_requirements.py              # pins what is new, keeps what is pinned
    python tools/pin_requirements.py --upgrade    # takes the newest releases that go together

Nothing is installed: pip only says what it would install, into an empty environment of the Python
that runs this. The tests decide whether newer releases can stay.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
NEWEST, OLDEST = ROOT / "constraints.txt", ROOT / "constraints-oldest.txt"
HEADINGS = {
    NEWEST: """\
# The releases that the tests, the demo and the benchmarks run on: every install of the Makefile is
# held to them. Written by tools/pin_requirements.py, for Linux and Python 3.11.
""",
    OLDEST: """\
# The oldest releases that pyproject.toml allows, together, for `make test-oldest`; the others are
# what goes with them. Written by tools/pin_requirements.py, for Linux and Python 3.11.
""",
}

# Its packages go with the TensorFlow that is pinned, and nothing of the Makefile needs them.
WITHOUT_PINS = {"gpu"}

# Whose lower bounds are in OLDEST, and what its tests need besides. JAX and torch are tried by
# themselves: an old one of each with an old TensorFlow is no environment that anybody has.
OLDEST_EXTRAS = ("export", "serve", "tensorflow-cpu", "training")
OLDEST_TOOLS = ("hypothesis", "pytest", "pytest-xdist")


def bare_packages() -> list[str]:
    """What the Makefile installs without dependencies: the variables whose name ends in _BARE."""
    values = re.findall(r"^\w+_BARE := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return " ".join(values).split()


def resolved(*arguments: str) -> dict[str, str]:
    """The releases that pip would install, by name."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
    command += ["--quiet", "--report", "-", *arguments]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    found = {}
    for package in report["install"]:
        # Of "2.13.0+cpu", the build is the machine's choice.
        version = package["metadata"]["version"].partition("+")[0]
        found[package["metadata"]["name"].lower().replace("_", "-")] = version
    return found


def oldest_releases(project: dict) -> list[str]:
    """A constraint for every lower bound of the package and of `OLDEST_EXTRAS`."""
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for name in OLDEST_EXTRAS for text in extras[name])]
    requirements = [Requirement(text) for text in texts]
    return sorted(
        f"{requirement.name}=={bound.version}"
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
        for bound in requirement.specifier
        if bound.operator == ">="
    )


def write(path: Path, pins: dict[str, str]) -> None:
    lines = [f"{name}=={version}\n" for name, version in sorted(pins.items())]
    path.write_text(HEADINGS[path] + "".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--upgrade", action="store_true", help="Let go of the present pins.")
    upgrade = parser.parse_args().upgrade
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    keep = [] if upgrade else ["-c", str(NEWEST)]
    extras = ",".join(sorted(set(project["optional-dependencies"]) - WITHOUT_PINS))
    newest = resolved(*keep, f"{ROOT}[{extras}]") | resolved(*keep, "--no-deps", *bare_packages())
    del newest[project["name"]]
    write(NEWEST, newest)

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(oldest_releases(project)))
        file.flush()
        tools = [f"{name}=={newest[name]}" for name in OLDEST_TOOLS]
        package = f"{ROOT}[{','.join(OLDEST_EXTRAS)}]"
        oldest = resolved("-c", file.name, package, *tools)
    del oldest[project["name"]]
    write(OLDEST, oldest)


if __name__ == "__main__":
    main()
