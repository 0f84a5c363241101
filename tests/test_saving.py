"""What is saved comes back the same, in a process that never built it.

Every load happens in a fresh process: in the one that built a model, a class that nobody registered
and a number that no configuration holds would still be found.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from deterministic import random_images
from processes import BACKEND, run_child
from tiny_nets import (
    NETS,
    call,
    compiled,
    fill,
    fit,
    tiny_net,
)

import keras_resnets as kr
from keras_resnets.training.teacher import Student

DROPS = dict(drop_path=0.25, drop_block=0.125)
IMAGES = random_images(64, 80, batch=2)
# JAX compiles each operation for each shape, twice over here; these two hold all layers of ours.
SAVED = ("cifar", "resnest-2s2x") if BACKEND == "jax" else tuple(NETS)


def recipe(net: str) -> str:
    """How `tiny_net` builds a net, for a process that cannot ask it."""
    variant, changes = NETS[net]
    return json.dumps([variant, dict(changes, classes=10, classifier_activation=None)])


# Keras' own formats ------------------------------------------------------------------------------

# Imports Keras and the package, nothing else of the tests; safe mode is load_model's default.
_RELOAD = """
import json
import sys
from pathlib import Path

import keras
import keras_resnets as kr
import numpy as np

folder = Path(sys.argv[1])
images = np.load(folder / "images.npy")

def write(name, outputs):
    np.save(folder / f"{name}.npy", keras.ops.convert_to_numpy(outputs))

for path in sorted(folder.glob("*.keras")):
    model = keras.models.load_model(path)
    write(path.stem, model(images))
    (folder / f"{path.stem}.config.json").write_text(model.to_json())
    pyramid = kr.feature_pyramid(model)(images)
    for level, features in pyramid.items():
        write(f"{path.stem}.{level}", features)
for path in sorted(folder.glob("*.weights.h5")):
    net = path.name.partition(".")[0]
    variant, arguments = json.loads((folder / f"{net}.json").read_text())
    model = kr.create_model(variant, weights=path, **arguments)
    write(f"{net}.built", model(images))
    for variable in model.weights:
        variable.assign(0 * variable)
    model.load_weights(path)
    write(f"{net}.weights", model(images))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """A folder of what one fresh process made of all saved models, and what they gave here."""
    folder = tmp_path_factory.mktemp("saved")
    np.save(folder / "images.npy", IMAGES)
    outputs = {}
    for net in SAVED:
        model = tiny_net(net)
        outputs[net] = call(model, IMAGES)
        model.save(folder / f"{net}.keras")
        # The same weights in a model that also drops: its rates must not get in the way.
        drops = dict(drop_path=0.25) if net.startswith("rexnet") else DROPS
        tiny_net(net, **drops).save_weights(folder / f"{net}.weights.h5")
        (folder / f"{net}.json").write_text(recipe(net))
        for level, features in kr.feature_pyramid(model)(IMAGES).items():
            outputs[f"{net}.{level}"] = keras.ops.convert_to_numpy(features)
    model = compiled(tiny_net("resnest-2s2x", **DROPS))
    fit(model, epochs=2)
    for layer in model.layers:
        if isinstance(layer, kr.layers.DropPath):
            layer.rate = 0.375
    outputs["trained"] = call(model, IMAGES)
    model.save(folder / "trained.keras")
    # The layers that none of these nets has.
    x = keras.Input(IMAGES.shape[1:])
    y = kr.layers.BlurPool2D(2)(kr.layers.Preprocessor(16)(x))
    mean, tokens = kr.layers.PositionedTokens(8)(kr.layers.StandardizedConv2D(16, 1)(y))
    y = kr.layers.HeadsAttention(8)([mean, tokens, tokens])
    model = keras.Model(x, kr.layers.PointwiseDense(3)(y))
    (folder / "rest.config.json").write_text(model.to_json())
    run_child(_RELOAD, folder)
    return folder, outputs


def assert_same(saved, reloaded: str, original: str) -> None:
    folder, outputs = saved
    np.testing.assert_array_equal(
        np.load(folder / f"{reloaded}.npy"), outputs[original], err_msg=reloaded
    )


# Not parametrised: workers that share the tests of one net would each make all files.
@pytest.mark.backend
def test_keras_files_give_the_same_bits_in_a_fresh_process(saved):
    for net in SAVED:
        assert_same(saved, net, net)


@pytest.mark.backend
def test_weights_files_give_the_same_bits_in_models_built_anew(saved):
    for net in SAVED:
        assert_same(saved, f"{net}.weights", net)
        assert_same(saved, f"{net}.built", net)


@pytest.mark.backend
def test_a_trained_model_comes_back_with_the_rates_it_had_last(saved):
    assert_same(saved, "trained", "trained")
    folder, outputs = saved
    assert not np.array_equal(outputs["trained"], outputs["resnest-2s2x"]), "nothing was learnt"
    layers = json.loads((folder / "trained.config.json").read_text())["config"]["layers"]
    rates = {
        kind: {layer["config"]["rate"] for layer in layers if layer["class_name"] == kind}
        for kind in ("DropPath", "DropBlock2D")
    }
    # A drop rate moved by hand is configuration; DropBlock's are those of the last two stages.
    assert rates == {"DropPath": {0.375}, "DropBlock2D": {DROPS["drop_block"] / 4, 0.125}}


@pytest.mark.backend
def test_loaded_models_have_their_feature_pyramids(saved):
    for net in SAVED:
        levels = [name for name in saved[1] if name.startswith(f"{net}.P")]
        assert len(levels) >= 3
        for level in levels:
            assert_same(saved, level, level)


@pytest.mark.backend
def test_the_saved_models_hold_every_layer_of_ours(saved):
    """Else the tests above would say nothing of the layer that is missing here."""
    folder, _ = saved
    configs = [json.loads(path.read_text()) for path in folder.glob("*.config.json")]
    assert len(configs) == len(SAVED) + 2
    registered = {layer["registered_name"] for c in configs for layer in c["config"]["layers"]}
    assert {f"keras_resnets>{name}" for name in kr.layers.__all__} <= registered


def package_layers() -> set[type[keras.layers.Layer]]:
    return {
        value
        for name, module in sys.modules.items()
        if name.startswith("keras_resnets")
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, keras.layers.Layer)
        if value.__module__.startswith("keras_resnets")
    }


def test_every_layer_class_is_registered_under_the_package():
    classes = package_layers()
    assert {getattr(kr.layers, name) for name in kr.layers.__all__} <= classes
    for layer in classes:
        if layer.__subclasses__() or layer is Student:
            continue  # A base is in no model, and a student is not saved: the model in it is.
        name = keras.saving.get_registered_name(layer)
        assert name == f"keras_resnets>{layer.__name__}"
        assert keras.saving.get_registered_object(name) is layer


@pytest.mark.parametrize("net", NETS)
def test_no_model_holds_a_lambda_or_anothers_layer(net):
    """Safe mode refuses a Lambda layer, and a file cannot carry its function."""
    for layer in tiny_net(net, include_preprocessing=True).layers:
        assert not isinstance(layer, keras.layers.Lambda)
        # `x + y` between symbolic tensors would leave an operation in place of a layer.
        assert isinstance(layer, keras.layers.Layer), layer
        own = getattr(kr.layers, type(layer).__name__, None)
        public = getattr(keras.layers, type(layer).__name__, None)
        assert type(layer) in (own, public), layer


@pytest.mark.backend
def test_a_loaded_model_and_a_new_one_make_one_graph(tmp_path):
    """Layer names must be unique within a graph: that is what `prefix` is for."""
    tiny_net("resnest-2s2x", prefix="a.").save(tmp_path / "a.keras")
    first = keras.models.load_model(tmp_path / "a.keras")
    second = tiny_net("rexnet", prefix="b.", input_tensor=first.input)
    both = keras.Model(first.input, [first.output, second.output])
    both.save(tmp_path / "both.keras")
    reloaded = keras.models.load_model(tmp_path / "both.keras")
    for model in (both, reloaded):
        results = [keras.ops.convert_to_numpy(y) for y in model(IMAGES)]
        for ours, alone in zip(results, (first, second), strict=True):
            np.testing.assert_array_equal(ours, call(alone, IMAGES))
        for prefix, levels in (("a.", 3), ("b.", 5)):
            assert len(kr.feature_levels(model, prefix)) == levels


# Depth -------------------------------------------------------------------------------------------

_DEEP = """
import sys
import keras
import keras_resnets
import numpy as np

model = keras.models.load_model(sys.argv[1])
images = np.load(sys.argv[2])
np.save(sys.argv[3], keras.ops.convert_to_numpy(model(images)))
clone = keras.models.clone_model(model)
clone.set_weights(model.get_weights())
np.save(sys.argv[4], keras.ops.convert_to_numpy(clone(images)))
"""


@pytest.mark.long
def test_a_network_of_269_layers_is_loaded_and_cloned_in_a_fresh_process(tmp_path):
    """Keras walks a graph by recursion: at Python's default limit it ends halfway."""
    model = kr.ResNeSt269(
        weights=None, planes=(8, 8, 8, 8), stem_width=4, classes=10, classifier_activation=None
    )
    assert len(model.layers) > 2000
    expected = call(fill(model), IMAGES)
    assert np.all(np.isfinite(expected))
    model.save(tmp_path / "deep.keras")
    paths = [tmp_path / name for name in ("deep.keras", "images.npy", "loaded.npy", "clone.npy")]
    np.save(paths[1], IMAGES)
    run_child(_DEEP, *paths)
    np.testing.assert_array_equal(np.load(paths[2]), expected)
    np.testing.assert_array_equal(np.load(paths[3]), expected)


# Formats for deployment --------------------------------------------------------------------------

tensorflow_only = pytest.mark.skipif(BACKEND != "tensorflow", reason="Exports by TensorFlow.")


def nested_calls(function) -> list[str]:
    """Calls of functions by functions, and functions for XLA, in all that this one runs.

    A loaded signature is itself one call of the function that holds the model, with the weights
    bound; what that function calls in turn is nested.
    """
    library = function.graph.as_graph_def().library.function
    calls = [
        f"{definition.signature.name}: {node.name}"
        for definition in library
        for node in definition.node_def
        if "PartitionedCall" in node.op
    ]
    compiled = [d.signature.name for d in library if d.attr["_XlaMustCompile"].b]
    return calls + compiled


@tensorflow_only
def test_the_serving_graph_of_a_grouped_network_nests_no_function(tmp_path):
    """A function around each convolution keeps converters (ONNX, LiteRT) from seeing it."""
    import tensorflow as tf

    path = str(tmp_path / "served")
    tiny_net("resnest-2s2x").export(path, verbose=False)
    serving = tf.saved_model.load(path).signatures["serving_default"]
    definitions = serving.graph.as_graph_def().library.function
    convs = [node for d in definitions for node in d.node_def if node.op == "Conv2D"]
    groups = sum(
        isinstance(layer, keras.layers.Conv2D) for layer in tiny_net("resnest-2s2x").layers
    )
    assert len(convs) == groups, "not one operation for each layer"
    assert nested_calls(serving) == []

    # The check can fail: such a function is found.
    @tf.function(input_signature=[tf.TensorSpec((None, 8))])
    def outer(x):
        return middle(x)

    @tf.function
    def middle(x):
        return inner(x)

    @tf.function(jit_compile=True)
    def inner(x):
        return tf.nn.relu(x)

    assert len(nested_calls(outer.get_concrete_function())) == 2
