"""What the package uses of other libraries beyond their public interface: one thing."""

import ast
from collections.abc import Iterable
from pathlib import Path

import keras
import pytest

import keras_resnets as kr

PACKAGE = Path(kr.__file__).parent

# What stays private, and the version of the library that it was seen in. TensorFlow has no public
# way to ask whether XLA compiles what is being traced.
SEEN_IN = {"tf.__internal__.get_enclosing_xla_context": "tensorflow 2.21.0"}
# These begin with an underscore and are documented all the same.
PUBLIC = {"os._exit", "_replace"}


def nodes(paths: Iterable[Path]) -> list[ast.AST]:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    return [node for tree in trees for node in ast.walk(tree)]


def private_attributes(nodes: list[ast.AST]) -> set[str]:
    """Private attributes of anything but `self`, and those of `self` that nobody here sets."""
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    own |= {node.attr for node in attributes if isinstance(node.ctx, ast.Store)}
    found = set()
    for node in attributes:
        text, owner = ast.unparse(node), ast.unparse(node.value)
        special = node.attr.endswith("__") and node.attr != "__internal__"
        ours = owner in ("self", "cls", "super()") and node.attr in own
        if node.attr.startswith("_") and not (special or ours or {text, node.attr} & PUBLIC):
            found.add(text)
    return found


def test_nothing_else_is_private():
    found = private_attributes(nodes(PACKAGE.rglob("*.py")))
    assert found == {"tf.__internal__"} == {name.rpartition(".")[0] for name in SEEN_IN}


def test_the_search_finds_what_is_inherited(tmp_path):
    code = "class A(B):\n    def f(self):\n        self._mine = self._theirs\n        x._y._z"
    (tmp_path / "a.py").write_text(code)
    assert private_attributes(nodes([tmp_path / "a.py"])) == {"self._theirs", "x._y", "x._y._z"}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow")
@pytest.mark.parametrize("name", SEEN_IN)
def test_what_is_private_is_there(name):
    """Where this fails, the library has moved what `SEEN_IN` says was there."""
    import tensorflow as tf

    value = tf
    for part in name.split(".")[1:]:
        value = getattr(value, part)
    assert value() is None, "nothing is being traced for XLA here"
