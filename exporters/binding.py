"""A listener's inputs and outputs in fixed memory: a hop reads one set of states and writes the other; they swap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import onnxruntime

from exporters.metadata import ListenerMetadata

IN, OUT = "state_in_", "state_out_"
Runs = TypeVar("Runs", covariant=True)


@dataclass(frozen=True)
class Contents(Generic[Runs]):
    """A listener that was read and checked.

    Attributes:
        sha256: of the file, or of a bundle's manifest.
        opened: gives what runs a hop, in sessions with these options.
    """

    metadata: ListenerMetadata
    sha256: str
    opened: Callable[[onnxruntime.SessionOptions], Runs]


class Binding:
    """One session with its buffers. Nothing is allocated or copied between two hops, which saves some 10 % of one.

    Attributes:
        audio: what the next hop hears, float32 [1, hop_samples].
        scores: what the last one said, float32 [1, labels]; the next one writes over it.
        mode: which mode of an adaptive model ran, int64 [1]; None of a model that has none.
        states: name → what the next hop remembers; zeros at first.
        threads: a hop is computed with.
    """

    def __init__(self, session: onnxruntime.InferenceSession, metadata: ListenerMetadata) -> None:
        """Bind a session that fits its metadata."""
        self._session = session
        self.audio = np.zeros((1, metadata.hop_samples), np.float32)
        self.scores = np.zeros((1, len(metadata.labels)), np.float32)
        has_mode = any(output.name == "mode" for output in session.get_outputs())
        self.mode = np.zeros(1, np.int64) if has_mode else None
        self.threads = int(session.get_session_options().intra_op_num_threads)
        self.states, self._others = (zeros(metadata.states) for _ in range(2))
        self._next, self._after = self._bound(self.states, self._others), self._bound(self._others, self.states)

    def run(self, options: onnxruntime.RunOptions | None = None) -> None:
        """Hear `audio`: the scores and the mode are written; the states are as before until `swap`.

        Raises:
            Exception: onnxruntime's, which share no base class.
        """
        self._session.run_with_iobinding(self._next, options)

    def swap(self) -> None:
        """Go on from what the last run remembers."""
        self.states, self._others = self._others, self.states
        self._next, self._after = self._after, self._next

    def clear(self) -> None:
        """Forget: all states are zeros."""
        for state in self.states.values():
            state.fill(0)

    def _bound(self, read: Mapping[str, np.ndarray], written: Mapping[str, np.ndarray]) -> onnxruntime.IOBinding:
        binding = self._session.io_binding()
        inputs = {"audio": self.audio, **{IN + name: state for name, state in read.items()}}
        outputs = {"scores": self.scores, **{OUT + name: state for name, state in written.items()}}
        if self.mode is not None:
            outputs["mode"] = self.mode
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))  # shares the memory
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        return binding


def zeros(states: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """What is remembered at the start of a stream."""
    return {name: np.zeros(state["shape"], state["dtype"]) for name, state in states.items()}
