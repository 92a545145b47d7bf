"""Run a bundle, the adaptive listener of several files, with numpy and onnxruntime alone; open it defensively."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime

from exporters.binding import IN, OUT, Contents, zeros
from exporters.bundle_manifest import COLD, HEAD, MANIFEST, ON, POLICY, TRUNK, WARM, Manifest, Plan
from exporters.metadata import ListenerMetadata
from exporters.opening import MAX_FILE_BYTES, check_runtime, check_tensor, check_total, open_session, read_content
from exporters.wire import Model, Tensor, read_model
from toolkit.errors import MilliwiseError
from toolkit.graph import Graph

DIAL = "dial"
Values = dict[str, np.ndarray]


class Bundle:
    """The sessions of a bundle, with the attributes and methods of a `Binding` of one session.

    At a hop the trunk runs, then the policy, the nets of the edges that the gates it opened leave alive, and the head.
    """

    def __init__(self, manifest: Manifest, contents: Mapping[str, bytes], options: onnxruntime.SessionOptions) -> None:
        """Load checked files, name → content."""
        metadata, self._plan = manifest.metadata, manifest.plan
        self.threads = options.intra_op_num_threads
        self.audio = np.zeros((1, metadata.hop_samples), np.float32)
        self.scores = np.zeros((1, len(metadata.labels)), np.float32)
        self.mode = np.zeros(1, np.int64)
        self._declared = metadata.states
        self.states = zeros(self._declared)
        self._places = {mode["name"]: place for place, mode in enumerate(metadata.modes)}
        self._parts = {name: _Part(open_session(content, options)) for name, content in contents.items()}
        self._nothing = np.zeros(self._parts[HEAD].inputs["sink"], np.float32)
        self._warm: frozenset[str] = frozenset()  # edges with streaming state that ran in the hop before
        self._ran: frozenset[str] = frozenset()
        self._after: Values = {}
        self._tried = False

    def run(self, options: onnxruntime.RunOptions | None = None) -> None:
        """Hear `audio`: the scores and the mode are written; the states are as before until `swap`.

        Raises:
            Exception: onnxruntime's, which share no base class; or numpy's, where parts do not fit together.
        """
        self._try(options)
        self._after = {}
        values: Values = {"audio": self.audio}
        self._call(TRUNK, values, options)
        values["sink"] = values.get("known", self._nothing)
        self._call(POLICY, values, options)
        opened = tuple((values["log_odds"] > self.states[DIAL])[0].tolist())
        states = {edge.name: self._state(edge.name) for edge in self._plan.live[opened]}
        for edge in self._plan.live[opened]:
            self._call(self._plan.nets[edge.name][states[edge.name]], values, options)
            into, value = node(self._plan.graph, edge.target), values[f"edge_{edge.name}"]
            values[into] = values[into] + value if into in values else value
        self._call(HEAD, values, options)
        self.scores = values["scores"]
        self.mode[0] = self._places[self._plan.mode(states)]
        self._ran = frozenset(name for name, state in states.items() if state != ON)

    def swap(self) -> None:
        """Go on from what the last run remembers."""
        self.states |= self._after
        self._warm = self._ran

    def clear(self) -> None:
        """Forget: all states are zeros."""
        self.states, self._warm = zeros(self._declared), frozenset()

    def _state(self, edge: str) -> str:
        if ON in self._plan.nets[edge]:
            return ON
        return WARM if edge in self._warm else COLD

    def _call(self, name: str, values: Values, options: onnxruntime.RunOptions | None) -> None:
        """Run a file on values and states; what it gives is added to both."""
        part = self._parts[name]
        feed = {each: self.states[each[len(IN) :]] if each.startswith(IN) else values[each] for each in part.inputs}
        for output, value in zip(part.outputs, part.session.run(part.outputs, feed, options), strict=True):
            if output.startswith(OUT):
                self._after[output[len(OUT) :]] = value
            else:
                values[output] = value

    def _try(self, options: onnxruntime.RunOptions | None) -> None:
        """Before the first hop, every file runs once: none is slow, or fails, when a gate opens at last."""
        if not self._tried:
            for part in self._parts.values():
                part.session.run(
                    None, {each: np.zeros(shape, np.float32) for each, shape in part.inputs.items()}, options
                )
            self._tried = True


class _Part:
    """A session, its inputs with their shapes, and its outputs."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self.session = session
        self.inputs = {each.name: tuple(each.shape) for each in session.get_inputs()}
        self.outputs = [each.name for each in session.get_outputs()]


def node(graph: Graph, name: str) -> str:
    """What the value of a node of the network is called between files."""
    return "sink" if name == graph.sink else f"node_{name}"


def read_bundle(folder: Path) -> Contents[Bundle]:
    """Read and check the bundle in a folder: every file is the one its manifest describes, and no other is there.

    Raises:
        MilliwiseError: a file is missing, superfluous or another one, or breaks a clause of the contract.
    """
    try:
        manifest = Manifest.read(folder)
        check_runtime(manifest.metadata.min_onnxruntime)
        contents = _contents(Path(folder), manifest.files)
        sha256 = hashlib.sha256(manifest.content()).hexdigest()  # of what was read: the file may change meanwhile
    except OSError as error:
        raise MilliwiseError(f"{error.strerror}; name a folder you may read") from None
    _check_modes(manifest)
    models = {name: _model(name, contents[name]) for name in manifest.plan.files}
    _check_contract(models, manifest.plan, manifest.metadata)
    return Contents(manifest.metadata, sha256, partial(Bundle, manifest, contents))


def _contents(folder: Path, files: Mapping[str, str]) -> dict[str, bytes]:
    """Of the files, name → sha256: what is hashed here is what onnxruntime is given."""
    there = {path.name for path in folder.iterdir() if path.name != MANIFEST}
    if extra := sorted(name for name in there - files.keys() if name.endswith(".onnx")):
        raise MilliwiseError(f"{extra[0]!a} is not in its {MANIFEST}: remove it, or export the bundle again")
    contents: dict[str, bytes] = {}
    for name, sha256 in files.items():
        if name not in there:
            raise MilliwiseError(f"its {name!a} is missing: copy the whole folder, or export the bundle again")
        try:
            contents[name] = read_content(folder / name)
        except MilliwiseError as error:
            raise MilliwiseError(f"its {name!a} cannot be read: {error}") from None
        if (found := hashlib.sha256(contents[name]).hexdigest()) != sha256:
            other = next((f", but {each!a}" for each, known in files.items() if known == found), "")
            raise MilliwiseError(
                f"its {name!a} is not the file that {MANIFEST} describes{other} (sha256 {found[:12]}, not "
                f"{sha256[:12]}): copy the whole folder again, or export the bundle again"
            )
        if sum(map(len, contents.values())) > MAX_FILE_BYTES:
            raise MilliwiseError(f"its files have more than {MAX_FILE_BYTES} bytes: it is not a listener of ours")
    return contents


def _model(name: str, content: bytes) -> Model:
    try:
        model = read_model(content)
        for tensors in (model.inputs, model.outputs):
            check_total(tensors)
    except MilliwiseError as error:
        raise MilliwiseError(f"its {name!a}: {error}") from None
    return model


def _check_modes(manifest: Manifest) -> None:
    named = {str(mode["name"]) for mode in manifest.metadata.modes}
    if odd := sorted(named ^ set(manifest.plan.modes())):
        raise MilliwiseError(f"its modes are not those of its plan, see {odd[0][:60]!a}: export the bundle again")


def _check_contract(models: Mapping[str, Model], plan: Plan, metadata: ListenerMetadata) -> None:
    """What goes from file to file has one shape everywhere, states that of the metadata; nothing else goes in."""
    labels, gates = len(metadata.labels), len(plan.gated)
    states = {name: Tensor(state["dtype"], tuple(state["shape"])) for name, state in metadata.states.items()}
    check_tensor(states, DIAL, Tensor("float32", (1, gates)))
    check_tensor(models[TRUNK].inputs, "audio", Tensor("float32", (1, metadata.hop_samples)))
    check_tensor(models[POLICY].outputs, "log_odds", Tensor("float32", (1, gates)))
    check_tensor(models[HEAD].outputs, "scores", Tensor("float32", (1, labels)))
    shared: dict[str, Tensor] = {}
    for model in models.values():
        for tensors, prefix in ((model.inputs, IN), (model.outputs, OUT)):
            for name, tensor in tensors.items():
                if name.startswith(prefix):
                    check_tensor(states, name[len(prefix) :], tensor)
                    continue
                key = _key(name, plan.graph)
                if tensor.dtype != "float32" or shared.setdefault(key, tensor) != tensor:
                    raise MilliwiseError(f"its files do not agree about {name[:60]!a}: export the bundle again")
    check_total(shared)
    given = {"audio", "sink", *(node(plan.graph, plan.graph.by_name[edge].target) for edge in plan.nets)}
    given.update(name for model in models.values() for name in model.outputs)
    for file, model in models.items():
        if odd := sorted(name for name in model.inputs.keys() - given if not name.startswith(IN)):
            raise MilliwiseError(f"its {file!a} reads {odd[0][:60]!a}, which no file gives: export the bundle again")
    check_tensor(models[HEAD].inputs, "sink", shared.get("sink", Tensor("float32", ())))


def _key(name: str, graph: Graph) -> str:
    """What has the shape of this value, too: those that are added up do."""
    edge = graph.by_name.get(name.removeprefix("edge_")) if name.startswith("edge_") else None
    return "sink" if name == "known" else name if edge is None else node(graph, edge.target)
