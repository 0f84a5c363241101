"""The same weights and images give the same values as in PyTorch (see tools/make_goldens.py)."""

import keras
import numpy as np
import pytest
from deterministic import random_images, sample_positions
from goldens_io import TOLERANCES, build, computing_in, parity, relative_error, values
from nets import CASES, FULL, TINY, Case, size_key

import keras_resnets as kr


def compare(case: Case) -> None:
    dtype = "float64" if case.float64 else "float32"
    with computing_in(dtype):
        compare_in(case, dtype)


def compare_in(case: Case, dtype: str) -> None:
    model = build(case)
    outputs = {
        **{name: level.output for name, level in kr.feature_levels(model).items()},
        "logits": model.output,
    }
    network = keras.Model(model.input, outputs)
    run, sizes = network, case.sizes
    if keras.backend.backend() == "jax":
        # Or it would compile every operation by itself. A network takes seconds as well, at every
        # size, so there is one: odd for the branches.
        run, sizes = network.predict_on_batch, sizes[1:2] or sizes
    for size in sizes:
        height, width, batch = size
        key = size_key(size)
        recorded = parity()[case.name]["sizes"][key]
        assert set(outputs) == set(recorded), "pyramid levels"
        images = random_images(height, width, case.input_channels, batch)
        results = run(images.astype(dtype))
        for name, entry in recorded.items():
            ours = keras.ops.convert_to_numpy(results[name])
            assert ours.dtype == dtype
            assert list(ours.shape) == entry["shape"], f"{key} {name}"
            if name != "logits":
                ours = ours.ravel()[sample_positions(ours.shape)]
            error = np.abs(ours - values()[f"{case.name}/{key}/{name}"]).max() / entry["max"]
            assert error <= TOLERANCES[dtype], f"{key} {name}: relative error {error:.1e}"


@pytest.mark.backend
@pytest.mark.parametrize("name", [case.name for case in TINY])
def test_every_branch_gives_the_values_of_pytorch(name):
    compare(CASES[name])


@pytest.mark.long
@pytest.mark.parametrize("name", [case.name for case in FULL])
def test_whole_variants_give_the_values_of_pytorch(name):
    """On TensorFlow: on JAX and torch Keras' own norms compute float64 in float32.

    `keras.backend.result_type("float64", "float32")` is float32 there. The tiny networks of every
    branch are compared on all three, and whole checkpoints on torch, in `test_published.py`.
    """
    compare(CASES[name])


def test_a_wrong_weight_deep_inside_is_noticed():
    """The comparison can fail: one kernel value of the last identity block, moved by 1 %."""
    case = CASES["bottleneck"]
    model = build(case)
    kernel = model.get_layer("layer2_1_conv2").kernel
    kernel.assign(kernel.numpy() * 1.01 if hasattr(kernel, "numpy") else kernel * 1.01)
    logits = model(random_images(64, 64))
    assert (
        relative_error(keras.ops.convert_to_numpy(logits), values()[f"{case.name}/64x64x1/logits"])
        > 10 * TOLERANCES["float32"]
    )
