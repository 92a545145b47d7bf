"""The manifest of a bundle: which file is which part of an adaptive listener, and what runs when; without torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from exporters.metadata import FIELDS, PREFIX, ListenerMetadata
from toolkit.errors import MilliwiseError
from toolkit.files import read_json
from toolkit.graph import Edge, Graph

MANIFEST = "manifest.json"
TRUNK, POLICY, HEAD = "trunk.onnx", "policy.onnx", "head.onnx"
OFF, COLD, WARM, ON = "off", "cold", "warm", "on"
MAX_GATES, MAX_EDGES, MAX_FILES = 8, 256, 64
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}\.onnx")  # no path: it stays in the folder


@dataclass(frozen=True)
class Plan:
    """What of a bundle runs at a hop.

    Attributes:
        graph: of the network.
        gated: the edges that the policy decides about, in the order of its log-odds.
        nets: edge → state → file, for every edge that has files of its own: `on`, or `cold` and `warm` of one with
            streaming state. All other edges are in the trunk.

    Raises:
        MilliwiseError: it is no plan: names that are not in the graph, or files that may not be in a bundle.
    """

    graph: Graph
    gated: tuple[str, ...]
    nets: Mapping[str, Mapping[str, str]]

    def __post_init__(self) -> None:
        gates, edges = set(self.gated), self.graph.full
        if not 1 <= len(gates) == len(self.gated) <= MAX_GATES or not gates | self.nets.keys() <= edges:
            raise _no_plan("its gates or nets are not edges of its graph")
        for states in self.nets.values():
            if states.keys() not in ({ON}, {COLD, WARM}):
                raise _no_plan("a net is neither on, nor cold and warm")
        if len(set(self.files)) < len(self.files) or len(self.files) > MAX_FILES:
            raise _no_plan(f"it names a file twice, or more than {MAX_FILES}")
        for name in self.files:
            if not FILE_NAME.fullmatch(name):
                raise _no_plan(f"{name[:60]!a} is no name of a file in it")

    @cached_property
    def files(self) -> tuple[str, ...]:
        """All but the manifest, in the order in which one could run them."""
        names = (each.name for each in self.graph.ordered if each.name in self.nets)
        return (TRUNK, POLICY, *(file for name in names for file in self.nets[name].values()), HEAD)

    @cached_property
    def live(self) -> Mapping[tuple[bool, ...], tuple[Edge, ...]]:
        """The edges with files of their own that run, in their order, for every choice of the gates."""
        always = self.graph.full - set(self.gated)
        found = {}
        for choice in product((False, True), repeat=len(self.gated)):
            opened = {gate for gate, is_open in zip(self.gated, choice, strict=True) if is_open}
            live = self.graph.live(always | opened) & self.nets.keys()
            found[choice] = tuple(edge for edge in self.graph.ordered if edge.name in live)
        return found

    def mode(self, states: Mapping[str, str]) -> str:
        """The name of the mode in which these edges run, each in its state."""
        found = (f"{gate} {states[gate]}".removesuffix(f" {ON}") for gate in self.gated if gate in states)
        return "+".join(found) or OFF

    def modes(self) -> Iterator[str]:
        """The names of all modes; some may come twice."""
        for edges in self.live.values():
            names = [edge.name for edge in edges if edge.name in self.gated]
            for states in product(*(self.nets[name] for name in names)):
                yield self.mode(dict(zip(names, states, strict=True)))

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        edges = [[edge.name, edge.source, edge.target] for edge in self.graph.edges]
        nets = {name: dict(states) for name, states in self.nets.items()}
        graph = {"source": self.graph.source, "sink": self.graph.sink, "edges": edges}
        return {**graph, "gated": list(self.gated), "nets": nets}

    @classmethod
    def from_facts(cls, facts: Any) -> Plan:
        """Read `facts` back.

        Raises:
            MilliwiseError: they are no plan.
        """
        try:
            edges = [Edge(*map(_text, each)) for each in facts["edges"]]
            nets = {name: {state: _text(file) for state, file in each.items()} for name, each in facts["nets"].items()}
            gated, ends = tuple(map(_text, facts["gated"])), (_text(facts["source"]), _text(facts["sink"]))
        except (KeyError, TypeError, AttributeError):
            raise _no_plan("a part of it is missing or of another type") from None
        if len(edges) > MAX_EDGES:
            raise _no_plan(f"it has {len(edges)} edges, more than {MAX_EDGES}")
        return cls(Graph(tuple(edges), *ends), gated, nets)


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says.

    Attributes:
        files: name → sha256.
    """

    metadata: ListenerMetadata
    plan: Plan
    files: Mapping[str, str]

    def content(self) -> bytes:
        """The file: the metadata under the keys an ONNX file has them under, `files` and `plan`."""
        described = {key: json.loads(value) for key, value in self.metadata.to_properties().items()}
        parts = {**described, "plan": self.plan.facts(), "files": dict(self.files)}
        return (json.dumps(parts, indent=1, allow_nan=False) + "\n").encode()

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Of the bundle in a folder.

        Raises:
            MilliwiseError: there is none, or it is damaged or of another milliwise.
        """
        path = Path(folder) / MANIFEST
        if not path.exists():
            raise MilliwiseError(
                f"it is not a file, and as a folder it holds no {MANIFEST}: name an .onnx file or a bundle's folder"
            )
        found = read_json(path, "the manifest")
        properties = {key: json.dumps(value) for key, value in found.items() if key in KEYS}
        metadata = ListenerMetadata.from_properties(properties)
        plan, files = Plan.from_facts(found.get("plan")), found.get("files")
        if not isinstance(files, dict) or not all(map(_is_sha256, files.values())):
            raise MilliwiseError(f"{MANIFEST} does not give the sha256 of every file: export the bundle again")
        if odd := sorted(files.keys() ^ set(plan.files)):
            raise MilliwiseError(f"{MANIFEST} has {odd[0][:60]!a} in its plan or its files alone: export it again")
        return cls(metadata, plan, files)


KEYS = frozenset(PREFIX + name for name in FIELDS)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise TypeError
    return value


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _no_plan(reason: str) -> MilliwiseError:
    return MilliwiseError(f"the plan in {MANIFEST} is none, because {reason}: export the bundle again")
