"""Everything that works on a model works on one network of each kind, or says why it does not.

A kind is what makes a network differ in a way that another part of the package could trip over: its
names, its head, norms that cannot be folded, kernels that are standardised, widths that are data.
The older families have the same tests in the files of what they test.
"""

import warnings

import keras
import numpy as np
import pytest
from deterministic import random_images
from goldens_io import relative_error
from tiny_nets import compiled, fill

import keras_resnets as kr
from keras_resnets import catalog
from keras_resnets.deploy.formats import FORMATS
from keras_resnets.graph.remat import BACKENDS
from keras_resnets.layers import StandardizedConv2D

SMALL = dict(depths=(1, 2), planes=(16, 16))
BY_32 = dict(depths=(1, 2), planes=(32, 32))
PRUNED = SMALL | dict(outputs=(19, 37), widths=(((9, 7),), ((11, 5), (13, 12))), stem_width=8)
KINDS = {
    "eca": ("ecaresnetlight", SMALL),
    "anti-aliased": ("resnetblur50d", SMALL),
    "rs": ("resnetrs50", SMALL),
    "group norm": ("resnet50_gn", BY_32),
    "pruned": ("ecaresnet50d_pruned", PRUNED),
    "sk": ("skresnext50_32x4d", SMALL | dict(cardinality=2, base_width=32)),
    "sk basic": ("skresnet18", SMALL),
    "v2": ("resnetv2_50d", SMALL),
    "v2 basic": ("resnetv2_18", SMALL),
    "bit": ("resnetv2_50x1_bit", BY_32),
    "q": ("resnet61q", dict(depths=(1, 1, 2), planes=(16, 32, 24), features=40)),
    "ts": ("seresnet33ts", SMALL | dict(features=24)),
    "mlp": ("resnet50_mlp", SMALL | dict(hidden=24)),
    "clip": ("resnet50_clip", SMALL | dict(grid=8)),
    "clip gap": ("resnet50_clip_gap", SMALL),
    "cifar res2next": ("res2next29_6cx24wx4s", dict(depths=(1, 2), planes=(16, 16))),
}
# Norms that are in front of convolutions, or behind a pool.
UNFOLDABLE = {"v2", "v2 basic", "mlp"}
WITHOUT_BATCH_NORMS = {"group norm", "bit"}
every_kind = pytest.mark.parametrize("kind", KINDS)
IMAGES = random_images(64, 64, batch=2)


def tiny(kind: str, **arguments) -> keras.Model:
    variant, changes = KINDS[kind]
    arguments = dict(weights=None, classes=10, classifier_activation=None) | arguments
    return fill(kr.create_model(variant, **changes, **arguments))


def outputs(model: keras.Model, images=IMAGES) -> np.ndarray:
    return model.predict_on_batch(images)


@pytest.mark.long
def test_every_family_has_its_kind():
    """A family without one would be tried by nothing but parity."""
    older = {"ResNeXt", "ResNeSt", "ReXNet"}
    tried = {type(catalog.find_variant(variant).config) for variant, _ in KINDS.values()}
    missing = {
        family
        for family, module in catalog.FAMILIES.items()
        if not tried & {type(getattr(module, name).config) for name in module.__all__}
    }
    assert missing == older


@pytest.mark.long
@every_kind
def test_it_is_saved_and_read_in_every_format(kind, tmp_path):
    model = tiny(kind)
    expected = outputs(model)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        outputs(keras.saving.load_model(tmp_path / "model.keras")), expected
    )
    variant, changes = KINDS[kind]
    again = dict(weights=None, classes=10, classifier_activation=None)
    kr.save_safetensors(model, tmp_path / "model.safetensors")
    for weights in (tmp_path / "model.safetensors", tmp_path / "model.weights.h5"):
        if weights.suffix == ".h5":
            model.save_weights(weights)
        other = kr.create_model(variant, **changes, **again | dict(weights=weights))
        np.testing.assert_array_equal(outputs(other), expected)


@pytest.mark.long
@every_kind
def test_another_classifier_keeps_the_backbone_and_what_was_trained_in_front(kind, tmp_path):
    model = tiny(kind)
    weights = tmp_path / "model.safetensors"
    kr.save_safetensors(model, weights)
    variant, changes = KINDS[kind]
    with pytest.warns(UserWarning, match="starts from random weights"):
        other = kr.create_model(variant, **changes, classes=3, weights=weights)
    assert other.output_shape == (None, 3)
    kept = {layer.name for layer in model.layers if layer.weights} - {"fc", "head_fc", "head_proj"}
    for name in kept:
        ours, theirs = (net.get_layer(name).get_weights() for net in (other, model))
        for one, two in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, two)
    headless = kr.create_model(variant, **changes, include_top=False, weights=weights)
    assert len(headless.output_shape) == 4
    assert kr.reset_classifier(model, 4).output_shape == (None, 4)


@pytest.mark.long
@every_kind
def test_it_is_frozen_up_to_a_stage(kind):
    model = tiny(kind)
    variant, _ = KINDS[kind]
    first = "layer1" if model.layers[-1].name == "fc" else "stages_0"
    frozen = kr.freeze(model, until=first)
    stages = {name.split("_")[0] for name in frozen}
    assert any(name.startswith(first) for name in frozen)
    trainable = {layer.name for layer in model.layers if layer.trainable_weights}
    assert trainable
    assert not trainable & set(frozen)
    assert stages
    assert {"P2", "P1"} <= set(kr.feature_levels(model)), variant


@pytest.mark.long
@every_kind
def test_its_levels_have_their_strides_and_channels(kind):
    model = tiny(kind)
    levels = kr.feature_levels(model)
    small = kind == "cifar res2next"
    strides = [level.stride for level in levels.values()]
    assert strides == ([1, 1, 2] if small else [2, 4, 8, 16][: len(levels)])
    for name, feature_map in kr.feature_pyramid(model).predict_on_batch(IMAGES).items():
        size = 64 // levels[name].stride
        assert feature_map.shape == (2, size, size, levels[name].channels)


@pytest.mark.long
@every_kind
def test_it_is_folded_or_says_which_norm_cannot_be(kind):
    model = tiny(kind)
    expected = outputs(model)
    if kind in UNFOLDABLE:
        with pytest.raises(ValueError, match=r"norm1'|head_norm'"):
            kr.fold_batch_norms(model)
    folded = kr.fold_batch_norms(model, strict=kind not in UNFOLDABLE)
    assert relative_error(outputs(folded), expected) < 1e-5
    norms = [isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers]
    assert any(norms) == (kind in UNFOLDABLE)
    before = sum(isinstance(x, keras.layers.BatchNormalization) for x in model.layers)
    assert sum(norms) < before or kind in WITHOUT_BATCH_NORMS | {"v2 basic"}
    assert not any(isinstance(layer, StandardizedConv2D) for layer in folded.layers)


@pytest.mark.long
@every_kind
def test_grad_cam_sees_where_its_classes_come_from(kind):
    # Of several classes, for nothing may speak for one.
    heat = kr.grad_cam(tiny(kind), np.repeat(IMAGES[:1], 5, 0), class_index=[0, 1, 2, 3, 4])
    assert heat.shape == (5, 64, 64)
    assert heat.max() == 1
    assert heat.min() >= 0


@pytest.mark.long
@every_kind
def test_it_trains_with_every_rate_and_a_smaller_stride(kind):
    model = compiled(tiny(kind, drop_path=0.2, drop_block=0.1, dropout=0.1, output_stride=8))
    before = {v.path: keras.ops.convert_to_numpy(v).copy() for v in model.variables}
    loss = model.train_on_batch(IMAGES, np.array([0, 3]))
    assert np.isfinite(loss if np.isscalar(loss) else loss[0])
    after = {v.path: keras.ops.convert_to_numpy(v) for v in model.trainable_variables}
    moved = [path for path, value in after.items() if not np.array_equal(value, before[path])]
    assert len(moved) > len(after) // 2


@pytest.mark.long
@every_kind
def test_remat_changes_no_value(kind):
    if keras.backend.backend() not in BACKENDS:
        pytest.skip("remat needs TensorFlow or JAX")
    losses = []
    for remat in (False, True):
        keras.utils.set_random_seed(0)
        model = compiled(tiny(kind, remat=remat))
        loss = model.train_on_batch(IMAGES, np.array([0, 3]))
        losses.append([loss, *map(np.asarray, model.get_weights())])
    assert relative_error(losses[1][0], losses[0][0]) < 1e-5
    for one, two in zip(losses[0][1:], losses[1][1:], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5)


@pytest.mark.long
def test_a_clip_tower_returns_an_embedding_unless_asked_for_classes():
    variant, changes = KINDS["clip"]
    embedding = kr.create_model(variant, weights=None, **changes)
    assert embedding.output_shape == (None, 1024)
    assert embedding.layers[-1].activation is keras.activations.linear
    classifier = kr.create_model(variant, weights=None, classes=3, **changes)
    assert classifier.layers[-1].activation is keras.activations.softmax
    assert kr.create_model("resnet50_clip_gap", weights=None, **SMALL).output_shape == (None, 64)


@pytest.mark.long
@pytest.mark.parametrize("grid", [(4, 4), (3, 7), (8, 8), (11, 5)])
def test_positions_are_resampled_as_pillow_does(grid):
    """The two are independent: matrices here, C there."""
    image = pytest.importorskip("PIL.Image")
    from keras_resnets.layers.attention_pool import cubic_weights

    table = np.random.default_rng(0).normal(size=(8, 8)).astype("float32")
    rows, columns = (keras.ops.convert_to_numpy(cubic_weights(size, 8, "float32")) for size in grid)
    ours = rows @ table @ columns.T
    theirs = image.fromarray(table).resize((grid[1], grid[0]), image.Resampling.BICUBIC)
    np.testing.assert_allclose(ours, np.asarray(theirs), atol=1e-5)


@pytest.mark.exhaustive
@every_kind
def test_it_is_exported_in_every_format(kind, tmp_path):
    model = tiny(kind)
    for format, facts in FORMATS.items():
        path = tmp_path / f"model{facts.suffix}"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            report = kr.export(model, path, format=format, image_size=64)
        assert report.max_difference <= report.tolerance
        said = any("Exported with batch norms" in str(warning.message) for warning in caught)
        assert said == (report.unfolded is not None) == (kind in UNFOLDABLE)


@pytest.mark.exhaustive
@pytest.mark.parametrize("format", ["litert", "onnx"])  # OpenVINO has the quantizer of ONNX.
@every_kind
def test_it_is_quantized(kind, format, tmp_path):
    path = tmp_path / f"model{FORMATS[format].suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = kr.export(
            tiny(kind),
            path,
            format=format,
            image_size=64,
            precision="int8",
            data=random_images(64, 64, batch=32),
        )
    assert report.max_difference < 0.5
