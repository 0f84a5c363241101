"""What an install brings, by pyproject.toml and the constraints alone; nothing is installed.

`make test-wheel` installs, and asks pip what the dependencies of the dependencies bring.
"""

import ast
import fnmatch
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import keras_resnets as kr

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "keras_resnets"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]

# What the extras of backends bring, and what no other may.
BACKENDS = {
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-gpu",
    "tf-nightly",
    "jax",
    "jaxlib",
    "torch",
}
BACKEND_EXTRAS = {"tensorflow", "tensorflow-cpu", "gpu", "jax", "torch", "timm"}


def name_of(requirement: Requirement) -> str:
    return canonicalize_name(requirement.name)


def direct(texts: list[str]) -> list[Requirement]:
    return [Requirement(text) for text in texts]


def reached(extra: str, seen: frozenset[str] = frozenset()) -> list[Requirement]:
    """The requirements of an extra, those of our own extras that it names among them."""
    assert extra in EXTRAS, extra
    found = []
    for requirement in direct(EXTRAS[extra]):
        if name_of(requirement) != PROJECT["name"]:
            found.append(requirement)
            continue
        for other in requirement.extras - seen:
            found += reached(other, seen | {extra})
    return found


ALL = {"dependencies": direct(PROJECT["dependencies"]), **{e: reached(e) for e in EXTRAS}}


def pins(file: str) -> dict[str, str]:
    """The releases in a file of constraints, which has one of each package."""
    found = {}
    for line in (ROOT / file).read_text().splitlines():
        if line.startswith("#"):
            continue
        name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups()
        assert canonicalize_name(name) not in found, name
        found[canonicalize_name(name)] = version
    return found


# Backends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", ["dependencies", *sorted(set(EXTRAS) - BACKEND_EXTRAS)])
def test_what_is_no_backend_brings_none(extra):
    """pip would put it over another build of the same backend, or beside it."""
    assert {name_of(requirement) for requirement in ALL[extra]} & BACKENDS == set()


def test_the_extras_of_backends_bring_their_own_alone():
    """With the test above: a backend in the wrong extra, or one that is not looked for, is seen."""
    brought = {extra: {name_of(r) for r in ALL[extra]} for extra in BACKEND_EXTRAS}
    assert brought == {
        "tensorflow": {"tensorflow"},
        "tensorflow-cpu": {"tensorflow", "tensorflow-cpu"},
        "gpu": {"tensorflow"},
        "jax": {"jax"},
        "torch": {"torch"},
        "timm": {"torch", "pyyaml"},
    }
    assert [requirement.extras for requirement in ALL["gpu"]] == [{"and-cuda"}]


@pytest.mark.parametrize(
    ("system", "machine", "distribution"),
    [
        ("linux", "x86_64", "tensorflow-cpu"),
        ("win32", "AMD64", "tensorflow-cpu"),
        ("linux", "aarch64", "tensorflow"),
        ("darwin", "arm64", "tensorflow"),
        ("darwin", "x86_64", "tensorflow"),
    ],
)
def test_every_machine_has_one_small_tensorflow(system, machine, distribution):
    environment = {"sys_platform": system, "platform_machine": machine}
    found = [r.name for r in ALL["tensorflow-cpu"] if r.marker.evaluate(environment)]
    assert found == [distribution]


# Ranges and pins ---------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", ALL)
def test_extras_have_ranges_and_the_constraints_a_release_of_each(extra):
    constraints = pins("constraints.txt")
    assert ALL[extra]
    for requirement in ALL[extra]:
        operators = [specifier.operator for specifier in requirement.specifier]
        assert operators.count(">=") == 1, requirement
        assert not {"==", "===", "~="} & set(operators), requirement
        assert constraints[name_of(requirement)] in requirement.specifier, requirement


def test_the_distributions_of_tensorflow_are_pinned_to_one_release():
    constraints = pins("constraints.txt")
    assert constraints["tensorflow"] == constraints["tensorflow-cpu"]


@pytest.mark.parametrize("extra", ["dependencies", "export", "serve", "tensorflow-cpu", "training"])
def test_the_oldest_release_that_is_allowed_is_the_one_that_is_tried(extra):
    oldest = pins("constraints-oldest.txt")
    for requirement in ALL[extra]:
        if requirement.marker is None or requirement.marker.evaluate(
            {"sys_platform": "linux", "platform_machine": "x86_64"}
        ):
            (bound,) = (s.version for s in requirement.specifier if s.operator == ">=")
            tried = oldest[name_of(requirement)]
            assert tried in SpecifierSet(f"=={bound}"), f"{requirement}: {tried} is tried"


def test_the_tools_of_the_oldest_tests_are_those_of_the_others():
    oldest, newest = pins("constraints-oldest.txt"), pins("constraints.txt")
    for name in ("hypothesis", "pytest", "pytest-xdist"):
        assert oldest[name] == newest[name]


def test_what_the_makefile_installs_is_an_extra_or_pinned():
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r'-e "\.\[([^]]*)\]"', makefile)
    assert len(named) >= 6
    default = re.search(r"^TENSORFLOW \?= (.+)$", makefile, re.MULTILINE)[1]
    for extras in named:
        assert set(extras.replace("$(TENSORFLOW)", default).split(",")) <= set(EXTRAS)
    bare = " ".join(re.findall(r"^\w+_BARE := (.+)$", makefile, re.MULTILINE)).split()
    assert {"timm", "torchvision"} < set(bare) <= set(pins("constraints.txt"))
    # Whatever pip installs there is held to one of the two files.
    installs = re.findall(r"/pip install (?!.*--upgrade pip)(.*)$", makefile, re.MULTILINE)
    assert installs
    assert [
        line for line in installs if not re.search(r"-c constraints(-oldest)?\.txt", line)
    ] == []


def test_the_pythons_that_are_declared_are_those_that_may_install():
    heading = "Programming Language :: Python :: 3."
    declared = {
        text.removeprefix(heading) for text in PROJECT["classifiers"] if text.startswith(heading)
    }
    assert declared == {"11", "12", "13"}
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert {str(minor) for minor in range(8, 14) if f"3.{minor}" in allowed} == declared


# Files -------------------------------------------------------------------------------------------


def test_every_folder_of_modules_is_a_package_that_is_found():
    find = PYPROJECT["tool"]["setuptools"]["packages"]["find"]
    assert find["namespaces"] is False
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert PACKAGE in folders
    assert len(folders) > 1
    for folder in folders:
        assert (folder / "__init__.py").is_file(), folder
        assert (folder.parent / "__init__.py").is_file() or folder == PACKAGE, folder
        name = ".".join(folder.relative_to(ROOT).parts)
        assert any(fnmatch.fnmatchcase(name, pattern) for pattern in find["include"]), name
    # Nothing else here is taken along: the folders beside it are no part of the package.
    others = [path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent != PACKAGE]
    assert not [o for o in others if any(fnmatch.fnmatchcase(o, p) for p in find["include"])]


def test_every_file_that_is_no_module_is_package_data():
    data = PYPROJECT["tool"]["setuptools"]["package-data"]
    others = [
        path
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    ]
    assert PACKAGE / "py.typed" in others
    for path in others:
        patterns = data.get(".".join(path.parent.relative_to(ROOT).parts), [])
        assert any(fnmatch.fnmatchcase(path.name, pattern) for pattern in patterns), path
    for package, patterns in data.items():
        folder = ROOT.joinpath(*package.split("."))
        assert [pattern for pattern in patterns if not list(folder.glob(pattern))] == []


# What a type checker sees ------------------------------------------------------------------------


def visible(nodes: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module that a type checker reads."""
    for node in nodes:
        if not isinstance(node, ast.If):
            yield node
        elif ast.unparse(node.test) != "not TYPE_CHECKING":
            yield from visible(node.body)


def names_for_a_checker(path: Path) -> set[str]:
    """What a module of a package with py.typed offers: `import name as name`, the names it assigns,
    and those of a starred module, unless `__all__` there is computed, which hides all of them."""
    found = set()
    for node in visible(ast.parse(path.read_text()).body):
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            found |= names_for_a_checker(ROOT.joinpath(*node.module.split(".")).with_suffix(".py"))
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names if alias.name == alias.asname}
        elif isinstance(node, ast.Assign):
            targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if "__all__" in targets and not isinstance(node.value, (ast.List, ast.Tuple)):
                return set()
            found |= set(targets)
    return found


def test_no_public_name_is_hidden_from_a_type_checker():
    """tests/typing_surface.py has some of them; these are all."""
    assert {"ResNet50", "create_model", "layers"} < set(kr.__all__)
    assert set(kr.__all__) - names_for_a_checker(PACKAGE / "__init__.py") == set()


def public_functions() -> dict[str, object]:
    own = {name: value for name, value in vars(kr).items() if inspect.isfunction(value)}
    layers = {name: getattr(kr.layers, name) for name in kr.layers.__all__}
    return {
        **own,
        "Variant.__call__": kr.Variant.__call__,
        **{f"{n}.__init__": c.__init__ for n, c in layers.items() if "__init__" in vars(c)},
    }


@pytest.mark.parametrize("name", public_functions())
def test_public_functions_have_types_for_all_that_they_take_and_return(name):
    function = public_functions()[name]
    parameters = inspect.signature(function).parameters.values()
    untyped = [
        p.name
        for p in parameters
        if p.annotation is p.empty and p.name != "self" and p.kind is not p.VAR_KEYWORD
    ]
    assert untyped == []
    if not name.endswith("__init__"):
        assert "return" in function.__annotations__
