"""What a type checker knows of the public names; `make lint` runs mypy over it, nothing runs it.

Each `assert_type` fails where a name is hidden from the checker or its type is `Any`. Each
`type: ignore` stands on a mistake that the checker has to find: one that it does not find is an
unused comment, which is an error as well.
"""

from pathlib import Path
from typing import assert_type

import keras
import numpy as np

import keras_resnets as kr


def variants() -> None:
    """One of each family; its arguments are those of `Variant.__call__`."""
    assert_type(kr.ResNet50, kr.Variant)
    assert_type(kr.ResNet50(weights=None), keras.Model)
    assert_type(kr.ResNeXt50_32x4d(weights="model.safetensors", include_top=False), keras.Model)
    assert_type(kr.ResNeSt50(True, None, classes=10, drop_path=0.1), keras.Model)
    assert_type(kr.Res2Net50_26w_4s(input_shape=(None, None, 3), pooling="avg"), keras.Model)
    assert_type(kr.ReXNet100(weights=None, output_stride=16, name="net"), keras.Model)
    kr.ResNet50(include_top="no")  # type: ignore[arg-type]
    kr.ResNet50(weights=1)  # type: ignore[arg-type]
    kr.ResNet50(classes="ten")  # type: ignore[arg-type]
    kr.ResNet50(pooling=0)  # type: ignore[arg-type]
    kr.ResNet5(weights=None)  # type: ignore[attr-defined]


def catalog() -> None:
    assert_type(kr.create_model("resnet50", weights=None), keras.Model)
    assert_type(kr.list_models("res*", pretrained=True), list[str])
    assert_type(kr.model_info("resnet50").parameters, int)
    kr.list_models(patern="res*")  # type: ignore[call-arg]
    kr.model_info()  # type: ignore[call-arg]


def models(model: keras.Model) -> None:
    assert_type(kr.count_macs(model, (224, 224, 3)), int)
    assert_type(kr.feature_pyramid(model, ("P3", "P4")), keras.Model)
    assert_type(kr.feature_levels(model)["P3"].channels, int)
    assert_type(kr.fold_batch_norms(model), keras.Model)
    assert_type(kr.freeze(model, until="layer3"), list[str])
    assert_type(kr.load_weights(model, "model.safetensors").fits, bool)
    kr.save_safetensors(model, "model.safetensors")
    assert_type(kr.save_pretrained(model, "mine", class_names=["a", "b"], licence="mit"), Path)
    assert_type(kr.push_to_hub("runs/mine", "me/mine", metrics=[{"name": "top-1"}]), str)
    kr.count_macs("resnet50")  # type: ignore[arg-type]
    kr.load_weights(model)  # type: ignore[call-arg]
    kr.save_pretrained(model, "mine", license="mit")  # type: ignore[call-arg]
    kr.push_to_hub(model, "me/mine", class_names=3)  # type: ignore[arg-type]
    kr.save_safetensors(model, 1)  # type: ignore[arg-type]


def images(model: keras.Model, image: np.ndarray) -> None:
    kr.preprocess_input(image)
    kr.preprocessor("resnet50.a1_in1k")
    assert_type(kr.decode_predictions(image, top=3), list[list[tuple[str, str, float]]])
    assert_type(kr.grad_cam(model, image), np.ndarray)
    kr.decode_predictions(image, top="3")  # type: ignore[arg-type]


def layers() -> tuple[keras.layers.Layer, keras.layers.Conv2D, keras.layers.BatchNormalization]:
    kr.layers.DropPath("often")  # type: ignore[arg-type]
    kr.layers.DropBlock2D()  # type: ignore[call-arg]
    return kr.layers.DropPath(0.1), kr.layers.GroupedConv2D(8, 3), kr.layers.BatchNormalization()


def deployment(model: keras.Model) -> None:
    assert_type(kr.export(model, "model.onnx", format="onnx").size, int)
    kr.export(model, "model.onnx", formt="onnx")  # type: ignore[call-arg]
