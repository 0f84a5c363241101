"""What a layer can know of where the code runs that is being traced."""


def traces_for_xla() -> bool:
    """Whether TensorFlow is tracing what XLA will compile, as under `jit_compile=True`."""
    import tensorflow as tf  # Only this backend needs it: the package imports without it.

    return tf.__internal__.get_enclosing_xla_context() is not None
