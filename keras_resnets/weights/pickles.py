"""PyTorch's own files. They are pickles, programs that build what they hold; none is run here."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from keras_resnets.checks import listed
from keras_resnets.weights.state_dict import gathered


class _Forgotten:
    """Stands for an object that is no weight: takes what it is made with, and keeps nothing."""

    def __new__(cls, *arguments: Any) -> _Forgotten:
        return super().__new__(cls)

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Dictionary:
    """Stands for a dictionary with habits, which becomes a plain one."""

    def __new__(cls, *arguments: Any) -> dict[Any, Any]:
        return {}


# What training scripts and libraries put beside weights and is nothing but data. The classes
# themselves are not looked up: they need not be installed, and nothing of theirs is run.
_DATA = (
    """
    argparse.Namespace types.SimpleNamespace typing.Any
    datetime.date datetime.datetime datetime.time datetime.timedelta datetime.timezone
    decimal.Decimal uuid.UUID
    mmengine.logging.history_buffer.HistoryBuffer
    omegaconf.base.ContainerMetadata omegaconf.base.Metadata
    omegaconf.dictconfig.DictConfig omegaconf.listconfig.ListConfig
    omegaconf.nodes.AnyNode omegaconf.nodes.BooleanNode omegaconf.nodes.BytesNode
    omegaconf.nodes.EnumNode omegaconf.nodes.FloatNode omegaconf.nodes.IntegerNode
    omegaconf.nodes.PathNode omegaconf.nodes.StringNode
""".split()
    + [
        f"pathlib{module}.{pure}{kind}"
        for module in ("", "._local")  # Where Python 3.13 has them.
        for pure in ("", "Pure")
        for kind in ("Path", "PosixPath", "WindowsPath")
    ]
)
_DICTIONARIES = """
    collections.defaultdict easydict.EasyDict yacs.config.CfgNode
    lightning.fabric.utilities.data.AttributeDict
    lightning.pytorch.utilities.parsing.AttributeDict lightning_fabric.utilities.data.AttributeDict
    pytorch_lightning.utilities.parsing.AttributeDict
""".split()
_BUILTINS = (bool, dict, float, frozenset, int, list, range, slice, str, tuple)


def read(file: BinaryIO) -> dict[str, Any]:
    """The tensors of a file of PyTorch, which must be installed.

    Args:
        file: open for reading bytes.

    Returns:
        Arrays by name; see `state_dict.gathered`.

    Raises:
        ImportError: without PyTorch.
        ValueError: if the file is damaged, has no tensors by name, or is more than data.
    """
    import torch

    try:
        with warnings.catch_warnings():
            # TorchScript and pickles of another age, of which the errors say enough.
            warnings.simplefilter("ignore")
            with torch.serialization.safe_globals(_plain_data()):
                content = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(content, Mapping):
            raise ValueError(f"it holds a {type(content).__name__} instead of tensors by name")
        _require_known_strides(content)
        arrays = gathered(content)
        if not arrays:
            raise ValueError(f"it holds no tensors by name, but: {listed(map(str, content))}")
        return arrays
    except Exception as error:  # A damaged pickle makes it raise whatever it happens to meet.
        raise ValueError(_reason(error)) from error


def _plain_data() -> list[Any]:
    """What a pickle may build besides tensors, each under the name that pickles know it by."""
    core = np.zeros(0).__reduce__()[0].__module__.rpartition(".")[0]
    rebuild, scalar = np.zeros(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    return [
        *((_Forgotten, name) for name in _DATA),
        *((_Dictionary, name) for name in _DICTIONARIES),
        *((kind, f"builtins.{kind.__name__}") for kind in _BUILTINS),
        # Arrays, numbers and types of NumPy, whose inner module has had two names.
        (np.ndarray, "numpy.ndarray"),
        (np.dtype, "numpy.dtype"),
        *((getattr(np.dtypes, name), f"numpy.dtypes.{name}") for name in np.dtypes.__all__),
        *(
            (function, f"{module}.multiarray.{name}")
            for module in {core, "numpy.core", "numpy._core"}
            for function, name in ((rebuild, "_reconstruct"), (scalar, "scalar"))
        ),
    ]


def _require_known_strides(content: Mapping[Any, Any]) -> None:
    """Refuses what OpenMMLab calls the style of Caffe: its strides are elsewhere.

    The first convolution of a block has them, not the second. Every shape fits, and the network
    would be another. Only the training's configuration says it, a text in `meta`.
    """
    meta = content.get("meta")
    texts = meta.values() if isinstance(meta, Mapping) else ()
    if any(isinstance(text, str) and re.search(r"style=.caffe", text) for text in texts):
        raise ValueError("its network has style='caffe', with strides where ours has none")


def _reason(error: Exception) -> str:
    text = str(error)
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return (
            f"it holds more than data, a {found[1]}, and code in a file is never run; whoever "
            "trusts it can write its tensors alone: "
            "torch.save(torch.load(path, weights_only=False)['state_dict'], 'weights.pth')"
        )
    if "TorchScript" in text:
        return (
            "it is a program of TorchScript, and code in a file is never run; whoever trusts it "
            "can write its tensors alone: "
            "torch.save(torch.jit.load(path).state_dict(), 'weights.pth')"
        )
    if "weights_only" in text or "WeightsUnpickler" in text:
        return "it holds more than tensors, and code in a file is never run"
    return text.split("\n")[0] or type(error).__name__
