"""What a run can end in, and what backends say of it in our words."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator

import keras

from keras_resnets.training import batches
from keras_resnets.training.config import RunConfig


class DivergedError(ArithmeticError):
    """The loss or a weight is not a finite number any more."""


class OutOfMemory(MemoryError):
    """The batch does not fit into the device's memory."""


class Interrupted(KeyboardInterrupt):
    """Somebody asked the run to stop, and its checkpoint is written.

    Attributes:
        exit_code: what a command that was stopped so returns: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


@contextlib.contextmanager
def explained(config: RunConfig) -> Iterator[None]:
    """Turns what backends say of memory, data and machines into errors that say what to do."""
    try:
        yield
    except Exception as error:
        explanation = _explanation(error, config)
        if explanation is None:
            raise
        raise explanation from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether a backend says that something does not fit into a device's memory."""
    text = f"{type(error).__name__}: {error}"
    signs = ("ResourceExhausted", "RESOURCE_EXHAUSTED", "MemoryError")
    return any(sign in text for sign in signs)


def _explanation(error: Exception, config: RunConfig) -> Exception | None:
    text = f"{type(error).__name__}: {error}"
    if keras.backend.backend() == "jax" and re.search("Gloo|NCCL|CoordinationService", text):
        return _left_alone(text)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return OSError(
            error.errno,
            f"{error.strerror}. The checkpoints before are as they were: make room, and go on with "
            "--resume",
        )
    if isinstance(error, (DivergedError, ValueError, OSError)):
        return None
    if is_out_of_memory(error):
        return OutOfMemory(
            f"a batch of {config.recipe.batch_size} images of {config.recipe.image_size} pixels "
            "does not fit into the device's memory. Try a smaller batch_size with accumulate (half "
            "the batch and twice the accumulated batches keep the learning rate), dtype bfloat16, "
            "or a smaller image_size."
        )
    explanation = batches.in_our_words(error)
    # After what this process has done itself: TensorFlow aborts the exchange for that, too.
    if explanation is None and re.search("Collective|[Cc]oordination", text):
        return _left_alone(text)
    return explanation


def _left_alone(text: str) -> ConnectionError:
    return ConnectionError(
        "all processes of a run must stay: another one is gone or has failed; see what it "
        f"printed. Start all of them again with --resume. ({text.splitlines()[0]})"
    )
