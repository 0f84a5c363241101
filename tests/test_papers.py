"""What the papers say of their networks, as tests."""

import math

import keras
import numpy as np
import pytest
from deterministic import random_images
from goldens_io import architectures, build, relative_error
from nets import CASES

import keras_resnets as kr
from keras_resnets.models.resnest import parse_split, radix_softmax
from keras_resnets.models.resnext import ResNeXtConfig
from keras_resnets.models.variant import Variant

# Parameters in millions and, where the paper gives them, multiply-accumulates in billions, as
# printed: our exact numbers must round to them.
TABLES = {
    "He et al., arXiv:1512.03385, table 6 (CIFAR-10)": {
        "resnet20": ("0.27", None),
        "resnet32": ("0.46", None),
        "resnet44": ("0.66", None),
        "resnet56": ("0.85", None),
        "resnet110": ("1.7", None),
    },
    "Zagoruyko and Komodakis, arXiv:1605.07146, table 4": {"wide_resnet28_10": ("36.5", None)},
    "Xie et al., arXiv:1611.05431, table 1": {
        "resnet50": ("25.6", None),  # The table says 25.5: 25,557,032 cut off, not rounded.
        "resnext50_32x4d": ("25.0", "4.2"),
    },
    "Xie et al., arXiv:1611.05431, table 7 (CIFAR)": {
        "resnext29_8x64d": ("34.4", None),
        "resnext29_16x64d": ("68.2", None),  # The table says 68.1: 68,155,210 cut off.
    },
    "Zhang et al., arXiv:2004.08955, and the authors' ablation.md": {
        # The table says 26.3. The six other rows of the same code agree with it, so that figure
        # is taken for a slip.
        "resnest50d_1s1x64d": ("26.2", None),
        "resnest50d_2s1x64d": ("27.5", None),
        "resnest50d_4s1x64d": ("31.9", None),
        "resnest50d_1s2x40d": ("25.9", None),
        "resnest50d_2s2x40d": ("26.9", None),
        "resnest50d_4s2x40d": ("30.4", None),
        "resnest50d_1s4x24d": ("25.7", None),
        "resnest50d": ("27.5", None),
        "resnest101e": ("48.3", None),
        "resnest200e": ("70.2", None),
        "resnest269e": ("111", None),
    },
    "Han et al., arXiv:2007.00992, and the authors' repository": {
        "rexnet_100": ("4.8", "0.40"),
        "rexnet_130": ("7.6", "0.66"),
        "rexnet_150": ("9.7", "0.88"),
        "rexnet_200": ("16", "1.5"),
        "rexnet_lite_100": ("4.7", "0.41"),
        "rexnet_lite_130": ("6.7", "0.65"),  # Printed as 6.8: 6,747,960 rounded up.
        "rexnet_lite_150": ("8.3", "0.84"),
        "rexnet_lite_200": ("13", "1.5"),
    },
}
ROWS = [
    pytest.param(name, *figures, id=f"{name} ({table})")
    for table, rows in TABLES.items()
    for name, figures in rows.items()
]


@pytest.mark.parametrize(("name", "parameters", "macs"), ROWS)
def test_sizes_are_those_of_the_papers_tables(name, parameters, macs):
    # The goldens equal our models, by test_architectures.py.
    golden = architectures()[name]
    assert as_printed(golden["params"] / 1e6, parameters) == parameters
    assert macs is None or as_printed(golden["macs"] / 1e9, macs) == macs


def as_printed(value: float, like: str) -> str:
    """A value with as many decimals as another that was printed."""
    return f"{value:.{len(like.partition('.')[2])}f}"


# Xie et al., arXiv:1611.05431 --------------------------------------------------------------------


def weights_of(model, name):
    return [keras.ops.convert_to_numpy(w).astype("float64") for w in model.get_layer(name).weights]


def convolve(x, kernel, padding="same"):
    kernel = keras.ops.cast(kernel, "float64")
    return keras.ops.convert_to_numpy(
        keras.ops.conv(keras.ops.cast(x, "float64"), kernel, 1, padding)
    )


def normalise(x, gamma, beta, mean, variance):
    return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def relu(x):
    return np.maximum(x, 0)


def test_the_three_forms_of_the_resnext_block_are_one():
    """Figure 3: (a) paths that are summed, (b) early concatenation, (c) grouped convolution."""
    model = build(CASES["resnext"])
    name, cardinality = "layer2_1", 4
    block_input = model.get_layer("layer2_0_act3").output
    before_sum = model.get_layer(f"{name}_bn3").output
    x, form_c = keras.Model(model.input, [block_input, before_sum])(random_images(64, 64))
    x, form_c = (keras.ops.convert_to_numpy(t).astype("float64") for t in (x, form_c))

    (k1,), (k2,), (k3,) = (weights_of(model, f"{name}_conv{i}") for i in (1, 2, 3))
    bn1, bn2, bn3 = (weights_of(model, f"{name}_bn{i}") for i in (1, 2, 3))
    d = k1.shape[-1] // cardinality
    assert k2.shape == (3, 3, d, cardinality * d), "form (c) is one kernel of many groups"

    paths = []
    for c in range(cardinality):  # Each path knows its own d channels only.
        own = slice(c * d, (c + 1) * d)
        y = relu(normalise(convolve(x, k1[..., own]), *(p[own] for p in bn1)))
        paths.append(relu(normalise(convolve(y, k2[..., own]), *(p[own] for p in bn2))))
    form_b = normalise(convolve(np.concatenate(paths, axis=-1), k3), *bn3)
    form_a = normalise(
        sum(convolve(y, k3[:, :, c * d : (c + 1) * d]) for c, y in enumerate(paths)), *bn3
    )
    assert relative_error(form_b, form_a) < 1e-12
    assert relative_error(form_c, form_a) < 1e-5


def size_of(cardinality: int, base_width: int) -> tuple[int, int, int]:
    """Parameters, MACs and group convolution width of a ResNeXt-50 (1x64d is ResNet-50)."""
    config = ResNeXtConfig(depths=(3, 4, 6, 3), cardinality=cardinality, base_width=base_width)
    model = Variant("table_2", config)(weights=None)
    parameters = sum(math.prod(v.shape) for v in model.trainable_variables)
    return parameters, kr.count_macs(model), model.get_layer("layer1_0_conv2").filters


@pytest.mark.long
def test_trading_cardinality_for_width_keeps_the_complexity():
    """Table 2: C x d = 1x64, 2x40, 4x24, 8x14, 32x4, "with roughly preserved complexity"."""
    rows = {(1, 64): 64, (2, 40): 80, (4, 24): 96, (8, 14): 112, (32, 4): 128}
    sizes = {row: size_of(*row) for row in rows}
    reference = architectures()["resnet50"]
    assert sizes[1, 64][:2] == (reference["params"], reference["macs"])
    for row, group_width in rows.items():
        parameters, macs, width = sizes[row]
        assert width == group_width, row
        assert parameters == pytest.approx(reference["params"], rel=0.03), row
        assert macs == pytest.approx(reference["macs"], rel=0.06), row


def test_resnet50_and_resnext50_have_matching_sizes():
    """Table 1: 25.5 and 25.0 million parameters, 4.1 and 4.2 billion FLOPs."""
    resnet, resnext = (architectures()[name] for name in ("resnet50", "resnext50_32x4d"))
    assert resnext["params"] == pytest.approx(resnet["params"], rel=0.03)
    assert resnext["macs"] == pytest.approx(resnet["macs"], rel=0.04)


# He et al., arXiv:1512.03385 ---------------------------------------------------------------------


def test_the_first_block_of_stage_2_projects_at_stride_1():
    """Table 1: conv2_x widens 64 to 256 channels behind the max-pool, at the same resolution."""
    model = kr.ResNet50(weights=None, depths=(2, 2, 1, 1))
    projection = model.get_layer("layer1_0_downsample_0")
    assert (projection.strides, projection.filters) == ((1, 1), 256)
    assert model.get_layer("layer2_0_downsample_0").strides == (2, 2)
    names = {layer.name for layer in model.layers}
    assert not any("_1_downsample" in name for name in names), "other blocks have identities"
    basic = {layer.name for layer in kr.ResNet18(weights=None, depths=(1, 1, 1, 1)).layers}
    assert not any(name.startswith("layer1_0_downsample") for name in basic), "64 = 64"


def test_plain_networks_lack_the_shortcuts_alone():
    """Section 4.1: "So they have no extra parameter compared to the plain counterparts"."""
    residual = kr.ResNet20(weights=None)
    plain = kr.ResNet20(weights=None, residual=False)
    assert plain.count_params() == residual.count_params(), "option (A) has no parameters"
    kinds = [type(layer) for layer in plain.layers]
    assert keras.layers.Add not in kinds
    assert keras.layers.Add in [type(layer) for layer in residual.layers]


@pytest.mark.parametrize("name", ["resnet20", "resnext26ts"])
def test_no_scale_of_a_new_plain_network_is_zero(name):
    """At the end of a branch zeros are the identity beside a shortcut; alone they end all."""
    zeros = {
        residual: [
            layer.name
            for layer in kr.create_model(
                name, weights=None, residual=residual, depths=(1, 1, 1)
            ).layers
            if hasattr(layer, "gamma") and not np.any(layer.gamma)
        ]
        for residual in (True, False)
    }
    assert len(zeros[True]) == 3
    assert not zeros[False]


def test_the_cifar_shortcut_is_a_subsampled_identity_with_zeros_behind():
    """Section 4.2, option (A)."""
    model = kr.ResNet20(weights=None)
    network = keras.Model(
        model.input,
        [model.get_layer("P2").output, model.get_layer("layer2_0_downsample_pad").output],
    )
    before, after = (keras.ops.convert_to_numpy(t) for t in network(random_images(33, 33)))
    np.testing.assert_array_equal(after[..., :16], before[:, ::2, ::2])
    assert not after[..., 16:].any()


# Zhang et al., arXiv:2004.08955 ------------------------------------------------------------


@pytest.mark.long
def test_groups_are_cardinality_times_radix():
    """The number of feature-map groups is G = K R."""
    for name in kr.list_models("resnest50d_*s*x*d"):
        setting = parse_split(name.removeprefix("resnest50d_"))
        radix, cardinality = setting["radix"], setting["cardinality"]
        model = kr.create_model(name, weights=None, depths=(1, 1, 1, 1))
        conv = model.get_layer("layer1_0_conv2_conv" if radix else "layer1_0_conv2")
        assert conv.groups == cardinality * max(radix, 1), name
        assert conv.filters == setting["base_width"] * cardinality * max(radix, 1), name


def split_attention_by_cardinal(model, name, x, radix, cardinality):
    """Equations 1 to 3 read literally: one cardinal group after the other, as in figure 2.

    The kernels of the radix-major form are cut so that each group gets its own.
    """
    (kernel,) = weights_of(model, f"{name}_conv")
    bn0 = weights_of(model, f"{name}_bn0")
    fc1, bias1 = weights_of(model, f"{name}_fc1")
    bn1 = weights_of(model, f"{name}_bn1")
    fc2, bias2 = weights_of(model, f"{name}_fc2")
    width = x.shape[-1]
    c = width // cardinality  # channels of a cardinal group
    inputs = np.split(x, cardinality * radix, axis=-1)  # of the G groups of the convolution
    outputs = []
    for k in range(cardinality):
        splits = []
        for r in range(radix):
            g = r * cardinality + k  # radix-major position of split r of group k
            own = slice(g * c, (g + 1) * c)
            u = convolve(inputs[g], kernel[..., own])
            splits.append(relu(normalise(u, *(p[own] for p in bn0))))
        gap = sum(splits).mean(axis=(1, 2))  # Equation 1.
        squeezed = fc1.shape[-1] // cardinality
        own = slice(k * squeezed, (k + 1) * squeezed)
        hidden = relu(normalise(gap @ fc1[0, 0][:, own] + bias1[own], *(p[own] for p in bn1)))
        own = slice(k * radix * c, (k + 1) * radix * c)
        logits = (hidden @ fc2[0, 0][:, own] + bias2[own]).reshape(-1, radix, c)
        if radix == 1:  # Equation 3.
            attention = 1 / (1 + np.exp(-logits))
        else:
            attention = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        outputs.append(  # Equation 2.
            sum(attention[:, r, None, None] * split for r, split in enumerate(splits))
        )
    return np.concatenate(outputs, axis=-1)


@pytest.mark.parametrize(
    ("case", "radix", "cardinality", "end"),
    [
        ("resnest-1s2x-first", 1, 2, "mul"),
        ("resnest-2s1x", 2, 1, "add"),
        ("resnest-2s2x", 2, 2, "add"),
        ("resnest-4s2x-first", 4, 2, "add"),
    ],
)
def test_radix_major_and_cardinality_major_split_attention_agree(case, radix, cardinality, end):
    model = build(CASES[case])
    name = "layer2_1_conv2"
    network = keras.Model(
        model.input,
        [model.get_layer("layer2_1_act1").output, model.get_layer(f"{name}_{end}").output],
    )
    x, ours = network(random_images(64, 64, batch=2))
    x = keras.ops.convert_to_numpy(x).astype("float64")
    naive = split_attention_by_cardinal(model, name, x, radix, cardinality)
    assert relative_error(keras.ops.convert_to_numpy(ours), naive) < 1e-5


def test_attention_is_a_sigmoid_for_radix_1_and_a_softmax_across_radix_for_more():
    one = keras.Model(*attention_of(build(CASES["resnest-1s1x"])))(random_images(64, 64))
    assert keras.ops.convert_to_numpy(one).min() > 0
    assert keras.ops.convert_to_numpy(one).max() < 1
    two = keras.Model(*attention_of(build(CASES["resnest-2s2x"])))(random_images(64, 64))
    two = keras.ops.convert_to_numpy(two)  # (N, R, K, c)
    np.testing.assert_allclose(two.sum(axis=1), 1, rtol=1e-6)
    assert two.std() > 0.01, "not simply a half each"


def attention_of(model):
    return model.input, model.get_layer("layer2_1_conv2_rsoftmax").output


def test_radix_softmax_turns_cardinality_major_into_radix_major():
    radix, cardinality, channels = 3, 2, 5
    inputs = keras.Input((1, 1, radix * cardinality * channels))
    model = keras.Model(inputs, radix_softmax(inputs, radix, cardinality, "softmax"))
    a = np.random.RandomState(0).randn(4, 1, 1, radix * cardinality * channels).astype("float32")
    ours = keras.ops.convert_to_numpy(model(a)).reshape(4, radix, cardinality, channels)
    for k in range(cardinality):
        logits = a.reshape(4, cardinality, radix, channels)[:, k]
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(ours[:, :, k], expected, rtol=1e-5)


# Han et al., arXiv:2007.00992 ------------------------------------------------------------


@pytest.mark.parametrize("variant", [kr.ReXNet100, kr.ReXNet150, kr.ReXNet300, kr.ReXNetR200])
def test_the_channels_of_rexnet_grow_linearly_block_by_block(variant):
    """The channel count is a linear function of the block's index."""
    config = variant.config
    channels = [plan.channels for plan in config.block_plans()]
    step = 180 / 16 * config.width
    expected = [16 * config.width + i * step for i in range(16)]
    # Rounding to a multiple moves each by at most half of it; the line itself never bends.
    np.testing.assert_allclose(channels, expected, atol=max(config.divisor / 2, 0.5) + 0.5)
    model = variant(weights=None)
    assert channels == [
        model.get_layer(f"features_{i}_conv_pwl_conv").filters for i in range(len(channels))
    ]


def test_rexnet_shortcuts_feed_the_first_channels_and_never_cross_a_stride():
    model = build(CASES["rexnet"])
    adds = {int(layer.name.split("_")[1]) for layer in model.layers if layer.name.endswith("_add")}
    # Blocks 1, 3, 5 and 11 halve the resolution; block 0 narrows the stem's 32 channels to 16.
    assert adds == set(range(16)) - {0, 1, 3, 5, 11}
    network = keras.Model(
        model.input,
        [
            model.get_layer(name).output
            for name in ("features_3_conv_pwl_bn", "features_4_conv_pwl_bn", "features_4_add")
        ],
    )
    x, branch, total = (keras.ops.convert_to_numpy(t) for t in network(random_images(64, 64)))
    narrow = x.shape[-1]
    assert narrow < branch.shape[-1]
    np.testing.assert_allclose(total[..., :narrow], branch[..., :narrow] + x, rtol=1e-6)
    np.testing.assert_array_equal(total[..., narrow:], branch[..., narrow:])
