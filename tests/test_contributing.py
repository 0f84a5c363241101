"""The examples of CONTRIBUTING.md, run: a variant, a part, a family."""

import dataclasses
import re
from pathlib import Path

import numpy as np
from keras import layers

import keras_resnets as kr
from keras_resnets import catalog
from keras_resnets.models import blocks, residual, resnet, variant
from keras_resnets.names import keras_name

PAGE = Path(__file__).parents[1].joinpath("CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)

# What a family's file has imported.
NAMES = {
    **{name: value for name, value in vars(residual).items() if not name.startswith("_")},
    **{name: value for name, value in vars(resnet).items() if not name.startswith("_")},
    "Variant": variant.Variant,
    "blocks": blocks,
    "dataclasses": dataclasses,
    "keras_name": keras_name,
    "layers": layers,
    "__name__": resnet.__name__,  # Whose docstring the variants show as the family's.
}


def run(example: str) -> dict[str, variant.Variant]:
    """The variants that an example declares."""
    namespace = dict(NAMES)
    exec(compile(example, "CONTRIBUTING.md", "exec"), namespace)
    known = {id(value) for value in NAMES.values()}
    return {
        name: value
        for name, value in namespace.items()
        if isinstance(value, variant.Variant) and id(value) not in known
    }


def test_every_example_declares_a_variant_that_computes():
    assert len(EXAMPLES) == 3
    for example in EXAMPLES:
        [declared] = run(example).values()
        model = declared(weights=None, classes=5, depths=(1, 1), planes=(16, 32), stem_width=8)
        scores = model(np.zeros((1, 64, 64, 3), "float32"))
        np.testing.assert_allclose(np.sum(scores), 1, rtol=1e-5)
        assert kr.feature_levels(model)["P3"].stride == 8


def test_a_line_in_a_familys_file_is_all_that_a_variant_needs(monkeypatch):
    [(name, declared)] = run(EXAMPLES[0]).items()
    monkeypatch.setattr(resnet, name, declared, raising=False)
    monkeypatch.setattr(resnet, "__all__", variant.public_names(vars(resnet)))
    for cached in (catalog.variants, catalog._by_any_name):
        cached.cache_clear()
    try:
        assert declared.name in kr.list_models()
        assert catalog.find_variant("ResNet38D") is declared
        assert kr.model_info("resnet38d").family == "ResNet"
    finally:
        monkeypatch.undo()
        for cached in (catalog.variants, catalog._by_any_name):
            cached.cache_clear()
    assert declared.name not in kr.list_models()
