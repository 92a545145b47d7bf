"""Controllers of adaptive networks as ONNX nodes: a table that others extend with `write_odds` and `write_memory`."""

from __future__ import annotations

from functools import singledispatch

from torch import Tensor, nn

from exporters.graph_writer import GraphWriter
from toolkit.controller import Controller, HearingController, RecurrentController
from toolkit.errors import MilliwiseError

MEMORY_IN, MEMORY_OUT = "state_in_memory", "state_out_memory"


@singledispatch
def write_odds(controller: Controller, writer: GraphWriter, known: str) -> str:
    """Append what decides, and return the log-odds [1, gates].

    Args:
        known: what the edges that always run give the sink, [1, channels]; "" for a controller that does not look.

    Raises:
        MilliwiseError: there is no writer for such a controller.
    """
    raise _without_writer(controller)


@singledispatch
def write_memory(controller: Controller, writer: GraphWriter, known: str, sink: str) -> None:
    """Append what gives the memory for the next hop, `MEMORY_OUT`, from `known` and `sink` [1, channels]."""
    raise _without_writer(controller)


def _without_writer(controller: Controller) -> MilliwiseError:
    return MilliwiseError(
        f"cannot export {type(controller).__name__}: register writers for it with "
        "exporters.controller.write_odds.register and write_memory.register"
    )


def _require(controller: Controller, kind: type[Controller]) -> None:
    """A subclass that computes otherwise has no writer."""
    own = type(controller)
    if (own.forward, own.remember) != (kind.forward, kind.remember):
        raise _without_writer(controller)


def _linear(writer: GraphWriter, value: str, weight: Tensor, bias: Tensor, scope: str) -> str:
    parameters = {"weight": weight.T, "bias": bias}
    names = [writer.parameter(f"{scope}.{name}", each.detach().cpu().numpy()) for name, each in parameters.items()]
    return writer.node("Gemm", [value, *names])


def _layer(writer: GraphWriter, value: str, layer: nn.Linear, scope: str) -> str:
    return _linear(writer, value, layer.weight, layer.bias, scope)


@write_odds.register
def _recurrent_odds(controller: RecurrentController, writer: GraphWriter, known: str) -> str:
    _require(controller, RecurrentController)
    return _layer(writer, MEMORY_IN, controller.linear, "controller.linear")


@write_memory.register
def _recurrent_memory(controller: RecurrentController, writer: GraphWriter, known: str, sink: str) -> None:
    """A GRU of one step (see `torch.nn.GRUCell`)."""
    _require(controller, RecurrentController)
    cell, size = controller.cell, controller.memory_size
    assert cell.bias_ih is not None and cell.bias_hh is not None
    given = _linear(writer, sink, cell.weight_ih, cell.bias_ih, "controller.input")
    before = _linear(writer, MEMORY_IN, cell.weight_hh, cell.bias_hh, "controller.recurrent")
    given_gates, given_new = writer.split(given, [2 * size, size])
    before_gates, before_new = writer.split(before, [2 * size, size])
    gates = writer.node("Sigmoid", [writer.node("Add", [given_gates, before_gates])])
    reset, update = writer.split(gates, [size, size])
    remembered = writer.node("Mul", [reset, before_new])
    new = writer.node("Tanh", [writer.node("Add", [given_new, remembered])])
    change = writer.node("Mul", [update, writer.node("Sub", [MEMORY_IN, new])])
    writer.node("Add", [new, change], MEMORY_OUT)


@write_odds.register
def _hearing_odds(controller: HearingController, writer: GraphWriter, known: str) -> str:
    _require(controller, HearingController)
    joined = writer.node("Concat", [known, MEMORY_IN], axis=1)
    hidden = writer.node("Relu", [_layer(writer, joined, controller.hidden, "controller.hidden")])
    return _layer(writer, hidden, controller.linear, "controller.linear")


@write_memory.register
def _hearing_memory(controller: HearingController, writer: GraphWriter, known: str, sink: str) -> None:
    _require(controller, HearingController)
    writer.node("Identity", [known], MEMORY_OUT)
