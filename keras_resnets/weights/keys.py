"""Where in a file the tensors of a model stand: the key or prefix under which its names fit.

A training script puts them under `"state_dict"`, a wrapper under `module.`, a detector under
`backbone.`, a self-supervised method twice, under `encoder_q.` and `encoder_k.`. No list knows all
of them, but the model knows its own names: where they stand, there is its state dict.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Collection

from keras_resnets.checks import listed, require
from keras_resnets.names import keras_name
from keras_resnets.weights.state_dict import INSIDE, StateDict

# What says that weights are averages over the training: EMA, stochastic weight averaging.
_AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged?)([._]|$)")


def located(
    file: StateDict, wanted: Collection[str], key: str | None = None, *, strict: bool = True
) -> StateDict:
    """The part of a file that holds a model's tensors, under their own names.

    Of plain and averaged weights the plain ones are taken, and a warning says so.

    Args:
        file: all that was read. One of Keras' layout, and one that was located, stay as they are.
        wanted: names of the model's tensors but for its classifier's, the module's path as the
            layer's name: `"layer1_0_conv1.weight"`.
        key: where they stand, or what tells it from other places: `"state_dict_ema"`,
            `"encoder_q"`, `""` for the outermost; default: where most of them are found.
        strict: whether somebody compares names later, so that a place where only some are will do.

    Returns:
        The tensors that stand there.

    Raises:
        ValueError: if the model's names fit equally well under several keys, or under none of
            those that `key` means.

    Example:

    >>> located(checkpoint.read("moco.pth"), wanted, key="encoder_q").key
    'state_dict.module.encoder_q'
    """
    if file.layout != "torch" or (key is None and file.key is not None):
        require(key is None, "key must be left out for files of Keras", key=key)
        return file
    found = _places(file, set(wanted))
    if key is not None:
        found = _asked_for(key, found, file)
    most = max(found.values(), default=0)
    best = [place for place, count in found.items() if count == most]
    plain = [place for place in best if not _AVERAGED.search(_spoken(place).lower())]
    chosen = plain if len(plain) == 1 else best
    if len(chosen) > 1 and (most == len(wanted) or not strict):
        raise ValueError(
            f"weights must be clear: the model's names fit {file.source!r} under "
            f"{listed(sorted(repr(_spoken(place)) for place in chosen))}. Choose with "
            f"load_weights(model, source, key=...). Received: key={key!r}"
        )
    place = min(chosen, key=len) if chosen else _largest(file)
    if len(best) > len(chosen):
        others = listed(repr(_spoken(other)) for other in best if other != place)
        warnings.warn(
            f"{file.source!r} has averaged weights (EMA) under {others}; the plain ones under "
            f"{_spoken(place)!r} are loaded. Others: load_weights(model, source, key=...).",
            stacklevel=4,
        )
    return file._replace(arrays=_inside(file, place), key=_spoken(place))


def _asked_for(key: str, found: Counter[str], file: StateDict) -> dict[str, int]:
    """The places that a key means: the one that it is, or those of which it is a part."""
    asked = key.rstrip(".")
    exactly = {place: count for place, count in found.items() if _spoken(place) == asked}
    partly = {
        place: count
        for place, count in found.items()
        if asked and f".{asked}." in f".{_spoken(place)}."
    }
    most = [repr(_spoken(place)) for place in found if found[place] == max(found.values())]
    require(
        bool(exactly or partly),
        f"key must be one under which {file.source!r} has tensors of the model: "
        f"{listed(sorted(most))}",
        key=key,
    )
    return exactly or partly


def _places(file: StateDict, wanted: set[str]) -> Counter[str]:
    """How many of the wanted names stand behind each beginning of the file's names."""
    places: Counter[str] = Counter()
    for name in file.arrays:
        module, _, leaf = name.rpartition(".")
        # Every place where a name can begin: the front, and behind each separator.
        for begin in (0, *(match.end() for match in re.finditer(r"[./]", module))):
            if f"{keras_name(module[begin:])}.{leaf}" in wanted:
                places[name[:begin]] += 1
    return places


def _largest(file: StateDict) -> str:
    """The mapping with most tensors, for a message: nothing in the file is the model's."""
    mappings = Counter(name[: name.rfind(INSIDE) + 1] for name in file.arrays)
    return max(mappings, key=mappings.__getitem__, default="")


def _inside(file: StateDict, place: str) -> dict[str, object]:
    """The tensors at a place, without those of mappings inside it."""
    return {
        name.removeprefix(place): array
        for name, array in file.arrays.items()
        if name.startswith(place) and INSIDE not in name.removeprefix(place)
    }


def _spoken(place: str) -> str:
    """A place as people write it: `"state_dict.module"` for `"state_dict/module."`."""
    return place.replace(INSIDE, ".").rstrip(".")
