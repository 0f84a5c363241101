"""What the library refuses, as one line and an exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer

from keras_resnets import backends

# What brings a package that is missing.
_EXTRAS = {
    **dict.fromkeys(("matplotlib", "sklearn", "tensorboard", "tensorflow_datasets"), "training"),
    **dict.fromkeys(("ai_edge_litert", "onnx", "onnxruntime", "openvino", "tf2onnx"), "export"),
    **{backend: backend for backend in backends.BACKENDS},
}


@contextlib.contextmanager
def errors_to_stderr() -> Iterator[None]:
    """Turns what the library raises into one message and exit code 1. Decorates every command."""
    try:
        backends.choose()
        yield
    except BrokenPipeError:  # `keras-resnets list | head` has read enough.
        raise
    except (ValueError, TypeError, OSError, ArithmeticError, MemoryError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if error.name is not None and package not in _EXTRAS:
            raise
        hint = f": pip install 'keras-resnets[{_EXTRAS[package]}]'" if package else ""
        typer.echo(f"Error: {error}{hint}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as stopped:
        typer.echo(f"{stopped or 'Stopped.'}", err=True)
        raise typer.Exit(getattr(stopped, "exit_code", 130)) from stopped
