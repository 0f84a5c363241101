"""What the package promises about its own text: who imports whom, what is documented and tested."""

import ast
import dataclasses
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import goldens_io
import pytest
from nets import CASES, FULL
from processes import BACKEND, child_environment

import keras_resnets as kr
from keras_resnets import catalog
from keras_resnets.models.network import NetworkConfig
from keras_resnets.models.variant import Variant

PACKAGE = Path(kr.__file__).parent
ROOT = PACKAGE.parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}
FAMILIES = {module.__name__.rpartition(".")[2] for module in catalog.FAMILIES.values()}
FRAMEWORKS = {"jax", "tensorflow", "torch"}

# Who may import what, from the bottom up; a folder stands for all in it, and everything may import
# the ground floor. `preparation` checks its fields; the rest of the ground floor stands by itself.
GROUND = {"backends", "checks", "names", "preparation", "files", "markdown"}
_PARTS = {
    f"models.{name}"
    for name in ("attention", "blocks", "byobnet", "network", "residual", "variant")
}
_FILES = ("checkpoint", "facts", "keys", "layouts", "pickles", "published", "state_dict")
_BELOW_TRAINING = {
    *("layers", "graph", "models", "weights", "catalog", "loading", "preprocessing"),
}
ARROWS = {
    "backends": set(),
    "checks": set(),
    "names": set(),
    "files": set(),
    "markdown": set(),
    "preparation": {"checks"},
    "layers": {"layers"},
    "graph": {"layers", "graph"},
    # Files and their names know nothing of models.
    **{f"weights.{name}": {f"weights.{low}" for low in _FILES} for name in (*_FILES, "hub")},
    "weights": {"layers", "graph", "weights"},
    "models.blocks": {"layers"},
    "models.attention": {"models.blocks"},
    "models.network": {"models.blocks"},
    "models.residual": {"models.blocks", "models.network"},
    "models.byobnet": {"models.blocks", "models.residual"},
    "models.variant": {"graph", "models.blocks", "models.network", "weights"},
    "models": {"layers", *_PARTS},  # Families never import each other.
    "catalog": {"graph", "models", "weights"},
    "loading": {"graph", "models", "weights", "catalog"},
    "preprocessing": _BELOW_TRAINING - {"preprocessing"},
    "training": {*_BELOW_TRAINING, "training"},
    "deploy": {*_BELOW_TRAINING, "training", "deploy"},
    "sharing": {*_BELOW_TRAINING, "training", "deploy", "sharing"},
}

# The input pipeline is tf.data on every backend; what runs in it is TensorFlow's.
TF_DATA = {
    f"training.{name}" for name in "augment batches data images policies records sources".split()
}


# Imports -----------------------------------------------------------------------------------------


def inside(module: str, folder: str) -> bool:
    return module == folder or module.startswith(f"{folder}.")


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names of all that a tree imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where the arrows point"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> set[str]:
    """The package's modules that a module imports: "blocks", "weights.checkpoint"."""
    found = set()
    for name in imported(ast.parse(path.read_text())):
        if not inside(name, PACKAGE.name):
            continue
        # `from keras_resnets.models.blocks import conv` names a module and what is taken of it.
        name = name.removeprefix(f"{PACKAGE.name}.")
        found.add(name if name in MODULES else name.rpartition(".")[0])
    # The package itself, of which only the version is wanted, when something runs.
    return found - {"", PACKAGE.name}


def test_every_arrow_names_a_module():
    assert set(ARROWS) <= set(MODULES)


def arrows_of(module: str) -> set[str] | None:
    return next((ARROWS[key] for key in ARROWS if inside(module, key)), None)


@pytest.mark.parametrize("module", [name for name in MODULES if arrows_of(name) is not None])
def test_imports_point_downwards(module):
    allowed = arrows_of(module) | GROUND if module not in GROUND else arrows_of(module)
    wrong = {
        name
        for name in own_imports(MODULES[module])
        if not any(inside(name, folder) for folder in allowed)
    }
    assert not wrong


def test_every_module_but_the_commands_has_arrows():
    without = {name for name in MODULES if arrows_of(name) is None}
    assert {name.partition(".")[0] for name in without} == {"__main__", "commands"}


def test_the_arrows_are_really_read():
    """A reading that misses imports would find nothing that points upwards."""
    assert {"models.blocks", "weights.fit", "weights.source"} <= own_imports(
        MODULES["models.variant"]
    )
    assert own_imports(MODULES["models.blocks"]) == {"layers", "names"}
    assert {f"models.{name}" for name in FAMILIES} <= own_imports(MODULES["catalog"])


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_longer_than_450_lines(module):
    assert len(MODULES[module].read_text().splitlines()) <= 450


def at_module_level(tree: ast.Module) -> ast.Module:
    """The tree without the bodies of functions, which run later or never."""

    class Prune(ast.NodeTransformer):
        def visit_FunctionDef(self, node):
            return ast.Pass()

        visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    return Prune().visit(tree)


@pytest.mark.parametrize("module", ["__init__", *MODULES])
def test_no_module_imports_a_backend(module):
    """One backend is enough: who uses JAX need not have TensorFlow."""
    path = MODULES.get(module, PACKAGE / "__init__.py")
    names = imported(at_module_level(ast.parse(path.read_text())))
    allowed = {"tensorflow"} if module in TF_DATA else set()
    assert not (FRAMEWORKS - allowed) & {name.partition(".")[0] for name in names}


def test_only_the_public_keras_is_used():
    private = "keras" + ".src"  # In two parts, or this file would be the one that is found.
    sources = [
        path
        for folder in (PACKAGE, *(ROOT / name for name in ("tests", "tools", "examples")))
        for path in folder.rglob("*.py")
    ]
    assert len(sources) > len(MODULES)
    assert [path.name for path in sources if private in path.read_text()] == []


def test_no_layer_is_a_lambda():
    """A saved Lambda layer needs its function, which is code: safe mode refuses to load it."""
    sources = [path for path in MODULES.values() if re.search(r"\bLambda\b", path.read_text())]
    assert sources == []


# A fresh import ----------------------------------------------------------------------------------

_IMPORT = """
import json
import sys

import keras

made = []
original = keras.layers.Layer.__init__

def count(self, *args, **kwargs):
    made.append(type(self).__name__)
    original(self, *args, **kwargs)

def names():
    return {name.partition(".")[0] for name in sys.modules}

keras.layers.Layer.__init__ = count
before = names()
import keras_resnets
new, on_import = names() - before, list(made)
keras_resnets.layers.DropPath(0.1)
print(json.dumps(dict(before=sorted(before), new=sorted(new), made=on_import, after=made)))
"""


@pytest.mark.backend
def test_a_fresh_import_loads_one_backend_and_builds_nothing():
    child = subprocess.run(
        [sys.executable, "-c", _IMPORT],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    seen = json.loads(child.stdout.splitlines()[-1])
    assert "keras_resnets" in seen["new"]
    # What Keras itself brings along, such as pandas where it is installed, is not ours to avoid.
    heavy = {"matplotlib", "pandas", "PIL", "scipy", "sklearn", "timm"}
    assert not (heavy | FRAMEWORKS) & set(seen["new"])
    if BACKEND != "tensorflow":
        assert "tensorflow" not in seen["before"]
    assert seen["made"] == []
    assert seen["after"] == ["DropPath"], "the count would miss a layer"


# The public names --------------------------------------------------------------------------------


def public_objects() -> dict[str, object]:
    """The functions and classes that a user calls; variants are instances."""
    named = {
        **{name: value for name, value in vars(kr).items() if not name.startswith("_")},
        **{f"layers.{name}": getattr(kr.layers, name) for name in kr.layers.__all__},
        "Variant.__call__": Variant.__call__,
    }
    return {
        name: value
        for name, value in named.items()
        if inspect.isfunction(value) or inspect.isclass(value)
    }


@pytest.mark.parametrize("name", public_objects())
def test_public_names_say_what_they_take_raise_and_look_like(name):
    value = public_objects()[name]
    text = inspect.getdoc(value)
    assert text
    if value is Variant:
        sections = ["Attributes:"]  # It is called, not made: `__call__` has the rest.
    else:
        assert inspect.signature(value).parameters
        sections = ["Args:", "Raises:", "Example:"]
        returned = inspect.signature(value).return_annotation
        if inspect.isfunction(value) and returned not in (None, "None"):
            sections.append("Returns:")
    assert [section for section in sections if f"\n{section}\n" not in text] == []
    if "Args:" in sections and not (inspect.isclass(value) and "__init__" not in vars(value)):
        # An inherited signature is documented where it comes from, under `**kwargs` at most.
        documented = re.findall(r"^    \**(\w+):", text.split("\nArgs:\n")[1], re.MULTILINE)
        taken = [name for name in inspect.signature(value).parameters if name != "self"]
        undocumented = [name for name in taken if name not in documented]
        assert undocumented == []


@pytest.mark.parametrize("name", catalog.variants())
def test_variants_are_frozen_functions_with_a_name(name):
    """A variant that could be changed would change for everybody."""
    variant = getattr(kr, name)
    assert callable(variant)
    assert isinstance(variant, Variant)
    assert re.fullmatch(r"[a-z0-9_]+", variant.name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        variant.name = "another"
    for field in dataclasses.fields(variant.config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(variant.config, field.name, getattr(variant.config, field.name))
    hash(variant)  # Not a list anywhere, whose items could change.


def test_names_of_variants_are_unique():
    assert len(kr.list_models()) == len(set(kr.list_models())) == len(catalog.variants())


# What the goldens cover --------------------------------------------------------------------------


def _config(case) -> NetworkConfig:
    return dataclasses.replace(catalog.find_variant(case.variant).config, **case.changes)


def test_every_architecture_has_its_golden_and_every_golden_its_architecture():
    assert set(kr.list_models()) == set(goldens_io.architectures())


def variants_of(family: str) -> list[Variant]:
    module = catalog.FAMILIES[family]
    return [getattr(module, name) for name in module.__all__]


@pytest.mark.parametrize("family", catalog.FAMILIES)
def test_every_family_is_compared_whole_at_least_twice(family):
    names = {variant.name for variant in variants_of(family)}
    assert len({case.variant for case in FULL} & names) >= 2


def config_classes() -> list[type[NetworkConfig]]:
    """Every configuration that has variants, with its bases."""
    classes = {type(variant.config): None for variant in catalog.variants().values()}
    return [
        base
        for base in dict.fromkeys(base for cls in classes for base in cls.__mro__)
        if issubclass(base, NetworkConfig) and base is not NetworkConfig
    ]


def introduced_fields() -> list[tuple[type[NetworkConfig], str]]:
    """The fields of each configuration, where they come up first.

    What all networks have (`NetworkConfig`) is implemented twice, by the residual skeleton and by
    ReXNet, so it counts for both.
    """
    return [
        (config, field.name)
        for config in config_classes()
        for field in dataclasses.fields(config)
        if not any(
            field.name in base.__dataclass_fields__
            for base in config.__bases__
            if base is not NetworkConfig
        )
    ]


@pytest.mark.parametrize(
    ("config", "field"), introduced_fields(), ids=lambda part: getattr(part, "__name__", part)
)
def test_every_field_is_changed_in_a_network_compared_with_pytorch(config, field):
    """A field that all comparisons leave alone could do anything."""
    compared = {
        getattr(own, field) for own in map(_config, CASES.values()) if isinstance(own, config)
    }
    assert len(compared) >= 2, compared


def parts(configs) -> set[tuple[str, str, str]]:
    """The functions that networks are put together from: block, stem, norm, attention, ..."""
    return {
        (type(config).__name__, field.name, getattr(part, "__name__", repr(part)))
        for config in configs
        for field in dataclasses.fields(config)
        if callable(part := getattr(config, field.name))
    }


@pytest.mark.parametrize("family", catalog.FAMILIES)
def test_every_part_of_a_family_is_compared_with_pytorch(family):
    offered = parts(variant.config for variant in variants_of(family))
    assert offered <= parts(map(_config, CASES.values()))
    # ReXNet is one formula, without exchangeable parts.
    assert offered or family == "ReXNet"


def test_every_configuration_has_a_network_compared_with_pytorch():
    compared = {type(_config(case)) for case in CASES.values()}
    assert {type(variant.config) for variant in catalog.variants().values()} == compared
