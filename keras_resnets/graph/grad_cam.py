"""Grad-CAM: which part of an image a class score rests on."""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from keras_resnets.checks import is_number, require
from keras_resnets.graph.walk import Graph, graph_of, require_functional, shows_graph
from keras_resnets.layers import PositionedTokens

# Of the overlay: black, violet, red, yellow, white. Lightness rises all the way, so that it reads
# the same in greyscale and to colour-blind eyes.
_COLOURS = np.float32([[0, 0, 0], [87, 16, 110], [229, 60, 50], [250, 190, 60], [252, 255, 220]])


def grad_cam(
    model: keras.Model, images: Any, class_index: int | Sequence[int] | None = None
) -> np.ndarray:
    """Heat maps of what speaks for a class.

    The channels of the last feature map are weighted by the mean gradient of the class's logit and
    added up; what speaks against the class is cut off. The gradient is the logit's also where the
    model ends in a softmax: a probability near 1 has none. What is found out about a model's graph
    is kept as long as the model is, and on JAX what was compiled, so that the next call is fast.

    Args:
        model: a functional or built sequential classifier, of any family or one's own: a feature
            map, its global or attention pooling (or a `Flatten`), and dense layers of which the
            last gives the classes. It may have been loaded from a file, and parts of it may be
            models themselves. Of several branches, the one that is named first where they meet is
            looked at.
        images: what the model takes, `(batch, height, width, channels)`: preprocessed as for a
            prediction.
        class_index: the class for all images, or one for each; default: each image's likeliest.

    Returns:
        Float32 heat `(batch, height, width)` for the images' pixels, enlarged from the feature map.
        An image's highest value is 1; it is all zeros where nothing speaks for the class.

    Raises:
        ValueError: if the model is another, the images do not fit it or `class_index` is no class
            of it.
        RuntimeError: if the Keras backend has no gradients.

    Example:

    >>> model = keras_resnets.ResNeSt50(weights="in1k")
    >>> images = keras_resnets.preprocessor("resnest50d.in1k").load("cat.jpg")
    >>> keras_resnets.grad_cam(model, images).shape
    (1, 224, 224)

    Source:
        Selvaraju et al., arXiv:1610.02391, equations 1 and 2.
    """
    explainer = _explainer_of(model)
    images = ops.convert_to_tensor(images, dtype=model.inputs[0].dtype)
    wanted = (None, *model.inputs[0].shape[1:])
    require(
        len(images.shape) == 4
        and images.shape[0] > 0
        and all(a in (None, b) for a, b in zip(wanted, images.shape, strict=True)),
        f"images must have the shape {wanted} that the model takes, and be one or more",
        shape=tuple(images.shape),
    )
    classes = _classes(class_index, images.shape[0], explainer.classifier.units)
    maps, gradients = explainer.explain(images, classes)
    maps, gradients = (ops.convert_to_numpy(x).astype("float32") for x in (maps, gradients))
    weights = gradients.mean(axis=(1, 2), keepdims=True)
    heat = (weights * maps).sum(-1, keepdims=True)
    heat = _enlarged(np.maximum(heat, 0), images.shape[1:3])
    highest = heat.max(axis=(1, 2), keepdims=True)
    return heat / np.where(highest > 0, highest, 1)


def overlay(image: Any, heat: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Paints a heat map over its image.

    Args:
        image: RGB `(height, width, 3)`, uint8 or float from 0 to 255, not normalised; see
            `Preprocessor.to_rgb` for what a model saw. It is not modified.
        heat: `(rows, columns)` from 0 to 1, such as one of `grad_cam`'s maps; it is stretched to
            the image.
        alpha: from 0, the image alone, to 1, the heat alone.

    Returns:
        A uint8 RGB array of the image's shape.

    Raises:
        ValueError: if an argument has another shape or range.

    Example:

    >>> picture = keras_resnets.graph.grad_cam.overlay(preprocess.to_rgb(images)[0], heat[0])
    """
    image, heat = np.asarray(image, "float32"), np.asarray(heat, "float32")
    require(
        image.ndim == 3 and image.shape[-1] == 3,
        "image must be RGB of shape (height, width, 3)",
        shape=image.shape,
    )
    require(
        heat.ndim == 2 and heat.size > 0 and bool(((heat >= 0) & (heat <= 1)).all()),
        "heat must have the shape (rows, columns) and values from 0 to 1",
        shape=heat.shape,
    )
    require(is_number(alpha) and 0 <= alpha <= 1, "alpha must be a number from 0 to 1", alpha=alpha)
    heat = _enlarged(heat[None, ..., None], image.shape[:2])[0]
    stops = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack([np.interp(heat, stops, channel) for channel in _COLOURS.T], axis=-1)
    return np.clip(np.rint((1 - alpha) * image + alpha * colours), 0, 255).astype("uint8")


def run(model: keras.Model, images: Any) -> Any:
    """The output of a model that is run once, by the way that starts fastest."""
    # On JAX a model run layer by layer compiles every operation by itself, which takes minutes.
    if keras.backend.backend() == "jax":
        return model.predict_on_batch(images)
    return model(images, training=False)


@dataclasses.dataclass(frozen=True, eq=False)
class _Explainer:
    """A classifier's graph, and where Grad-CAM looks at it.

    It holds layers and not the model, or nothing would ever be forgotten.

    Attributes:
        graph: the whole graph.
        features: the last feature map in it.
        classifier: the last dense layer.
        read: what that layer reads.
        made: what the model returned when this was found out.
    """

    graph: Graph
    features: KerasTensor
    classifier: layers.Dense
    read: KerasTensor
    made: KerasTensor

    def explain(self, images: Any, classes: np.ndarray | None) -> tuple[Any, Any]:
        """The feature maps, and the gradients of each image's logit by its own."""
        if keras.backend.backend() != "jax":
            return self._explain(images, classes)
        return self._compiled([variable.value for variable in self._variables()], images, classes)

    @functools.cached_property
    def _compiled(self) -> Callable[..., tuple[Any, Any]]:
        """`explain` for JAX, which layer by layer would compile every operation by itself."""
        import jax

        def compute(values, images, classes):
            states = zip(self._variables(), values, strict=True)
            with keras.StatelessScope(state_mapping=list(states)):
                return self._explain(images, classes)

        return jax.jit(compute)

    def _variables(self) -> list[keras.Variable]:
        operations = (call.operation for call in self.graph.calls)
        layers_used = (step for step in operations if isinstance(step, layers.Layer))
        return list({id(v): v for layer in layers_used for v in layer.variables}.values())

    def _explain(self, images: Any, classes: np.ndarray | None) -> tuple[Any, Any]:
        image = id(self.graph.inputs[0])
        (maps,) = self.graph.run({image: images}, [self.features])
        maps = ops.stop_gradient(maps)

        def logits_of(maps: Any) -> Any:
            # The image, too, for a classifier that reads more than the last feature map.
            (x,) = self.graph.run({image: images, id(self.features): maps}, [self.read])
            x = ops.matmul(x, ops.cast(self.classifier.kernel, x.dtype))
            bias = self.classifier.bias
            return x if bias is None else x + ops.cast(bias, x.dtype)

        if classes is None:
            classes = ops.argmax(logits_of(maps), axis=-1)
        chosen = ops.one_hot(classes, self.classifier.units)

        def score(maps: Any) -> Any:
            # One sum for the batch: an image's features act on its own logits only.
            logits = logits_of(maps)
            return ops.sum(logits * ops.cast(chosen, logits.dtype))

        return maps, _gradient(score, maps)


_EXPLAINERS: weakref.WeakKeyDictionary[keras.Model, _Explainer] = weakref.WeakKeyDictionary()


def _explainer_of(model: Any) -> _Explainer:
    """The model's explainer, from an earlier call if the model's graph is still the same."""
    functional = isinstance(model, keras.Model) and shows_graph(model)
    known = _EXPLAINERS.get(model) if functional else None
    if known is None or known.made is not model.outputs[0]:
        known = _EXPLAINERS[model] = _explainer(model)
    return known


def _explainer(model: Any) -> _Explainer:
    model = require_functional(model, images=True, one_output=True)
    graph = graph_of(model)
    trunk = list(graph.trunk())
    classifier = next((call for call in trunk if isinstance(call.operation, layers.Dense)), None)
    pools = [call for call in trunk if _pools_globally(call.operation)]
    # Networks without a global pool flatten their feature map.
    flattens = [call for call in trunk if isinstance(call.operation, layers.Flatten)]
    ends = pools or flattens
    require(
        classifier is not None and len(ends) > 0 and len(ends[0].inputs[0].shape) == 4,
        "model must end in a global pooling (or Flatten) of a feature map and a Dense classifier",
        model=model.name,
    )
    require(
        getattr(classifier.operation, "quantization_mode", None) is None,
        "model must have a classifier in floating point, for gradients",
        model=model.name,
        classifier=classifier.operation.name,
    )
    return _Explainer(
        graph, ends[0].inputs[0], classifier.operation, classifier.inputs[0], model.outputs[0]
    )


def _pools_globally(operation: keras.Operation) -> bool:
    if isinstance(operation, PositionedTokens):
        return True  # Where attention pooling begins.
    pools = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)
    return isinstance(operation, pools) and not operation.keepdims


def _classes(class_index: int | Sequence[int] | None, batch: int, count: int) -> np.ndarray | None:
    """The class of each image, checked."""
    if class_index is None:
        return None
    classes = np.asarray(class_index)
    require(
        classes.dtype.kind in "iu"
        and classes.shape in ((), (batch,))
        and bool(((classes >= 0) & (classes < count)).all()),
        f"class_index must be an int from 0 to {count - 1}, or one for each of the {batch} images",
        class_index=class_index,
    )
    return np.broadcast_to(classes, (batch,)).astype("int32")


def _gradient(score: Callable[[Any], Any], at: Any) -> Any:
    """The gradient of a scalar function of one tensor: what Keras has no public operation for."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(at)
            value = score(at)
        return tape.gradient(value, at)
    if backend == "jax":
        import jax

        return jax.grad(score)(at)
    if backend == "torch":
        import torch

        with torch.enable_grad():
            at = at.detach().requires_grad_(True)
            return torch.autograd.grad(score(at), at)[0]
    raise RuntimeError(
        "the Keras backend must be tensorflow, jax or torch, which have gradients. "
        f"Received: backend={backend!r}"
    )


def _enlarged(heat: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """(N, rows, columns, 1) to (N, height, width) by linear interpolation, which keeps 0 to 1."""
    heat = ops.image.resize(heat, tuple(sides), "bilinear", data_format="channels_last")
    return ops.convert_to_numpy(heat)[..., 0]
