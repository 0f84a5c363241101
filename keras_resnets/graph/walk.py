"""The graph of a model as a value: which operation reads and makes which tensor.

Keras shows of a layer what it read and made when it was called *first*. That is not enough for a
layer that is called twice, for a `Sequential` that was put together by `add`, nor for a model in a
model, of which it shows the inside only. So `graph_of` repeats every call on stand-ins for the
layers, through public interfaces alone, and writes down what happens; layers, weights and the
model's own tensors stay untouched.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import KerasTensor

from keras_resnets.checks import require

# A model that can be walked ----------------------------------------------------------------------


def require_functional(
    model: Any, *, one_input: bool = False, images: bool = False, one_output: bool = False
) -> keras.Model:
    """Raises unless a model shows a graph of layers that can be walked.

    Args:
        model: what was received as a model.
        one_input: whether it must have a single input.
        images: whether that must be images `(batch, height, width, channels)`; implies `one_input`.
        one_output: whether it must have a single output.

    Returns:
        The model; of a sequential one a functional model of the same layers.

    Raises:
        ValueError: if it is neither functional nor a built sequential model, or its inputs or
            outputs are others.
    """
    require(
        shows_graph(model),
        f"model must be a functional or a built sequential keras.Model{_way_out(model)}",
        model=model,
    )
    if one_input or images or one_output:
        kind = "one image input (batch, height, width, channels)" if images else "one input"
        wanted = [kind] * (one_input or images) + ["one output"] * one_output
        require(
            (len(model.inputs) == 1 or not (one_input or images))
            and (len(model.inputs[0].shape) == 4 or not images)
            and (len(model.outputs) == 1 or not one_output),
            f"model must have {' and '.join(wanted)}",
            model=model.name,
            inputs=[tensor.shape for tensor in model.inputs],
            outputs=[tensor.shape for tensor in model.outputs],
        )
    return plain(model) if isinstance(model, keras.Sequential) else model


def plain(model: keras.Model) -> keras.Model:
    """A functional model of the same layers, without an optimizer or a class of its own."""
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return keras.Model(model.input, model.output, name=model.name)


def shows_graph(model: Any) -> bool:
    """Whether a model is functional, or sequential and built."""
    if isinstance(model, keras.Sequential):
        return getattr(model, "inputs", None) is not None
    return isinstance(model, keras.Model) and hasattr(model, "operations")


def _way_out(model: Any) -> str:
    if isinstance(model, keras.Sequential):
        return "; build it first, for example with model.build((None, 224, 224, 3))"
    if isinstance(model, keras.Model):
        return (
            "; make one of a subclassed model with keras.Model(x, model(x)), x = keras.Input(...)"
        )
    return ""


def new_inputs(
    model: keras.Model, batch_shapes: Sequence[tuple[int | None, ...]] | None = None
) -> Any:
    """Inputs of the structure, the types and the names of a functional model's.

    Args:
        model: the model.
        batch_shapes: shapes by the order of `model.inputs`; default: the model's.
    """
    graph = plain(model)
    names = {
        id(layer.output): layer.name
        for layer in graph.layers
        if isinstance(layer, keras.layers.InputLayer)
    }
    shapes = [tensor.shape for tensor in graph.inputs] if batch_shapes is None else batch_shapes
    made = [
        keras.Input(batch_shape=shape, dtype=tensor.dtype, name=names[id(tensor)])
        for tensor, shape in zip(graph.inputs, shapes, strict=True)
    ]
    return keras.tree.pack_sequence_as(graph.input, made)


def flat_inputs(model: keras.Model, given: Any) -> list[Any]:
    """What a functional model is called with, in the order of `model.inputs`."""
    if isinstance(given, dict) and not isinstance(model.input, dict):
        return [given[tensor.name] for tensor in model.inputs]
    return keras.tree.flatten(given)


def flat_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model and of the models nested in it, in the graph's order."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from flat_layers(layer)
        else:
            yield layer


# The graph ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of an operation: a layer that is shared has several.

    Attributes:
        operation: the model's own layer or other operation.
        args: what it was called with; tensors are those of the `Graph`.
        kwargs: the same.
        outputs: the tensors that it made.
    """

    operation: keras.Operation
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[KerasTensor, ...]

    @functools.cached_property
    def inputs(self) -> tuple[KerasTensor, ...]:
        """The tensors that it read."""
        return tuple(_tensors((self.args, self.kwargs)))

    @functools.cached_property
    def takes_training(self) -> bool:
        return "training" in inspect.signature(self.operation.call).parameters


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """All calls of a model in an order in which they can be run.

    Its tensors have the shapes of the model's and are not the model's: to cut a model, use
    `layer.output` where the layer is called once in the model's own graph.

    Attributes:
        calls: all but the inputs.
        inputs: what goes in, flat.
        outputs: what comes out, flat.
    """

    calls: tuple[Call, ...]
    inputs: tuple[KerasTensor, ...]
    outputs: tuple[KerasTensor, ...]

    @functools.cached_property
    def producers(self) -> dict[int, Call]:
        """The call that made a tensor, by the tensor's `id`; inputs have none."""
        return {id(tensor): call for call in self.calls for tensor in call.outputs}

    @functools.cached_property
    def readers(self) -> dict[int, list[Call]]:
        """The calls that read a tensor, by the tensor's `id`; see `outputs` for who else does."""
        found: dict[int, list[Call]] = {}
        for call in self.calls:
            for key in dict.fromkeys(map(id, call.inputs)):
                found.setdefault(key, []).append(call)
        return found

    def calls_of(self, *operations: keras.Operation) -> list[Call]:
        wanted = set(map(id, operations))
        return [call for call in self.calls if id(call.operation) in wanted]

    def upstream(self, tensors: Iterable[KerasTensor], given: Collection[int] = ()) -> list[Call]:
        """All calls that tensors are computed from, in order.

        What is given, as the `id`s of tensors, need not be computed.
        """
        waiting, needed = list(tensors), set()
        while waiting:
            tensor = waiting.pop()
            call = self.producers.get(id(tensor))
            if call is not None and id(tensor) not in given and id(call) not in needed:
                needed.add(id(call))
                waiting.extend(call.inputs)
        return [call for call in self.calls if id(call) in needed]

    def trunk(self, tensor: KerasTensor | None = None) -> Iterator[Call]:
        """The calls from a tensor, or the first output, back to an input: by the first tensor each.

        The first, because of a product with a gate that is the feature map.
        """
        tensor = self.outputs[0] if tensor is None else tensor
        while call := self.producers.get(id(tensor)):
            yield call
            if not call.inputs:
                return
            tensor = call.inputs[0]

    def run(
        self,
        given: Mapping[int, Any],
        wanted: Sequence[KerasTensor],
        training: bool | None = False,
    ) -> list[Any]:
        """Computes tensors by the model's own layers and weights.

        Args:
            given: values by the `id` of the tensor that each stands for: of the inputs, or of
                tensors on the way, in front of which nothing needs to run then. Symbolic ones
                continue the graph of a model.
            wanted: what to compute.
            training: whether layers that behave differently in training do; None leaves it open,
                for symbolic values.

        Returns:
            The values of `wanted`.
        """
        values = dict(given)
        for call in self.upstream(wanted, values.keys()):
            args, kwargs = _replaced((call.args, dict(call.kwargs)), values)
            if call.takes_training and training is not None:
                # As `keras.Model` does, even if the layer was called with another value.
                kwargs["training"] = training
            outputs = keras.tree.flatten(call.operation(*args, **kwargs))
            values.update(zip(map(id, call.outputs), outputs, strict=True))
        return [values[id(tensor)] for tensor in wanted]


def graph_of(
    model: keras.Model,
    batch_shape: tuple[int | None, ...] | None = None,
    *,
    opens: Callable[[keras.Model], bool] = lambda nested: True,
) -> Graph:
    """The graph of a functional or sequential model.

    Args:
        model: what `require_functional` lets pass.
        batch_shape: another shape of its only input, from which all others follow.
        opens: whether a nested model appears as the calls of its own layers, or as one call. Models
            that show no graph of layers are one call in any case.

    Example:

    >>> graph = graph_of(keras_resnets.ResNet18(weights=None), (1, 64, 64, 3))
    >>> graph.outputs[0].shape, len(graph.calls)
    ((1, 1000), 78)
    """
    recorder = _Recorder(opens)
    inputs = new_inputs(model, None if batch_shape is None else [batch_shape])
    outputs = recorder.record(model, inputs)
    return Graph(
        tuple(recorder.calls),
        tuple(keras.tree.flatten(inputs)),
        tuple(_replaced(keras.tree.flatten(outputs), recorder.meant)),
    )


class _StandIn(keras.Operation):
    """An operation's place in a copy of its graph, where tensors have shapes and no values."""

    def __init__(self, operation: keras.Operation) -> None:
        super().__init__()
        self.operation = operation
        self.opened: Any = None  # What a nested model made, where its own calls were recorded.

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        if self.opened is None:
            return self.operation.compute_output_spec(*args, **kwargs)
        return keras.tree.map_structure(lambda x: KerasTensor(x.shape, dtype=x.dtype), self.opened)


class _Cast(keras.Operation):
    """What a nested model does with inputs of another type than its own."""

    def __init__(self, dtype: str) -> None:
        super().__init__()
        self.dtype = dtype

    def __call__(self, inputs: Any) -> Any:
        return keras.ops.cast(inputs, self.dtype)

    call = __call__


class _Recorder:
    """Writes the calls down; `meant` says which tensor stands for which at borders of models."""

    def __init__(self, opens: Callable[[keras.Model], bool]) -> None:
        self.opens = opens
        self.calls: list[Call] = []
        self.meant: dict[int, KerasTensor] = {}
        self._alive: list[Any] = []  # An `id` means something as long as its tensor lives.

    def record(self, model: keras.Model, inputs: Any) -> Any:
        """Repeats a model's calls on new inputs, which have its structure; returns the outputs."""

        def call(stand_in: _StandIn, *args: Any, **kwargs: Any) -> Any:
            operation = stand_in.operation
            is_model = isinstance(operation, keras.Model)
            if is_model and shows_graph(operation) and self.opens(operation):
                stand_in.opened = self.record(
                    operation, self._enter(operation, first_argument(args, kwargs))
                )
                outputs = stand_in(*args, **kwargs)
                self._mean(outputs, stand_in.opened)
            else:
                outputs = stand_in(*args, **kwargs)
                args, kwargs = _replaced((args, kwargs), self.meant)
                self.calls.append(Call(operation, args, kwargs, tuple(keras.tree.flatten(outputs))))
            return outputs

        copy = keras.models.clone_model(
            plain(model), input_tensors=inputs, clone_function=_StandIn, call_function=call
        )
        self._alive.append(copy)
        return copy.output

    def _enter(self, model: keras.Model, given: Any) -> Any:
        """Inputs of a nested model, which mean the tensors that the model is called with."""
        own = plain(model)
        given = _replaced(flat_inputs(own, given), self.meant)
        inside = new_inputs(model, [tensor.shape for tensor in given])
        for i, tensor in enumerate(own.inputs):
            if given[i].dtype != tensor.dtype:
                cast = KerasTensor(given[i].shape, dtype=tensor.dtype)
                self.calls.append(Call(_Cast(tensor.dtype), (given[i],), {}, (cast,)))
                given[i] = cast
        self._mean(inside, given)
        return inside

    def _mean(self, tensors: Any, meant: Any) -> None:
        tensors, meant = keras.tree.flatten(tensors), keras.tree.flatten(meant)
        self._alive.append(tensors)
        self.meant.update(zip(map(id, tensors), _replaced(meant, self.meant), strict=True))


def first_argument(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a layer was called on."""
    return args[0] if args else kwargs["inputs"]


def _tensors(structure: Any) -> list[KerasTensor]:
    return [leaf for leaf in keras.tree.flatten(structure) if isinstance(leaf, KerasTensor)]


def _replaced(structure: Any, values: Mapping[int, Any]) -> Any:
    """A structure with values in the place of tensors that have one."""
    return keras.tree.map_structure(
        lambda leaf: values.get(id(leaf), leaf) if isinstance(leaf, KerasTensor) else leaf,
        structure,
    )
