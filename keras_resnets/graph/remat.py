"""RematModel: a network that trains in less memory by computing its blocks twice."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_resnets.graph.walk import Graph, flat_inputs, graph_of
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
        Chen et al., arXiv:1604.06174. They cut the network into segments of a size that memory
        decides; here the segments are its blocks.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training:
            return super().call(inputs, training=training, mask=mask)
        plan = self._plan
        values = {
            id(tensor): keras.ops.convert_to_tensor(given, dtype=tensor.dtype)
            for tensor, given in zip(plan.graph.inputs, flat_inputs(self, inputs), strict=True)
        }
        for segment in plan.segments:
            read = [values[id(tensor)] for tensor in segment.graph.inputs]
            made = map(id, segment.graph.outputs)
            values.update(zip(made, segment.run(read), strict=True))
        outputs = [values[id(tensor)] for tensor in plan.graph.outputs]
        return keras.tree.pack_sequence_as(self.output, outputs)

    @functools.cached_property
    def _plan(self) -> _Plan:
        graph = graph_of(self, opens=lambda nested: False)
        return _Plan(graph, tuple(_segments(graph)))


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """Keras looks for layers in tuples that a model holds, and these are its own once more."""

    graph: Graph
    segments: tuple[_Segment, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class _Segment:
    """Calls between two block borders.

    Attributes:
        graph: these calls; its inputs and outputs are tensors of the whole graph.
        is_block: whether to compute it twice.
    """

    graph: Graph
    is_block: bool

    def run(self, values: Sequence[Any]) -> list[Any]:
        """The outputs in training; statistics and seeds move on once."""
        if not self.is_block:
            return self._compute(values)
        trainable, moving = self._variables()
        # Copies, because torch writes to what has moved in place.
        before = [
            *(variable.value for variable in trainable),
            *(keras.ops.copy(variable.value) for variable in moving),
        ]

        def compute(*tensors):
            """All that the block reads comes in as an argument and all it writes goes out."""
            states = zip([*trainable, *moving], tensors[len(values) :], strict=True)
            with keras.StatelessScope(state_mapping=list(states)) as scope:
                outputs = self._compute(tensors[: len(values)])
            return *outputs, *(scope.get_current_value(variable) for variable in moving)

        results = keras.remat(compute)(*values, *before)
        count = len(self.graph.outputs)
        for variable, value in zip(moving, results[count:], strict=True):
            variable.assign(value)
        return list(results[:count])

    def _compute(self, values: Sequence[Any]) -> list[Any]:
        given = zip(map(id, self.graph.inputs), values, strict=True)
        return self.graph.run(dict(given), self.graph.outputs, training=True)

    def _variables(self) -> tuple[list[keras.Variable], list[keras.Variable]]:
        """Those that gradients are taken of, and the others, as layers are frozen or not now."""
        layers = [
            call.operation
            for call in self.graph.calls
            if isinstance(call.operation, keras.layers.Layer)
        ]
        found = {id(v): v for layer in layers for v in layer.trainable_variables}
        others = {id(v): v for layer in layers for v in layer.non_trainable_variables}
        return list(found.values()), list(others.values())


def _segments(graph: Graph) -> Iterator[_Segment]:
    """The graph cut where blocks begin and end."""
    runs = [
        (block, tuple(calls))
        for block, calls in itertools.groupby(
            graph.calls, lambda call: block_of(call.operation.name)
        )
    ]
    last_reader = {
        id(tensor): position
        for position, (_, calls) in enumerate(runs)
        for call in calls
        for tensor in call.inputs
    }
    last_reader |= {id(tensor): len(runs) for tensor in graph.outputs}
    for position, (block, calls) in enumerate(runs):
        made = {id(tensor): tensor for call in calls for tensor in call.outputs}
        read = {id(tensor): tensor for call in calls for tensor in call.inputs}
        inputs = [tensor for key, tensor in read.items() if key not in made]
        outputs = [
            tensor for key, tensor in made.items() if last_reader.get(key, position) > position
        ]
        yield _Segment(Graph(calls, tuple(inputs), tuple(outputs)), is_block=block is not None)
