"""What the library refuses, as one line and an exit code.

Where other libraries' errors arise, they are put into words that say what to do. What comes through
nevertheless is translated here, by whose error it is. The rest are errors of this package's own
making, and show all of their traceback.
"""

from __future__ import annotations

import contextlib
import errno
import re
import traceback
from collections.abc import Iterator

import typer

from keras_resnets import backends
from keras_resnets.checks import said

# What brings a package that is missing.
_EXTRAS = {
    **dict.fromkeys(("matplotlib", "sklearn", "tensorboard", "tensorflow_datasets"), "training"),
    **dict.fromkeys(("ai_edge_litert", "onnx", "onnxruntime", "openvino", "tf2onnx"), "export"),
    **{backend: backend for backend in backends.BACKENDS},
}

# How a class is refused that this package raises, too.
_REFUSALS = (ValueError, TypeError, OSError, ArithmeticError, MemoryError)

# Modules whose errors a user can cause by files, data, disks and networks.
_LIBRARIES = {
    *_EXTRAS,
    *"""
        PIL absl binascii csv ctypes filelock google gzip h5py httpcore httpx huggingface_hub
        jaxlib json keras lzma ml_dtypes numpy pickle pickletools requests safetensors scipy
        shutil ssl struct tarfile tempfile urllib3 zipfile zlib _pickle
    """.split(),
}
_OUT_OF_MEMORY = re.compile("ResourceExhausted|RESOURCE_EXHAUSTED|out of memory", re.IGNORECASE)


@contextlib.contextmanager
def errors_to_stderr() -> Iterator[None]:
    """Turns what the library raises into one message and exit code 1. Decorates every command."""
    try:
        backends.choose()
        yield
    except BrokenPipeError:  # `keras-resnets list | head` has read enough.
        raise
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if error.name is not None and package not in _EXTRAS:
            raise
        hint = f": pip install 'keras-resnets[{_EXTRAS[package]}]'" if package else ""
        typer.echo(f"Error: {said(error)}{hint}", err=True)
        raise typer.Exit(1) from error
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        typer.echo(f"Error: {message}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as stopped:
        typer.echo(f"{stopped or 'Stopped.'}", err=True)
        raise typer.Exit(getattr(stopped, "exit_code", 130)) from stopped


def _message(error: Exception) -> str | None:
    """What happened and what to do, in a sentence; None for an error of our own making."""
    library = _library_of(error)
    of_ours = type(error).__module__.partition(".")[0] == __name__.partition(".")[0]
    if library is None and not of_ours and not isinstance(error, _REFUSALS):
        return None
    if _is_out_of_memory(error) and (library is not None or not str(error)):
        return (
            "the model and its images must fit into the memory; take fewer images at once, "
            f"smaller images or a smaller model ({said(error)})"
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and "disk" not in str(error):
        return f"the disk must have room; make some, and try again ({error.strerror})"
    if isinstance(error, OSError) and error.filename is not None:
        return (
            f"files and folders must be there and accessible ({error.strerror}). "
            f"Received: {error.filename!r}"
        )
    if isinstance(error, UnicodeEncodeError):
        return (
            "names of files must be in the system's encoding; rename them, or set LC_ALL=C.UTF-8 "
            f"where that is none ({said(error)})"
        )
    if library is not None:
        return f"{library} cannot do that with what it is given ({said(error)})"
    return re.sub(r"^\[Errno \d+\] ", "", " ".join(str(error).splitlines()))


def _library_of(error: Exception) -> str | None:
    """The library that raised an error: by the error's class, or else by where it was raised."""
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    modules = (type(error).__module__, innermost.f_globals.get("__name__") or "")
    names = (module.partition(".")[0] for module in modules)
    return next((name for name in names if name in _LIBRARIES), None)


def _is_out_of_memory(error: Exception) -> bool:
    text = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(text) is not None
