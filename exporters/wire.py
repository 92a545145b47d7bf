"""Look into an ONNX file without loading it: a tiny reader of the protobuf wire format that refuses what could harm."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from toolkit.errors import MilliwiseError

Fields = dict[int, list[int | memoryview]]

MAX_FIELDS = 1_000_000  # of one message; bounds the memory that hostile bytes can make this reader use
MAX_DIMENSIONS = 8
MAX_DEPTH = 8  # of graphs inside node attributes
STANDARD_DOMAINS = {"", "ai.onnx"}
MAX_RANGE = 65_536  # of a Range's start, end and step; the front-end counts samples of a window and bins
# The operators a listener may use: what our exporters write, and what adaptive, recurrent and quantised ones need.
# One is in here when its output is bounded by its inputs: Loop and Scan can run for ever; ConstantOfShape, Expand,
# Tile, Resize, Pad and OneHot make gigabytes of a few bytes. So can Range, whose limits are checked by themselves. What
# many small steps or a product of large inputs add up to, the limits of the first run find (exporters/listener.py).
_WRITTEN = (
    "Add Cast Concat Constant Conv Div Gemm GlobalAveragePool Identity Log MatMul Max Min Mod Mul Range Relu Reshape"
    " Sin Slice Softmax Squeeze Sub Transpose"
)
_FURTHER = (
    "Abs And ArgMax AveragePool BatchNormalization Clip ConvInteger DepthToSpace DequantizeLinear"
    " DynamicQuantizeLinear Elu Equal Erf Exp Flatten Floor GRU Gather Gelu GlobalMaxPool Greater GreaterOrEqual"
    " HardSigmoid HardSwish If InstanceNormalization LSTM LayerNormalization LeakyRelu Less LessOrEqual LogSoftmax"
    " MatMulInteger MaxPool Mish Neg Not Or PRelu Pow QLinearConv QLinearMatMul QuantizeLinear Reciprocal ReduceL2"
    " ReduceMax ReduceMean ReduceMin ReduceSum Round Selu Shape Sigmoid Sign Softplus Split Sqrt Tanh Unsqueeze Where"
)
OPERATORS = frozenset(f"{_WRITTEN} {_FURTHER}".split())
DTYPE_OF = {1: "float32", 6: "int32", 7: "int64", 9: "bool"}  # TensorProto.DataType


class WireError(MilliwiseError):
    """The bytes are not the ONNX file of a listener, or hold something it must not hold."""


@dataclass(frozen=True)
class Tensor:
    """The declared type of a graph's input or output; a size that is not fixed is None."""

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Model:
    """What an ONNX file declares: its inputs, its outputs and its metadata properties."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    properties: dict[str, str]


def read_fields(message: memoryview) -> Fields:
    """The fields of one protobuf message by number, in order: varints as int (unsigned), delimited ones as bytes.

    Fixed-width fields carry floats in ONNX, which nobody here needs, and are skipped.

    Raises:
        WireError: the bytes are not a protobuf message, or it has more than a million fields.
    """
    fields: Fields = {}
    at, count = 0, 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        value: int | memoryview | None = None
        if kind == 0:
            value, at = _varint(message, at)
        elif kind == 2:
            size, at = _varint(message, at)
            value, at = message[at : at + size], at + size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise WireError("it is not an ONNX file (no protobuf): export the listener again")
        count += 1
        if at > len(message) or not 0 < number < 2**29 or count > MAX_FIELDS:
            raise WireError("it is truncated or not an ONNX file: export the listener again")
        if value is not None:
            fields.setdefault(number, []).append(value)
    return fields


def read_model(content: bytes, further: frozenset[str] = frozenset()) -> Model:
    """Walk a whole ONNX file, its initialisers, attributes and nested graphs, and return what it declares.

    Field numbers are those of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).

    Args:
        further: operators that may be in it, beside `OPERATORS`.

    Raises:
        WireError: not ONNX, truncated, external data, sparse tensors, functions, an operator outside these or a
            domain other than ai.onnx, a long or computed Range, or graphs nested too deep.
    """
    model = read_fields(memoryview(content))
    graphs = _messages(model, 7)
    if len(graphs) != 1 or not _messages(model, 8):
        raise WireError("it is truncated or not an ONNX file (no graph, or no operator set): export the listener again")
    for operator_set in _messages(model, 8):
        _check_domain(read_fields(operator_set), 1)
    if _messages(model, 25):  # functions that call functions multiply work; our exporters write none
        raise WireError("it defines functions of its own; only standard ONNX operators are run")
    graph = read_fields(graphs[0])
    _walk_graph(graph, 0, OPERATORS | further)
    return Model(_tensors(graph, 11), _tensors(graph, 12), dict(_properties(model)))


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise WireError("it is truncated or not an ONNX file: export the listener again")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
    raise WireError("it is not an ONNX file (a number has no end): export the listener again")


def _messages(fields: Fields, number: int) -> list[memoryview]:
    return [value for value in fields.get(number, []) if isinstance(value, memoryview)]


def _numbers(fields: Fields, number: int) -> Iterator[int]:
    """A repeated integer, each in a field of its own or packed."""
    for value in fields.get(number, []):
        if isinstance(value, int):
            yield value
            continue
        at = 0
        while at < len(value):
            found, at = _varint(value, at)
            yield found


def _text(fields: Fields, number: int) -> str:
    """A string field; of several the last one counts, as in every protobuf reader."""
    values = _messages(fields, number)
    return _name(values[-1]) if values else ""


def _name(content: memoryview) -> str:
    try:
        return bytes(content).decode()
    except UnicodeDecodeError:
        raise WireError("it holds a name that is not UTF-8 text: export the listener again") from None


def _check_domain(fields: Fields, number: int) -> None:
    domain = _text(fields, number)
    if domain not in STANDARD_DOMAINS:
        raise WireError(f"it uses the operator domain {domain[:60]!a}; only standard ONNX operators are run")


def _walk_graph(graph: Fields, depth: int, operators: frozenset[str]) -> None:
    if depth > MAX_DEPTH:
        raise WireError(f"its graphs are nested more than {MAX_DEPTH} deep: it is not a listener of ours")
    _check_tensors(_messages(graph, 5), _messages(graph, 15))
    numbers: dict[str, int] = {}  # the scalar Constants so far, by name: a node comes after those it reads
    for node in map(read_fields, _messages(graph, 1)):
        _check_domain(node, 7)
        operator = _text(node, 4)
        if operator not in operators:
            raise WireError(f"it uses the operator {operator[:60]!a}, which no listener may: make it of other layers")
        for attribute in map(read_fields, _messages(node, 5)):
            _walk_attribute(attribute, depth, operators)
        if operator == "Constant":
            numbers |= _scalar(node)
        if operator == "Range":
            _check_range([numbers.get(_name(value)) for value in _messages(node, 1)])


def _walk_attribute(attribute: Fields, depth: int, operators: frozenset[str]) -> None:
    _check_tensors(
        _messages(attribute, 5) + _messages(attribute, 10), _messages(attribute, 22) + _messages(attribute, 23)
    )
    for graph in _messages(attribute, 6) + _messages(attribute, 11):
        _walk_graph(read_fields(graph), depth + 1, operators)


def _scalar(node: Fields) -> dict[str, int]:
    """The name and value of a Constant node that is one int64 without dimensions, as our exporter writes it."""
    attributes, outputs = [read_fields(each) for each in _messages(node, 5)], _messages(node, 2)
    if len(attributes) != 1 or len(outputs) != 1 or len(_messages(attributes[0], 5)) != 1:
        return {}
    tensor = read_fields(_messages(attributes[0], 5)[0])
    raw = _messages(tensor, 9)
    if tensor.keys() - {8} != {2, 9} or tensor[2] != [7] or [len(each) for each in raw] != [8]:
        return {}
    return {_name(outputs[0]): int.from_bytes(raw[0], "little", signed=True)}


def _check_range(limits: list[int | None]) -> None:
    if len(limits) != 3 or any(limit is None or abs(limit) > MAX_RANGE for limit in limits):
        raise WireError(f"its Range does not count between constants up to {MAX_RANGE}: export the listener again")


def _check_tensors(dense: list[memoryview], sparse: list[memoryview]) -> None:
    """Refuse tensors whose values lie in another file, which may be any file of the user's, or are not there at all."""
    if sparse:
        raise WireError("it holds sparse tensors, which unfold to any size: export the listener again")
    for message in dense:
        tensor = read_fields(message)
        if 13 in tensor or any(location != 0 for location in tensor.get(14, [])):
            raise WireError("it keeps values in external data files; a listener is one file: export it again")
        sizes = list(islice(_numbers(tensor, 1), MAX_DIMENSIONS + 1))
        if len(sizes) > MAX_DIMENSIONS or math.prod(sizes) > len(message):
            raise WireError("it has a tensor of more values than it holds bytes for: export the listener again")


def _tensors(graph: Fields, number: int) -> dict[str, Tensor]:
    """The declared inputs (11) or outputs (12) of a graph, by name."""
    values: dict[str, Tensor] = {}
    for value in map(read_fields, _messages(graph, number)):
        name = _text(value, 1)
        if name in values:
            raise WireError(f"it declares {name[:60]!a} twice: export the listener again")
        tensor = read_fields(_only(_only(value, 2), 1))
        element = tensor.get(1, [0])[-1]
        dtype = DTYPE_OF.get(element, f"type {element}") if isinstance(element, int) else "no type"
        dims = _messages(read_fields(_only(tensor, 2)), 1)
        values[name] = Tensor(dtype, tuple(map(_size, dims)))
    return values


def _only(fields: Fields | memoryview, number: int) -> memoryview:
    """The one sub-message with this number: protobuf would merge several, which no writer of ONNX makes."""
    found = _messages(read_fields(fields) if isinstance(fields, memoryview) else fields, number)
    if len(found) != 1:
        raise WireError("an input or output of it is not a tensor with a shape: export the listener again")
    return found[0]


def _size(dim: memoryview) -> int | None:
    fields = read_fields(dim)
    sizes = fields.get(1, [])
    fixed = len(sizes) == 1 and isinstance(sizes[0], int) and 0 < sizes[0] < 2**63 and 2 not in fields
    return int(sizes[0]) if fixed and isinstance(sizes[0], int) else None


def _properties(model: Fields) -> Iterator[tuple[str, str]]:
    seen = set()
    for entry in map(read_fields, _messages(model, 14)):
        key = _text(entry, 1)
        if key in seen:
            raise WireError(f"its metadata names {key[:60]!a} twice: export the listener again")
        seen.add(key)
        yield key, _text(entry, 2)
