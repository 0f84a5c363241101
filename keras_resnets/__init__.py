"""Residual image networks in Keras 3: ResNet, ResNeXt, ResNeSt, Res2Net, ReXNet and their kin."""

import sys
from typing import TYPE_CHECKING

from keras_resnets import backends

__version__ = "0.1.0"

# Keras walks a graph by recursion, one Python frame a layer, when a model is built and again when
# it is loaded, cloned or cut. ResNeSt-269 is a chain of some 2,200 layers; Python's default limit
# of 1,000 frames would stop it. Set on import, because loading a model asks for nothing more.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 10_000))

if not backends.is_command():
    backends.choose()

    from keras_resnets import layers as layers
    from keras_resnets.catalog import list_models as list_models
    from keras_resnets.catalog import model_info as model_info
    from keras_resnets.deploy.export import export as export
    from keras_resnets.graph.features import feature_levels as feature_levels
    from keras_resnets.graph.features import feature_pyramid as feature_pyramid
    from keras_resnets.graph.fold import fold_batch_norms as fold_batch_norms
    from keras_resnets.graph.freeze import freeze as freeze
    from keras_resnets.graph.grad_cam import grad_cam as grad_cam
    from keras_resnets.graph.heads import reset_classifier as reset_classifier
    from keras_resnets.graph.macs import count_macs as count_macs
    from keras_resnets.loading import create_model as create_model
    from keras_resnets.models.clip import *
    from keras_resnets.models.hybrid import *
    from keras_resnets.models.pruned import *
    from keras_resnets.models.res2net import *
    from keras_resnets.models.resnest import *
    from keras_resnets.models.resnet import *
    from keras_resnets.models.resnetv2 import *
    from keras_resnets.models.resnext import *
    from keras_resnets.models.rexnet import *
    from keras_resnets.models.sknet import *
    from keras_resnets.models.variant import Variant as Variant
    from keras_resnets.preprocessing import decode_predictions as decode_predictions
    from keras_resnets.preprocessing import preprocess_input as preprocess_input
    from keras_resnets.preprocessing import preprocessor as preprocessor
    from keras_resnets.sharing.pretrained import push_to_hub as push_to_hub
    from keras_resnets.sharing.pretrained import save_pretrained as save_pretrained
    from keras_resnets.weights.fit import load_weights as load_weights
    from keras_resnets.weights.fit import save_safetensors as save_safetensors

    if not TYPE_CHECKING:  # The variants are a computed list, which a checker cannot read.
        from keras_resnets.catalog import variants

        __all__ = [
            *("Variant", "count_macs", "create_model", "decode_predictions", "export"),
            *("feature_levels", "feature_pyramid", "fold_batch_norms", "freeze", "grad_cam"),
            *("layers", "list_models", "load_weights", "model_info", "preprocess_input"),
            *("preprocessor", "push_to_hub", "reset_classifier", "save_pretrained"),
            *("save_safetensors",),
            *variants(),
        ]

        def __dir__() -> list[str]:
            return [*__all__, "__version__"]
