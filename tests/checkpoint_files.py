"""Checkpoints that the tests make, and models to put them into."""

import keras
import numpy as np
import pytest
from deterministic import random_state
from goldens_io import parity
from nets import CASES

import keras_resnets as kr


def state_of(name: str) -> dict[str, np.ndarray]:
    """PyTorch's names and the deterministic arrays of a case."""
    shapes = parity()[name]["state"]
    return random_state({path: tuple(shape) for path, shape in shapes.items()})


def build(case_name: str, /, **arguments) -> keras.Model:
    """The model of a case, without its number of classes: that is the file's."""
    case = CASES[case_name]
    arguments = {"weights": None, "classifier_activation": None, **arguments}
    return kr.create_model(case.variant, **case.changes, **arguments)


def weights_of(model: keras.Model) -> dict[str, np.ndarray]:
    return {
        f"{layer.name}/{variable.name}": np.array(keras.ops.convert_to_numpy(variable))
        for layer in model.layers
        for variable in layer.weights
    }


def assert_same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_array_equal(left[key], right[key], err_msg=key)


def save_torch(content, path) -> str:
    torch = pytest.importorskip("torch")

    def tensors(value):
        if isinstance(value, np.ndarray):
            return torch.from_numpy(value.copy())
        return {k: tensors(v) for k, v in value.items()} if isinstance(value, dict) else value

    torch.save(tensors(content), str(path))
    return str(path)


def import_timm(torch):
    """timm; it imports torchvision, whose compiled operators may be for another kind of torch."""
    try:
        return pytest.importorskip("timm")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    import_timm.operators = torch.library.Library("torchvision", "DEF")  # gone when the object is
    for name in ("nms", "qnms"):
        import_timm.operators.define(f"{name}(Tensor dets, Tensor scores, float iou) -> Tensor")
    return pytest.importorskip("timm")
