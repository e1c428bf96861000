"""TrainableGraph: a float Graph as a differentiable function with variables, and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop_converters.trainable.hooks import Hooks
from edgeloop_converters.trainable.imports import import_tensorflow
from edgeloop_converters.trainable.plan import Plan, Step, make_call, make_plan
from edgeloop_converters.trainable.scales import channel_scales

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


class TrainableGraph:
    """The main subgraph of a float model. `variables`: name of a constant -> tf.Variable, of its shape in the file, and
    of its values over those of `scales`.

    Inputs and outputs have the samples one after another along axis 0: declared [1, 32, 32, 3], given [batch, 32, 32,
    3]. The graph that came in is not changed. notes: one line per op that is a frozen island.
    """

    def __init__(self, graph: Graph, *, islands: bool = True, frozen: Collection[str] = ()) -> None:
        """Raises UsageError for a model that is not float, keeps state, or (islands=False) has an unknown op."""
        self._tf = tf = import_tensorflow()
        self.graph = graph.copy()
        self.graph.ensure_unique_names()
        self._plan: Plan = make_plan(tf, self.graph, islands=islands, frozen=frozen)
        tensors = self.graph.main.tensors
        values = {i: np.asarray(tensors[i].data, np.float32) for i in self._plan.trained}
        self._scales = {i: channel_scales(op, values[i]) for i, op in self._plan.trained.items()}
        self._by_index = {i: tf.Variable(value / self._scales[i]) for i, value in values.items()}
        self.variables: Mapping[str, Any] = {tensors[i].name: v for i, v in self._by_index.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        return self._plan.notes

    def __call__(self, *inputs: Any, hooks: Hooks | None = None) -> list[Any]:
        """The model's outputs, in order."""
        main = self.graph.main
        return self.values(inputs, [main.tensors[i].name for i in main.outputs], hooks=hooks)

    def values(self, inputs: Sequence[Any], names: Sequence[str], hooks: Hooks | None = None) -> list[Any]:
        """The tensors called `names` (of the main subgraph). hooks: what is done to values on their way.

        KeyError for a name that is not there.
        """
        tf, main = self._tf, self.graph.main
        hooks = hooks or Hooks()
        tensors = main.tensors
        wanted = [main.index_of(name) for name in names]
        known: dict[int, Any] = {}
        for index, value in zip(main.inputs, inputs, strict=True):
            known[index] = hooks.computed(tensors[index].name, tf.cast(value, tensors[index].dtype))
        for index, variable in self._by_index.items():
            known[index] = hooks.weight(tensors[index].name, variable * self._scales[index])

        def get(index: int) -> Any:
            if index < 0:
                return None
            if index not in known:
                constant = tf.constant(self._plan.static[index])
                known[index] = hooks.constant(constant) if constant.dtype == tf.float32 else constant
            return known[index]

        for step in self._needed(wanted):
            operands = [get(i) for i in step.op.inputs]
            inputs_of_op = tuple(hooks.operand(step.op, i, value) for i, value in enumerate(operands))
            for index, value in zip(step.op.outputs, self._computed(step, inputs_of_op), strict=False):
                known[index] = hooks.computed(tensors[index].name, value) if step.batched else value
        return [get(i) for i in wanted]

    def _needed(self, wanted: Collection[int]) -> list[Step]:
        open_, needed = set(wanted), []
        for step in reversed(self._plan.steps):
            if open_.intersection(step.op.outputs):
                needed.append(step)
                open_.update(step.op.inputs)
        return needed[::-1]

    def _computed(self, step: Step, inputs: tuple[Any, ...]) -> Sequence[Any]:
        tf, plan, op = self._tf, self._plan, step.op
        flags = [i in plan.batched for i in op.inputs]
        if step.island is not None:
            tensors = self.graph.main.tensors
            taken = [k for k, i in enumerate(op.inputs) if i >= 0 and tensors[i].data is None]
            floats = [tf.cast(inputs[k], tensors[op.inputs[k]].dtype) for k in taken]
            return step.island.tensors(tf, floats, [flags[k] for k in taken])
        assert step.entry is not None
        build = step.entry.build()
        if not step.mapped:
            call = make_call(self.graph, op, plan.static, plan.batched, exact=not step.batched, inputs=inputs)
            return _several(build(tf, call))
        at = [k for k, flag in enumerate(flags) if flag]
        shapes = [self.graph.main.tensors[i].shape for i in op.inputs]

        def one(rows: Sequence[Any]) -> tuple[Any, ...]:
            operands = list(inputs)
            for k, row in zip(at, rows, strict=True):
                operands[k] = row
            call = make_call(self.graph, op, plan.static, plan.batched, exact=True, inputs=tuple(operands))
            return tuple(_several(build(tf, call)))

        rows = [tf.reshape(inputs[k], [-1, *shapes[k]]) for k in at]
        results = tf.vectorized_map(one, rows)
        outputs = [self.graph.main.tensors[i].shape for i in op.outputs]
        return [tf.reshape(r, [-1, *shape[1:]]) for r, shape in zip(results, outputs, strict=True)]

    def weights(self) -> dict[str, Floats]:
        """What the variables stand for, as in the file."""
        tensors = self.graph.main.tensors
        return {tensors[i].name: v.numpy() * self._scales[i] for i, v in self._by_index.items()}

    def set_weights(self, values: Mapping[str, Array]) -> None:
        """Raises UsageError where a name or shape is not the graph's."""
        places = {self.graph.main.tensors[i].name: i for i in self._by_index}
        for name, value in values.items():
            if name not in places or tuple(self.variables[name].shape) != value.shape:
                raise UsageError(f"the model has no variable '{name[:120]}' of shape {list(value.shape)}")
            self.variables[name].assign(value / self._scales[places[name]])

    def to_graph(self) -> Graph:
        """The graph with the variables' values as its constants; same ops, names and signatures."""
        graph = self.graph.copy()
        for name, value in self.weights().items():
            graph.tensor_by_name(name).data = value
        return graph


def _several(results: Any) -> Sequence[Any]:
    return results if isinstance(results, (list, tuple)) else [results]
