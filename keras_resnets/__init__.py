"""Residual image networks in Keras 3: ResNet, ResNeXt, ResNeSt, Res2Net and ReXNet."""

import sys

from keras_resnets import layers
from keras_resnets.catalog import list_models, model_info
from keras_resnets.deploy.export import export
from keras_resnets.graph.features import feature_levels, feature_pyramid
from keras_resnets.graph.fold import fold_batch_norms
from keras_resnets.graph.freeze import freeze
from keras_resnets.graph.grad_cam import grad_cam
from keras_resnets.graph.macs import count_macs
from keras_resnets.loading import create_model
from keras_resnets.models.res2net import *
from keras_resnets.models.resnest import *
from keras_resnets.models.resnet import *
from keras_resnets.models.resnext import *
from keras_resnets.models.rexnet import *
from keras_resnets.models.variant import Variant
from keras_resnets.preprocessing import decode_predictions, preprocess_input, preprocessor
from keras_resnets.weights.fit import load_weights, save_safetensors

__version__ = "0.1.0"

# Keras walks a graph by recursion, one Python frame a layer, when a model is built and again when
# it is loaded, cloned or cut. ResNeSt-269 is a chain of some 2,200 layers; Python's default limit
# of 1,000 frames would stop it. Set on import, because loading a model asks for nothing more.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 10_000))
