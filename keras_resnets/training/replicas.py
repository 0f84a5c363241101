"""What TensorFlow's replicas of a model need, and Keras does not give them.

Under a strategy of `tf.distribute` each device has a replica of the model, which sees its part of a
batch. Keras 3 averages the gradients. Four things it leaves as they are, and they are mended here:

- **Moving statistics.** Each replica gathers those of its own images, and the first one's are
  saved. `Replicas` averages them, see there.
- **Random draws.** All replicas start their random generators alike, so dropout, drop path and
  DropBlock drop the same of every part of a batch. `Replicas` lets them differ.
- **Clipping and scaled losses.** Gradients are clipped, and looked at whether they are finite, on
  each replica before they are added up. `sum_before_clipping` adds them up first.
- **Several machines.** `fit` fails on values that lie on several machines; `step_function` makes a
  step that does not.

On JAX none of it arises: the batch is one array there, with one mask and one mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_resnets.checks import require
from keras_resnets.graph.walk import flat_layers

_GATHERED = ("moving_", "renorm_")  # How the names of statistics begin.
_LIMITS = ("clipnorm", "global_clipnorm", "clipvalue")
# Between the seeds of two replicas: a prime, which no numbering of layers by seeds hits.
_STRIDE = 1_000_003


class Replicas(keras.callbacks.Callback):
    """Keeps the replicas of a model in step with each other, as far as Keras does not.

    Put it in front of all callbacks that look at the weights.

    **Statistics** are averaged over the replicas by one all-reduce, before each validation and at
    the end of each epoch; `average` does so at once, which anything else needs that reads them,
    such as a checkpoint or a moving average. Not at each step, since nobody reads them in between,
    and nothing is lost: they are linear in what the batches gave, m s + (1 - m) x, so that a mean
    of all gatherings is what gathering all means gives, whenever it is taken. (The mean of the
    variances of the parts is still a little less than the variance of the whole batch, as it is
    everywhere; `BatchNormalization(synchronized=True)` takes the latter.)

    **Draws** of replica r come from the first one's seed plus r times a constant, set when training
    begins. The first one's is saved. So a resumed run draws what an uninterrupted one draws, and
    one device draws what the first of several does.

    Args:
        strategy: of `tf.distribute`, the model's; None where there is none, and nothing to do.

    Source:
        timm's `--dist-bn reduce`, which averages once an epoch, too.
    """

    def __init__(self, strategy: Any) -> None:
        super().__init__()
        self.strategy = strategy
        self.functions: tuple[Callable, Callable] | None = None

    def set_model(self, model: keras.Model) -> None:
        if self.strategy is not None and (self.functions is None or model is not self.model):
            self.functions = _averaging(model, self.strategy), _spreading(model, self.strategy)
        super().set_model(model)

    def average(self) -> None:
        """Sets the moving statistics of all replicas to their mean."""
        if self.functions is not None:
            self.functions[0]()

    def on_train_begin(self, logs: dict | None = None) -> None:
        if self.functions is None:
            return
        import tensorflow as tf

        require(
            tf.distribute.in_cross_replica_context(),
            "fit must be called in placement.scope(), where metrics are those of all devices",
            strategy=type(tf.distribute.get_strategy()).__name__,
        )
        self.functions[1]()

    def on_test_begin(self, logs: dict | None = None) -> None:
        self.average()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.average()


def moving_statistics(model: keras.Model) -> list[keras.Variable]:
    """Means and variances that batch norms gather while the model trains."""
    frozen = {
        id(variable)
        for layer in flat_layers(model)
        if not layer.trainable
        for variable in layer.weights
    }
    return [
        variable
        for variable in model.non_trainable_variables
        if variable.name.startswith(_GATHERED) and id(variable) not in frozen
    ]


def _averaging(model: keras.Model, strategy: Any) -> Callable[[], None]:
    import tensorflow as tf

    variables = moving_statistics(model)

    def on_each() -> None:
        context = tf.distribute.get_replica_context()
        means = context.all_reduce("MEAN", [tf.identity(variable.value) for variable in variables])
        for variable, mean in zip(variables, means, strict=True):
            variable.assign(mean)

    return _running(on_each, strategy, variables)


def _spreading(model: keras.Model, strategy: Any) -> Callable[[], None]:
    import tensorflow as tf

    states = [variable for variable in model.variables if variable.name == "seed_generator_state"]

    def on_each() -> None:
        context = tf.distribute.get_replica_context()
        number = tf.cast(context.replica_id_in_sync_group, "int64")
        own = [tf.cast(state.value, "int64") for state in states]
        firsts = context.all_reduce("SUM", [tf.where(number == 0, state, 0) for state in own])
        for state, first in zip(states, firsts, strict=True):
            seed = first + number * tf.constant([_STRIDE, 0], "int64")
            state.assign(tf.cast(seed, state.dtype))

    return _running(on_each, strategy, states)


def _running(
    on_each: Callable[[], None], strategy: Any, variables: list[keras.Variable]
) -> Callable[[], None]:
    """A compiled function that runs another on each replica, if there is something to run it on."""
    import tensorflow as tf

    @tf.function
    def everywhere() -> None:
        strategy.run(on_each)

    return everywhere if variables else lambda: None


def step_function(
    step: Callable[[Any], dict[str, Any]], strategy: Any
) -> Callable[[Any], dict[str, Any]]:
    """What `fit` and `evaluate` call for a step, on several machines.

    Args:
        step: `model.train_step` or `model.test_step`.
        strategy: of the model.

    Returns:
        A function of the iterator of a distributed data set, for `model.train_function` or
        `model.test_function` after `compile`. It returns the means over the replicas.
    """
    import tensorflow as tf

    def on_each(data: Any) -> dict[str, Any]:
        logs = step(data)
        values = tf.distribute.get_replica_context().all_reduce("MEAN", keras.tree.flatten(logs))
        return keras.tree.pack_sequence_as(logs, values)

    @tf.function
    def everywhere(iterator: Any) -> dict[str, Any]:
        logs = strategy.run(on_each, args=(next(iterator),))
        return {name: strategy.experimental_local_results(logs[name])[0] for name in logs}

    return everywhere


def sum_before_clipping(optimizer: keras.Optimizer, strategy: Any) -> None:
    """Lets an optimizer clip the gradients of the whole batch, and scale losses by them.

    Keras clips what each replica has before it adds up, and gives each replica's loss scale its own
    opinion on whether all is finite. Here the gradients are added up first. Keras' own sum, which
    comes after, is then one of equal parts: an all-reduce more, for those optimizers only.

    Args:
        optimizer: of a compiled model; it is changed.
        strategy: of the model.
    """
    import tensorflow as tf

    inner = getattr(optimizer, "inner_optimizer", optimizer)  # Of one that scales losses.
    limits = {name: getattr(inner, name) for name in _LIMITS}
    if inner is optimizer and not any(limits.values()):
        return
    for name in _LIMITS:
        setattr(inner, name, None)
    apply, apply_inner = optimizer.apply, inner.apply

    def summed(gradients):
        there = [gradient for gradient in gradients if gradient is not None]
        sums = iter(tf.distribute.get_replica_context().all_reduce("SUM", there))
        return [None if gradient is None else next(sums) for gradient in gradients]

    def in_parts(gradients, trainable_variables=None):
        parts = [
            None if gradient is None else gradient / strategy.num_replicas_in_sync
            for gradient in _clipped(gradients, **limits)
        ]
        return apply_inner(parts, trainable_variables)

    if inner is optimizer:
        optimizer.apply = lambda gradients, variables=None: in_parts(summed(gradients), variables)
    else:
        inner.apply = in_parts
        optimizer.apply = lambda gradients, variables=None: apply(summed(gradients), variables)


def _clipped(gradients, *, clipnorm, global_clipnorm, clipvalue):
    import tensorflow as tf

    if global_clipnorm:
        return tf.clip_by_global_norm(gradients, global_clipnorm)[0]

    def clipped(gradient):
        if gradient is None:
            return None
        if clipnorm:
            return tf.clip_by_norm(gradient, clipnorm)
        return tf.clip_by_value(gradient, -clipvalue, clipvalue) if clipvalue else gradient

    return [clipped(gradient) for gradient in gradients]
