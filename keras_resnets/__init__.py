"""Residual image networks in Keras 3: ResNet, ResNeXt, ResNeSt, Res2Net and ReXNet."""

from keras_resnets import layers
from keras_resnets.catalog import create_model, list_models, model_info
from keras_resnets.deploy.export import export
from keras_resnets.deploy.fold import fold_batch_norms
from keras_resnets.explain import grad_cam
from keras_resnets.features import feature_levels, feature_pyramid
from keras_resnets.macs import count_macs
from keras_resnets.preprocessing import decode_predictions, preprocess_input, preprocessor
from keras_resnets.res2net import *
from keras_resnets.resnest import *
from keras_resnets.resnet import *
from keras_resnets.resnext import *
from keras_resnets.rexnet import *
from keras_resnets.training.freeze import freeze
from keras_resnets.variant import Variant
from keras_resnets.weights.convert import load_weights, save_safetensors

__version__ = "0.1.0"
