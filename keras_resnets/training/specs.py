"""What names a data set: `"folder:PATH"`, `"tfds:NAME"`, `"keras:NAME"`, `"digits"`, ..."""

from __future__ import annotations

import os
from typing import Any

from keras_resnets.checks import nearest, require

# How a data set of each kind is written; those of files are made absolute.
FORMS = {
    "folder": "folder:PATH",
    "csv": "csv:FILE",
    "npz": "npz:FILE",
    "tfrecord": "tfrecord:GLOB",
    "tfds": "tfds:NAME",
    "keras": "keras:NAME",
}
OF_FILES = ("folder", "csv", "npz", "tfrecord")
EVERY_FORM = f"{', '.join(FORMS.values())} or digits"


def parsed(spec: Any) -> tuple[str, str]:
    """The kind of a data set and what follows the colon; paths are absolute.

    Raises:
        ValueError: if it is no such name; the message suggests one.
    """
    require(
        isinstance(spec, str),
        "the data set must be a string such as 'folder:PATH', or arrays (images, labels)",
        data=type(spec).__name__,
    )
    kind, _, rest = absolute(spec).partition(":")
    require(
        spec == "digits" or (kind in FORMS and bool(rest)),
        f"the data set must be {', '.join(map(repr, FORMS.values()))} or 'digits'",
        _hint(spec),
        data=spec,
    )
    return kind, rest


def absolute(spec: Any) -> Any:
    """The same data set by a name that holds in any folder; arrays are what they are."""
    if not isinstance(spec, str):
        return spec
    kind, colon, rest = spec.partition(":")
    if kind not in OF_FILES or not rest:
        return spec
    # A pattern may have question marks; behind that of a table are its options.
    path, mark, options = rest.partition("?") if kind == "csv" else (rest, "", "")
    return f"{kind}{colon}{os.path.abspath(os.path.expanduser(path))}{mark}{options}"


def _hint(spec: str) -> str:
    path = os.path.expanduser(spec)
    if os.path.isdir(path):
        return f"Did you mean 'folder:{spec}'? "
    if os.path.isfile(path):
        endings = {".csv": "csv", ".tsv": "csv", ".npz": "npz"}
        kind = endings.get(os.path.splitext(path.lower())[1], "tfrecord")
        return f"Did you mean '{kind}:{spec}'? "
    kind, colon, rest = spec.partition(":")
    if colon and kind not in FORMS:
        near = nearest(kind, FORMS).removeprefix("Did you mean '").removesuffix("'? ")
        return f"Did you mean '{near}:{rest}'? " if near else ""
    return nearest(spec, ["digits"])
