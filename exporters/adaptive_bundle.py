"""An adaptive listener as a bundle, for runtimes without `If`: a folder of files, of which a hop runs what it needs.

At every hop, in this order (exporters/adaptive_bundle_listener.py does it with numpy):

* `trunk.onnx` hears the audio. It gives `known` (what edges that always run give the sink), `node_*` and `ring_*` (the
  columns of a node, of this hop and as far back as an edge that catches up looks) and `heard` (hops so far).
* `policy.onnx` gives the log-odds of the gates: one opens when they are above the `dial`.
* A `net-*.onnx` for every edge that is live then, in the order of the graph: `-warm` when the edge ran in the hop
  before, else `-cold`; an edge without streaming state has one file. Its value is added to that of its target.
* `head.onnx` gives the scores of the `sink`, and the memory for the next hop.

States go from hop to hop as in a listener of one file, and stay what they were where their file did not run. All shapes
are fixed, so the weights of an edge with streaming state stand in two files.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper
from torch import nn

from exporters.adaptive import Assembly, flat
from exporters.bundle_manifest import COLD, HEAD, MANIFEST, ON, POLICY, TRUNK, WARM, Manifest, Plan
from exporters.controller import write_memory, write_odds
from exporters.gates import CatchingUp, Ring, columns_needed
from exporters.graph_writer import OPSET, GraphWriter, Value
from exporters.metadata import ListenerMetadata
from exporters.onnx import IR_VERSION, add_up, finished, write
from toolkit.adaptive import AdaptiveNetwork
from toolkit.errors import MilliwiseError
from toolkit.features import log_mel_of
from toolkit.graph import Edge

Models = dict[str, onnx.ModelProto]


def to_bundle(
    adaptive: AdaptiveNetwork, input_shape: tuple[int, ...], opset: int = OPSET, ir: int = IR_VERSION
) -> tuple[Plan, Models]:
    """The files of an adaptive network by name, and when each of them runs.

    Args:
        adaptive: as for `exporters.adaptive.to_adaptive_onnx`.
        input_shape: of one call, batch of one included.
        opset: ONNX operator set, 17 or newer.
        ir: ONNX file version.

    Raises:
        MilliwiseError: as `to_adaptive_onnx`; or the names of two edges give one file.
    """
    parts = _Parts(adaptive, opset, ir)
    source = Value("audio" if log_mel_of(adaptive.network.stem) is not None else "features", input_shape)
    features = write(adaptive.network.stem, parts.trunk, source, "stem")
    sink = parts.sink(features)
    models = {TRUNK: parts.model_of_trunk(source), **parts.models, **parts.around(sink)}
    plan = Plan(adaptive.network.graph, adaptive.gated, parts.nets)
    return plan, {name: models[name] for name in plan.files}


def bundle_states(models: Mapping[str, onnx.ModelProto], gates: int) -> dict[str, dict[str, Any]]:
    """Name → shape and dtype of what a bundle remembers, and of the dial, which is none of its files' business."""
    outputs = [value for model in models.values() for value in model.graph.output]
    found = {"dial": [1, gates]} | {
        value.name.removeprefix("state_out_"): [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in outputs
        if value.name.startswith("state_out_")
    }
    return {name: {"shape": shape, "dtype": "float32"} for name, shape in found.items()}


class _Parts:
    """The files of a bundle while they are written."""

    def __init__(self, adaptive: AdaptiveNetwork, opset: int, ir: int) -> None:
        self.adaptive, self.opset, self.ir = adaptive, opset, ir
        self.trunk = GraphWriter(opset)
        self.assembly = Assembly(adaptive, self.trunk, {})
        self.nets: dict[str, dict[str, str]] = {}
        self.models: Models = {}
        self.made: set[str] = set()  # values that nets give
        self.given: dict[str, Value] = {}  # what the trunk gives, under its name there

    def sink(self, features: Value) -> Value:
        """Write every edge, and return what the head is given."""
        network = self.adaptive.network
        shape = network.walk(network.graph.full, features, self._apply, self._add).shape
        return Value("sink", shape)

    def model_of_trunk(self, source: Value) -> onnx.ModelProto:
        """With all that is read of it; `known` is the beginning of the sink."""
        read = {"known", *(value.name for model in self.models.values() for value in model.graph.input)}
        given = {name: value for name, value in self.given.items() if name in read}
        results = [Value(self.trunk.node("Identity", [each.name], name), each.shape) for name, each in given.items()]
        return self._model(self.trunk, [source], results)

    def around(self, sink: Value) -> Models:
        """The policy and the head."""
        controller, policy, head = self.adaptive.controller, GraphWriter(self.opset), GraphWriter(self.opset)
        known = Value("known", sink.shape)
        for writer in (policy, head):
            writer.state("memory", (1, controller.memory_size))
        odds = write_odds(controller, policy, flat(policy, known) if controller.looks else "")
        decided = Value(policy.node("Identity", [odds], "log_odds"), (1, controller.gates))
        write_memory(controller, head, flat(head, known) if controller.looks else "", flat(head, sink))
        scores = write(self.adaptive.network.head, head, sink, "head")
        return {POLICY: self._model(policy, [known], [decided]), HEAD: self._model(head, [sink, known], [scores])}

    def _apply(self, edge: Edge, module: nn.Module, value: Value) -> Value:
        if edge.name not in self.assembly.conditional and edge.source in self.assembly.settled:
            return write(module, self.trunk, value, edge.name)
        if edge.source == self.adaptive.network.graph.source:
            self.given[f"node_{edge.source}"] = value
        source, name = Value(f"node_{edge.source}", value.shape), edge.name
        if name in self.assembly.streaming:
            ring = self.assembly.ring(edge.source, value)
            self.given |= {f"ring_{edge.source}": ring.columns, "heard": Value(ring.heard, (1,))}
            self._keep(name, COLD, *self._cold(name, module, ring, f"ring_{edge.source}"))
            output = self._keep(name, WARM, *self._going_on(name, module, source))
        else:
            output = self._keep(name, ON, *self._going_on(name, module, source))
        self.made.add(output.name)
        return output

    def _cold(
        self, name: str, module: nn.Module, ring: Ring, columns: str
    ) -> tuple[GraphWriter, Sequence[Value], Value]:
        """The edge over all columns that it needs to catch up."""
        source = Value(columns, ring.columns.shape)
        writer = CatchingUp(self.opset, ring=Ring(source, ring.hop, "heard"))
        needed = columns_needed(module, ring.hop, name)
        value = Value(source.name, (*source.shape[:3], needed))
        if needed < source.shape[3]:
            value = Value(writer.last(source.name, needed, 3, "columns"), value.shape)
        return writer, [source, Value("heard", (1,))], writer.layers(module, value, name)

    def _going_on(self, name: str, module: nn.Module, source: Value) -> tuple[GraphWriter, Sequence[Value], Value]:
        """The edge as where it always runs."""
        writer = GraphWriter(self.opset)
        return writer, [source], write(module, writer, source, name)

    def _keep(self, name: str, state: str, writer: GraphWriter, inputs: Sequence[Value], output: Value) -> Value:
        """File what runs the edge in this state, and return the edge's value."""
        file = f"net-{re.sub('[^A-Za-z0-9._-]', '_', name)[:100]}{'' if state == ON else f'-{state}'}.onnx"
        if file.lower() in map(str.lower, self.models):
            raise MilliwiseError(f"two edges of this network would be written to {file}: rename {name!r}")
        result = Value(writer.node("Identity", [output.name], f"edge_{name}"), output.shape)
        self.models[file] = self._model(writer, inputs, [result])
        self.nets.setdefault(name, {})[state] = file
        return result

    def _add(self, node: str, values: Sequence[Value]) -> Value:
        """What the trunk gives of a node's value is added up there; the rest when it runs."""
        shape = add_up(GraphWriter(self.opset), values).shape  # where all have one shape
        if fixed := [value for value in values if value.name not in self.made]:
            total = add_up(self.trunk, fixed)
            is_sink = node == self.adaptive.network.graph.sink
            self.given["known" if is_sink else f"node_{node}"] = total
            return total
        return Value(f"node_{node}", shape)

    def _model(self, writer: GraphWriter, inputs: Sequence[Value], results: Sequence[Value]) -> onnx.ModelProto:
        """Of the inputs and states those that are read, and of the outputs those that are written."""
        model = finished(writer, inputs[0], results, self.ir)
        float32 = TensorProto.FLOAT
        model.graph.input.extend(helper.make_tensor_value_info(each.name, float32, each.shape) for each in inputs[1:])
        _select(model.graph.input, {name for each in writer.nodes for name in each.input})
        _select(model.graph.output, {name for each in writer.nodes for name in each.output})
        return model


def _select(values: Any, names: Container[str]) -> None:
    kept = [value for value in values if value.name in names]
    del values[:]
    values.extend(kept)


def write_manifest(folder: Path, plan: Plan, metadata: ListenerMetadata) -> int:
    """Write the manifest of the files that are in a folder, and return how many bytes are in it then."""
    contents = {name: (Path(folder) / name).read_bytes() for name in plan.files}
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    manifest = Manifest(metadata, plan, files).content()
    (Path(folder) / MANIFEST).write_bytes(manifest)
    return len(manifest) + sum(map(len, contents.values()))


def require_bundle_place(folder: Path) -> None:
    """Refuse a place where no bundle can be written before any work is spent; creates nothing.

    Raises:
        MilliwiseError: it is a file, or a folder that holds anything but a bundle, which would be replaced.
    """
    folder = Path(folder)
    above = next((each for each in folder.absolute().parents if os.path.lexists(each)), folder)
    if not os.path.isdir(above) or not os.access(above, os.W_OK | os.X_OK):
        raise MilliwiseError(f"cannot write {folder}: {above} is no folder you may write to; choose another place")
    if not os.path.lexists(folder):
        return
    if os.path.islink(folder) or not os.path.isdir(folder):
        raise MilliwiseError(
            f"cannot write {folder}: a bundle is a folder, and there is a file of that name; remove it"
        )
    try:
        there = set(os.listdir(folder))
    except OSError as error:
        raise MilliwiseError(f"cannot write {folder}: {error.strerror}; choose another place") from None
    if there:
        try:
            others = there - {MANIFEST, *Manifest.read(folder).files}
        except MilliwiseError as error:
            raise MilliwiseError(f"cannot replace {folder}, which is no bundle ({error}); choose another") from None
        if others:
            raise MilliwiseError(f"cannot replace {folder}: {min(others)!a} in it is of no bundle; move it elsewhere")


def write_bundle(folder: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a folder beside `folder`, flush it to the disk, then rename it into place.

    Raises:
        MilliwiseError: see `require_bundle_place`, or the disk is full; an older bundle still stands.
    """
    folder = Path(folder)
    require_bundle_place(folder)
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.absolute().parent) as name:
            aside, old = Path(name) / "new", Path(name) / "old"
            aside.mkdir()
            write(aside)
            for path in aside.iterdir():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            _exchange(aside, folder, old)
    except OSError as error:
        raise MilliwiseError(
            f"cannot write {folder}: {error.strerror or error}; free some space or choose another place"
        ) from None


def _exchange(aside: Path, folder: Path, old: Path) -> None:
    """Two renames: no file of the old bundle is ever beside one of the new one."""
    if folder.is_dir():
        folder.rename(old)
    try:
        aside.rename(folder)
    except BaseException:  # also Ctrl-C: what is left in the old place is removed
        if old.is_dir():
            old.rename(folder)
        raise
