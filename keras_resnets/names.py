"""The naming contract: a layer is named after its module in the PyTorch checkpoint.

Families write the dotted module path, `"layer1.0.conv2"`, and the layer is called
`"layer1_0_conv2"`. So one rule loads every checkpoint, and saved files rest on it. Everything that
reads a layer's name, to find its block, its stage or its level, is here.
"""

from __future__ import annotations


def keras_name(path: str) -> str:
    """Layer name of a dotted module path. Keras refuses `/`, and its torch backend `.`."""
    return path.replace(".", "_")
