"""What people write who come from keras.applications and NumPy: it works, or is told what would."""

import dataclasses
import inspect
import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_resnets as kr
from keras_resnets import catalog, preparation
from keras_resnets.training.config import resolve

TINY = dict(depths=(1, 1), planes=(16, 32))


def tiny(**arguments) -> keras.Model:
    return kr.ResNet18(**{"weights": None, **TINY, **arguments})


# NumPy's numbers ----------------------------------------------------------------------------------

NUMPY_ARGUMENTS = {
    "include_top": [np.True_, np.bool_(False)],
    "input_shape": [
        tuple(np.array([64, 64, 3])),
        np.array([64, 64, 3]),
        [np.int32(64), None, np.uint8(3)],
        np.zeros((2, 64, 64, 1)).shape[1:],
    ],
    "pooling": [np.str_("max")],
    "classes": [np.array([0, 6]).max() + 1, np.int32(7), np.uint8(7), np.array(7)],
    "classifier_activation": [np.str_("sigmoid")],
    "name": [np.str_("mine")],
    "include_preprocessing": [np.True_],
    "output_stride": [np.int64(16), np.int16(8)],
    "dropout": [np.float32(0.5), np.float16(0.5), np.float64(0.5), np.array(0.5)],
    "drop_path": [np.float32(0.25), np.float64(0.25), np.array(0.25, "float32")],
    "drop_block": [np.float32(0.25), np.int64(0)],
    "remat": [np.False_],
    "prefix": [np.str_("left.")],
}
NO_NUMBERS = {"weights", "input_tensor"}


@pytest.mark.long
def test_every_argument_of_the_builder_is_tried_with_numpys_values():
    arguments = set(inspect.signature(kr.Variant.__call__).parameters) - {"self", "config_changes"}
    assert arguments == set(NUMPY_ARGUMENTS) | NO_NUMBERS


def as_python(value):
    if isinstance(value, np.ndarray):
        return value.tolist() if value.ndim == 0 else tuple(value.tolist())
    if isinstance(value, (tuple, list)):
        return type(value)(map(as_python, value))
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.long
@pytest.mark.parametrize(
    ("argument", "value"),
    [(key, value) for key, values in NUMPY_ARGUMENTS.items() for value in values],
    ids=repr,
)
def test_numpys_numbers_build_what_pythons_do_and_are_saved(argument, value):
    keras.utils.clear_session()
    model = tiny(**{argument: value})
    keras.utils.clear_session()
    expected = tiny(**{argument: as_python(value)})
    assert json.dumps(model.get_config()) == json.dumps(expected.get_config())


FAMILIES = {type(variant.config): name for name, variant in catalog.variants().items()}


@pytest.mark.long
@pytest.mark.parametrize("as_numpy", [np.asarray, lambda value: np.asarray(value)[()]])
@pytest.mark.parametrize("name", FAMILIES.values(), ids=[kind.__name__ for kind in FAMILIES])
def test_numpys_numbers_are_fields_of_every_familys_configuration(name, as_numpy, monkeypatch):
    """Numbers, flags and tuples of numbers, all of them at once."""
    variant, seen = getattr(kr, name), []
    numbers = {
        field.name: as_numpy(value)
        for field in dataclasses.fields(variant.config)
        for value in [getattr(variant.config, field.name)]
        if field.name != "widths"  # Pairs in rows of several lengths: no array.
        and np.asarray(value).dtype.kind in "biuf"
        and value is not None
    }
    assert numbers
    kind = type(variant.config)
    monkeypatch.setattr(kind, "check", lambda config, options: seen.append(config) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        variant(weights=None, **numbers)
    assert seen == [variant.config]
    json.dumps([getattr(seen[0], field) for field in numbers])


@pytest.mark.long
@pytest.mark.parametrize(
    "value", [np.float64(7.0), np.array([7, 8]), np.nan, np.array("7"), np.array([[7]])], ids=repr
)
def test_what_is_no_number_of_classes_is_refused_in_numpys_form_too(value):
    with pytest.raises(ValueError, match="classes must be a positive int"):
        tiny(classes=value)


LAYERS = {
    "DropPath": dict(rate=np.float32(0.25)),
    "DropBlock2D": dict(rate=np.float64(0.25), block_size=np.int64(3)),
    "BlurPool2D": dict(stride=np.int64(2)),
    "Subsample2D": dict(stride=np.uint8(2)),
    "SplitChannels": dict(sections=np.int32(2)),
    "PadChannels": dict(channels=np.int64(8)),
    "Preprocessor": dict(
        size=np.array([32, 48]), crop_pct=np.float32(0.5), mean=np.full(3, 0.5), std=np.ones(3)
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", LAYERS)
def test_numpys_numbers_are_arguments_of_layers_and_are_saved(name):
    layer = getattr(kr.layers, name)(**LAYERS[name])
    config = json.loads(json.dumps(layer.get_config()))
    assert type(layer).from_config(config).get_config() == layer.get_config()


@pytest.mark.long
def test_numpys_numbers_are_taken_elsewhere_too():
    model = tiny(classes=3)
    assert kr.reset_classifier(model, np.int64(5)).output_shape == (None, 5)
    assert kr.count_macs(model, np.array([64, 64, 3])) == kr.count_macs(model, (64, 64, 3))
    stated = {"input_size": np.array([3, 64, 48]), "mean": np.full(3, 0.5), "crop_pct": np.array(1)}
    assert preparation.Preparation.stated_in(stated).size == (64, 48)
    assert kr.preprocessor(stated).mean == (0.5, 0.5, 0.5)
    changes = dict(epochs=np.int64(3), mixup=np.float32(0.5), depths=np.array([1, 1, 1]))
    options = dict(seed=np.int64(3), class_weights={"0": np.float32(2)})
    stored = resolve("digits", "resnet20", "none", changes=changes, **options).as_dict()
    assert (stored["seed"], stored["recipe"]["epochs"]) == (3, 3)
    assert stored["recipe"]["config_changes"] == {"depths": [1, 1, 1]}


# The order of axes --------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("name", ["resnet50", "resnet20", "rexnet_100"])
@pytest.mark.parametrize("shape", [(3, 224, 224), (1, 64, 64), (4, 96, 64), (3, 32, 32)])
def test_channels_in_front_are_told_the_order_of_axes(shape, name):
    order = r"must be \(height, width, channels\), channels last"
    with pytest.raises(ValueError, match=rf"input_shape {order}\. Received: input_shape=\(\d, "):
        kr.create_model(name, weights=None, input_shape=shape)
    with pytest.raises(ValueError, match=rf"input_tensor {order}"):
        kr.create_model(name, weights=None, input_tensor=keras.Input(shape))


@pytest.mark.long
@pytest.mark.parametrize("shape", [(3, 224, 224), (16, 16, 3), (224, 224, 3), None])
def test_the_data_format_is_looked_at_before_the_shape(shape):
    """A shape is right or wrong by it."""
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match=r"set_image_data_format\('channels_last'\)"):
            tiny(input_shape=shape)
    finally:
        keras.config.set_image_data_format("channels_last")


# The signature of keras.applications --------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("builder", [keras.applications.ResNet50, keras.applications.ConvNeXtTiny])
def test_the_first_arguments_are_those_of_keras_applications(builder):
    theirs = [name for name in inspect.signature(builder).parameters if name != "name"][:7]
    if "include_preprocessing" in theirs:  # Of newer ones it is among them, and one by keyword.
        theirs.remove("include_preprocessing")
    ours = list(inspect.signature(kr.ResNet50).parameters)
    assert [name for name in ours if name in theirs] == theirs
    assert ours[7] == list(inspect.signature(keras.applications.ResNet50).parameters)[7] == "name"


@pytest.mark.long
def test_eight_arguments_by_their_place_are_those_of_keras_applications():
    model = kr.ResNet50(True, None, None, (64, 64, 3), "max", 10, "sigmoid", "mine")
    assert (model.name, model.output_shape) == ("mine", (None, 10))
    assert model.layers[-1].activation is keras.activations.sigmoid
    backbone = kr.ResNet50(False, None, keras.Input((64, 64, 3)), None, "avg")
    assert backbone.output_shape == (None, 2048)


@pytest.mark.long
@pytest.mark.parametrize("function", ["preprocess_input", "decode_predictions"])
def test_functions_beside_the_models_take_what_keras_applications_do(function):
    theirs = inspect.signature(getattr(keras.applications.resnet, function)).parameters
    ours = inspect.signature(getattr(kr, function)).parameters
    assert list(ours)[1:] == list(theirs)[1:]
    assert [p.default for p in ours.values()][1:] == [p.default for p in theirs.values()][1:]


@pytest.mark.long
def test_another_data_format_is_refused_by_its_name():
    images = np.zeros((1, 8, 8, 3), "uint8")
    for same in (dict(), dict(data_format=None), dict(data_format="channels_last")):
        np.testing.assert_array_equal(
            kr.preprocess_input(images, **same), kr.preprocess_input(images)
        )
    with pytest.raises(ValueError, match="data_format must be 'channels_last'"):
        kr.preprocess_input(images, data_format="channels_first")


@pytest.mark.long
@pytest.mark.parametrize("pooling", ["", "none", "None", "average"])
def test_a_pooling_that_is_none_is_refused_by_its_rule(pooling):
    with pytest.raises(ValueError, match='pooling must be None, "avg" or "max"'):
        tiny(pooling=pooling)


@pytest.mark.long
@pytest.mark.parametrize(
    ("wrong", "meant"),
    {
        "clases": "classes",
        "num_classes": "classes",
        "weight": "weights",
        "pool": "pooling",
        "activation": "classifier_activation",
        "inputshape": "input_shape",
        "include_tp": "include_top",
        "dropot": "dropout",
        "plane": "planes",
    }.items(),
)
@pytest.mark.parametrize("name", ["resnet18", "resnest50d"])
def test_a_misspelt_argument_is_told_the_nearest_of_arguments_and_fields(name, wrong, meant):
    with pytest.raises(TypeError, match=rf"Did you mean '{meant}'\?.*Received: {wrong}=10"):
        kr.create_model(name, weights=None, **{wrong: 10})


# Another classifier -------------------------------------------------------------------------------


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


def values(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(images, training=False))


def of_the_package() -> keras.Model:
    return tiny(classes=4)


def with_preprocessing() -> keras.Model:
    return tiny(classes=4, include_preprocessing=True)


def of_rexnet() -> keras.Model:
    """Its head is two layers and a dropout."""
    return kr.create_model(
        "rexnet_100", weights=None, depth=0.2, initial_channels=4, final_channels=40
    )


def of_others() -> keras.Model:
    image = keras.Input((32, 32, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3)(image))
    return keras.Model(image, layers.Dense(4, activation="relu", name="own")(x))


def of_logits_and_a_softmax() -> keras.Model:
    return keras.Sequential(
        [
            *(keras.Input((32, 32, 3)), tiny(include_top=False, pooling="avg")),
            *(layers.Dropout(0.5), layers.Dense(4, name="own"), layers.Softmax()),
        ]
    )


CLASSIFIERS = [
    of_the_package,
    with_preprocessing,
    of_rexnet,
    of_others,
    of_logits_and_a_softmax,
]


@pytest.mark.long
@pytest.mark.parametrize("make", CLASSIFIERS)
def test_another_classifier_stands_on_the_same_backbone(make):
    model, images = make(), random_images(2, 32, 32, 3)
    other = kr.reset_classifier(model, 7)
    assert other.output_shape == (None, 7)
    assert other.layers[-1].activation is keras.activations.softmax
    kernels = {id(variable) for variable in model.variables}
    own = [variable for variable in other.variables if id(variable) not in kernels]
    assert [variable.name for variable in own] == ["kernel", "bias"]
    assert own[0].path.split("/")[0] in {layer.name for layer in model.layers}
    np.testing.assert_allclose(values(other, images).sum(1), 1, rtol=1e-5)
    logits = kr.reset_classifier(model, 7, activation=None)
    assert logits.layers[-1].activation is keras.activations.linear


@pytest.mark.long
@pytest.mark.parametrize("make", CLASSIFIERS)
def test_no_classifier_leaves_the_pre_logits(make):
    model, images = make(), random_images(2, 32, 32, 3)
    before = kr.reset_classifier(model, 0)
    x = values(before, images)
    assert x.ndim == 2
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)][-1]
    scores = keras.ops.matmul(x, dense.kernel) + dense.bias
    activation = keras.activations.softmax if make is of_logits_and_a_softmax else dense.activation
    np.testing.assert_allclose(activation(scores), values(model, images), rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_another_classifier_is_saved_trained_and_replaced_again(tmp_path):
    model = kr.reset_classifier(of_the_package(), 7)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(random_images(4, 32, 32, 3), np.arange(4), verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert kr.reset_classifier(loaded, 2).output_shape == (None, 2)
    assert list(kr.feature_levels(model)) == list(kr.feature_levels(of_the_package()))


@pytest.mark.long
def test_a_model_of_half_precision_and_one_that_remats_stay_so():
    model = tiny(classes=4, remat=True)
    assert type(kr.reset_classifier(model, 2)) is type(model)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        other = kr.reset_classifier(tiny(classes=4), 2)
    finally:
        keras.config.set_dtype_policy("float32")
    assert other.layers[-1].compute_dtype == "float32"


def two_outputs() -> keras.Model:
    image = keras.Input((32, 32, 3))
    x = layers.GlobalAveragePooling2D()(image)
    return keras.Model(image, [layers.Dense(4)(x), layers.Dense(2)(x)])


def nested() -> keras.Model:
    return keras.Sequential([keras.Input((32, 32, 3)), layers.Rescaling(2.0), of_the_package()])


@pytest.mark.long
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tiny(include_top=False, pooling="avg"), r"must end in a dense layer"),
        (lambda: tiny(include_top=False), r"must end in a dense layer"),
        (lambda: kr.reset_classifier(of_the_package(), 0), r"must end in a dense layer"),
        (nested, r"must end in a dense layer.*model\.get_layer\('resnet18'\)"),
        (two_outputs, r"model must have one output"),
        (lambda: keras.Sequential([layers.Dense(2)]), r"build it first"),
    ],
)
def test_a_model_without_a_classifier_of_its_own_is_told_so(make, message):
    with pytest.raises(ValueError, match=message):
        kr.reset_classifier(make(), 5)


@pytest.mark.long
@pytest.mark.parametrize("classes", [-1, 1.5, "5", True, None, np.float32(5)])
def test_what_is_no_number_of_classes_is_refused(classes):
    with pytest.raises(ValueError, match="classes must be an int from 0 up"):
        kr.reset_classifier(of_others(), classes)


# What tab completion shows ------------------------------------------------------------------------


@pytest.mark.long
def test_the_package_shows_its_public_names_and_nothing_else():
    assert dir(kr) == sorted([*kr.__all__, "__version__"])
    modules = [name for name in dir(kr) if inspect.ismodule(getattr(kr, name))]
    assert modules == ["layers"]  # Which is a namespace of classes, as in Keras.
    functions = {name for name in kr.__all__ if inspect.isfunction(getattr(kr, name))}
    variants = {name for name in kr.__all__ if isinstance(getattr(kr, name), kr.Variant)}
    assert set(kr.__all__) == functions | variants | {"Variant", "layers"}
    assert len(set(kr.__all__)) == len(kr.__all__)


@pytest.mark.long
def test_a_star_import_brings_what_is_shown():
    namespace: dict = {}
    exec("from keras_resnets import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(kr.__all__)


@pytest.mark.long
@pytest.mark.parametrize("name", ["catalog", "checks", "loading", "models", "training", "weights"])
def test_rooms_of_the_package_are_not_shown_and_can_be_imported(name):
    assert name not in dir(kr)
    assert inspect.ismodule(__import__(f"keras_resnets.{name}", fromlist=["x"]))


@pytest.mark.long
@pytest.mark.parametrize("namespace", [kr.layers], ids=["layers"])
def test_namespaces_show_classes_alone(namespace):
    shown = [name for name in dir(namespace) if not name.startswith("_")]
    assert shown == sorted(namespace.__all__)
