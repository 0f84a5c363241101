"""Checks of arguments: every message states the rule and what was received.

A rule that holds is nothing; one that does not is a ValueError, raised before any work starts.
"""

from __future__ import annotations

import difflib
import math
import numbers
import re
import unicodedata
from collections.abc import Iterable
from typing import Any


def require(condition: bool, rule: str, hint: str = "", /, **received: Any) -> None:
    """Raises a ValueError that states the rule and what was received, unless it holds.

    A hint, such as `nearest` makes, is a sentence of its own between the two.
    """
    if not condition:
        raise ValueError(f"{rule}. {hint}Received: {described(received)}")


def described(values: dict[str, Any]) -> str:
    """Names and values for a message: `classes=0, pooling='x'`."""
    return ", ".join(f"{key}={value!r}" for key, value in values.items())


# Kinds of values ---------------------------------------------------------------------------------


def is_count(value: Any, minimum: int = 1) -> bool:
    """Whether a value is a whole number of something (True and False are not)."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= minimum


def is_number(value: Any) -> bool:
    """Whether a value is a real number (True and False are not)."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_sequence(value: Any, length: int) -> bool:
    """Whether a value is a tuple or list of so many items."""
    return isinstance(value, (tuple, list)) and len(value) == length


def as_plain(value: Any) -> Any:
    """Python's own value for a number or flag of NumPy's, also within a tuple, list or dict.

    NumPy's values are welcome as arguments, and no good in what is saved: JSON does not know them.
    Of an array of numbers it makes a tuple; anything else stays as it is.
    """
    if isinstance(value, (tuple, list)):
        return (tuple if isinstance(value, tuple) else list)(map(as_plain, value))
    if isinstance(value, dict):
        return {key: as_plain(item) for key, item in value.items()}
    if type(value).__module__ == "numpy" and hasattr(value, "tolist") and value.ndim < 2:
        plain = value.tolist()
        return tuple(plain) if isinstance(plain, list) else plain
    return value


def require_flag(**flags: Any) -> None:
    for key, value in flags.items():
        require(isinstance(as_plain(value), bool), f"{key} must be True or False", **{key: value})


def require_count(**counts: Any) -> None:
    for key, value in counts.items():
        require(is_count(value), f"{key} must be a positive int", **{key: value})


def require_ratio(**ratios: Any) -> None:
    for key, value in ratios.items():
        require(
            is_number(value) and 0 <= value <= 1,
            f"{key} must be a number from 0 to 1",
            **{key: value},
        )


def require_rate(**rates: Any) -> None:
    for key, value in rates.items():
        require(
            is_number(value) and 0 <= value < 1,
            f"{key} must be a number from 0 to below 1",
            **{key: value},
        )


def require_positive(**values: Any) -> None:
    for key, value in values.items():
        require(
            is_number(value) and 0 < value < math.inf,
            f"{key} must be a positive number",
            **{key: value},
        )


def require_not_negative(**values: Any) -> None:
    for key, value in values.items():
        require(
            is_number(value) and 0 <= value < math.inf,
            f"{key} must be a number from 0 up",
            **{key: value},
        )


def require_one_of(choices: Iterable[str], **values: Any) -> None:
    """Raises unless each value is one of some names; the message suggests the nearest."""
    choices = list(choices)
    for key, value in values.items():
        require(
            isinstance(value, str) and value in choices,
            f"{key} must be one of {', '.join(map(repr, choices))}",
            nearest(value, choices),
            **{key: value},
        )


def canonical(text: str) -> str:
    """A name for comparing: two ways to write an accented letter in Unicode become one (NFC).

    A file system may give back the name of a folder in another form than it was written in.
    """
    return unicodedata.normalize("NFC", text)


def printable(text: str) -> str:
    """A name for a file or a picture: what a system gives back of a name may be no text."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


# Words of messages -------------------------------------------------------------------------------


def nearest(name: Any, known: Iterable[str], most: int = 1) -> str:
    """`"Did you mean 'resnest50d'? "`, or nothing if no known name is near."""
    near = difflib.get_close_matches(str(name).lower(), list(known), most)
    return f"Did you mean {' or '.join(map(repr, near))}? " if near else ""


def said(error: BaseException | str) -> str:
    """What another library's error says, in one line: some say much around it, and in colour."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    # TensorFlow's: where in its graph it was.
    text = re.sub(r"\{\{.*?\}\} ?| ?\[Op:.*|\] \[Condition .*", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "Traceback (most recent call last)" in text or text.startswith("in user code"):
        lines = [line for line in lines if re.match(r"[\w.]+: .", line)][-1:]
    # Keras and OpenVINO first say where it happened.
    while len(lines) > 1 and re.match("Exception (encountered when calling|from) ", lines[0]):
        del lines[0]
    return lines[0].rstrip(".:") if lines else type(error).__name__


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names for a message; the end of a long list is a number."""
    names = list(names)
    if not names:
        return "none"
    more = f", ... {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
