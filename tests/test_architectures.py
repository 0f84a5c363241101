"""Every variant has exactly the weights of its source: names, shapes, parameters, MACs.

All of them are built on torch, whose "meta" device makes weights without memory or numbers; a few
on the other backends. The goldens come from timm's models or, where timm has none, from
`tools/reference_nets.py`; the papers' own tables are in `test_papers.py`.
"""

import math

import keras
import pytest
from goldens_io import architectures, zeros_for_initial_weights

import keras_resnets as kr
from keras_resnets.graph.walk import flat_layers

# A Keras variable's leaf in PyTorch's state dict; written down here again, independently of the
# loader, so that the two must agree.
LEAF = {
    "kernel": "weight",
    "gamma": "weight",
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "position_embedding": "pos_embed",
}


def pytorch_shape(layer, variable) -> tuple[int, ...]:
    shape = tuple(variable.shape)
    if variable.name != "kernel":
        return shape
    *window, inputs, outputs = shape
    if isinstance(layer, kr.layers.PointwiseDense):
        window = [1, 1]
    return outputs, inputs, *window


# Of every family the deepest small one, for backends that need memory for what they build.
BUILT_EVERYWHERE = (
    "ecaresnet26t", "resnet50_gn", "resnetblur18", "resnetrs50", "seresnet50t", "wide_resnet28_10",
    "seresnext26t_32x4d", "resnest50d_4s2x40d", "res2next50", "rexnet_150", "rexnet_lite_100",
    "ecaresnet101d_pruned", "skresnet50d", "resnetv2_50t", "resnetv2_50x1_bit", "resnet61q",
    "resnet50_mlp", "resnet50_clip",
)  # fmt: skip
BACKEND = keras.backend.backend()
BUILT = kr.list_models() if BACKEND == "torch" else BUILT_EVERYWHERE


def without_memory():
    return keras.device("meta") if BACKEND == "torch" else zeros_for_initial_weights()


@pytest.mark.with_torch
@pytest.mark.parametrize("name", BUILT)
def test_every_variant_has_exactly_the_weights_of_its_source(name):
    golden = architectures()[name]
    size = golden["input"]
    with without_memory():
        model = kr.create_model(name, weights=None, input_shape=(size, size, 3))
    expected = {
        (path.rpartition(".")[0].replace(".", "_"), path.rpartition(".")[2]): tuple(shape)
        for path, shape in golden["state"].items()
    }
    ours = {
        (layer.name, LEAF[variable.name]): pytorch_shape(layer, variable)
        for layer in model.layers
        for variable in layer.weights
    }
    assert ours == expected
    parameters = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    assert parameters == golden["params"]
    assert kr.count_macs(model) == golden["macs"]

    # The class of a layer is part of the .weights.h5 format: the fast path must never change it.
    for layer in flat_layers(model):
        if isinstance(layer, keras.layers.Conv2D):
            grouped = isinstance(layer, kr.layers.GroupedConv2D)
            assert grouped == (layer.groups > 1), layer.name


@pytest.mark.long
@pytest.mark.parametrize("family", ["resnet50", "resnext50_32x4d", "resnest50d", "rexnet_100"])
def test_other_classes_and_no_top_change_the_classifier_alone(family):
    with_top = kr.create_model(family, weights=None, classes=7)
    without = kr.create_model(family, weights=None, include_top=False)
    names = {layer.name for layer in with_top.layers if layer.weights}
    names_without = {layer.name for layer in without.layers if layer.weights}
    assert {name.removeprefix("head_") for name in names - names_without} == {"fc"}
    assert names_without < names
    assert with_top.output_shape == (None, 7)
