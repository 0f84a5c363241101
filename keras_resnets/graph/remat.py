"""RematModel: a network that trains in less memory by computing its blocks twice."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_resnets.names import block_of

BACKENDS = ("tensorflow", "jax", "torch")  # Where Keras has `keras.remat`.


@keras.saving.register_keras_serializable(package="keras_resnets")
class RematModel(keras.Model):
    """A functional model that keeps only what goes in and out of its blocks while it trains.

    Gradients need the feature maps of the way forward. Here those within a block (a residual block
    with its shortcut) are forgotten and computed again when the way back reaches it: less memory
    for about a third more time. Values, gradients, statistics of batch norms and random drops are
    those of the same network as a `keras.Model`, as are its layers, their names and the files of
    its weights. In inference it is that network.

    It comes from the argument `remat=True` of our builders, and a `.keras` file remembers it. Keras
    has `keras.RematScope` for single layers, which repeats their side effects: a batch norm would
    count each batch twice, and a dropout would drop other values on the way back.

    Source:
        Chen et al., arXiv:1604.06174, with the blocks as segments.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training:
            return super().call(inputs, training=training, mask=mask)
        images = self.inputs[0]
        tensors = {id(images): inputs[0] if isinstance(inputs, (list, tuple)) else inputs}
        for segment in self._graph.segments:
            values = segment.run([tensors[key] for key in segment.inputs])
            tensors.update(zip(segment.outputs, values, strict=True))
        outputs = [tensors[id(tensor)] for tensor in self.outputs]
        return outputs if isinstance(self.output, (list, tuple)) else outputs[0]

    @functools.cached_property
    def _graph(self) -> _Graph:
        return _Graph(tuple(_segments(self)))


@dataclasses.dataclass(frozen=True)
class _Graph:
    """Keras looks for layers in tuples that a model holds, and these are its own once more."""

    segments: tuple[_Segment, ...]


@dataclasses.dataclass(frozen=True)
class _Segment:
    """Layers between two block borders.

    Attributes:
        model: these layers as a model, which shares them.
        inputs: the tensors that go in, by their identity in the whole model's graph.
        outputs: those that come out.
        is_block: whether to compute it twice.
    """

    model: keras.Model
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    is_block: bool

    def run(self, values: Sequence[Any]) -> list[Any]:
        """The outputs in training; statistics and seeds move on once."""
        if not self.is_block:
            return keras.tree.flatten(self.model(list(values), training=True))
        moving = self.model.non_trainable_variables
        variables = [*self.model.trainable_variables, *moving]
        # Copies, because torch writes to what has moved in place.
        before = [
            *(variable.value for variable in self.model.trainable_variables),
            *(keras.ops.copy(variable.value) for variable in moving),
        ]

        def compute(*tensors):
            """All that the block reads comes in as an argument and all it writes goes out."""
            states = zip(variables, tensors[len(values) :], strict=True)
            with keras.StatelessScope(state_mapping=list(states)) as scope:
                outputs = self.model(list(tensors[: len(values)]), training=True)
                outputs = keras.tree.flatten(outputs)
            return *outputs, *(scope.get_current_value(variable) for variable in moving)

        results = keras.remat(compute)(*values, *before)
        count = len(self.outputs)
        for variable, value in zip(moving, results[count:], strict=True):
            variable.assign(value)
        return list(results[:count])


def _segments(model: keras.Model) -> Iterator[_Segment]:
    """The model's graph cut where blocks begin and end."""
    produced = {id(tensor) for tensor in model.inputs}
    steps = [step for step in model.operations if not isinstance(step, keras.layers.InputLayer)]
    runs = [
        (block, list(group))
        for block, group in itertools.groupby(steps, lambda step: block_of(step.name))
    ]
    last_reader = {
        id(tensor): position
        for position, (_, group) in enumerate(runs)
        for tensor in _inputs(group)
    }
    last_reader |= {id(tensor): len(runs) for tensor in model.outputs}
    for position, (block, group) in enumerate(runs):
        inputs = {id(tensor): tensor for tensor in _inputs(group) if id(tensor) in produced}
        outputs = {
            id(tensor): tensor
            for step in group
            for tensor in keras.tree.flatten(step.output)
            if last_reader.get(id(tensor), position) > position
        }
        produced |= set(outputs)
        yield _Segment(
            keras.Model(list(inputs.values()), list(outputs.values())),
            tuple(inputs),
            tuple(outputs),
            is_block=block is not None,
        )


def _inputs(steps: Sequence[keras.Operation]) -> Iterator[keras.KerasTensor]:
    for step in steps:
        yield from keras.tree.flatten(step.input)
