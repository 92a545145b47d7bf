"""Open an exported listener defensively and run it hop by hop, with numpy and onnxruntime alone."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime

from exporters.adaptive_bundle_listener import Bundle, read_bundle
from exporters.binding import IN, OUT, Binding, Contents
from exporters.bundle_manifest import MAX_GATES
from exporters.metadata import ListenerMetadata
from exporters.opening import (
    check_runtime,
    check_tensor,
    check_total,
    first_line,
    limited_time,
    open_session,
    read_content,
    trial_options,
)
from exporters.opening import session_options as session_options
from exporters.wire import Model, Tensor, read_model
from toolkit.errors import MilliwiseError

MAX_HOP_S = 20.0  # of the first, untrusted run
MAX_THREADS = 64
DIAL = "dial"  # the state of an adaptive model that a caller may set
NEVER = 1e9  # log-odds that open no gate
SUM_TOLERANCE = 1e-3


class Scores(NamedTuple):
    """What a listener says about one hop."""

    probabilities: np.ndarray  # float32 [labels], they sum to 1
    mode: int | None  # which mode of an adaptive model ran
    elapsed_ms: float  # of the onnxruntime call


class Listener:
    """A keyword listener: `push` one hop of audio, get the scores of every label. It keeps the states between hops."""

    def __init__(self, binding: Binding | Bundle, metadata: ListenerMetadata, sha256: str = "") -> None:
        """Wrap what was checked; use `open`, which checks it."""
        self.metadata = metadata
        self.sha256 = sha256  # of the file, or of a bundle's manifest: it tells one listener from every other
        self._binding = binding
        self._dial = np.zeros(self.gates, np.float32)

    @classmethod
    def open(cls, path: Path, threads: int | None = None) -> Listener:
        """Check a listener from anywhere against the contract, then load it and let it hear one hop of silence.

        The first hops, in which every gate is opened, are heard without optimisation, in limited memory and time: what
        a hostile file would make onnxruntime compute at loading fails here.

        Args:
            path: an ONNX file, or the folder of a bundle.
            threads: of onnxruntime; as many as the listener was measured with when None.

        Raises:
            MilliwiseError: it cannot be read, is not a listener, breaks a clause of the contract, asks for more than
                64 MB of states, for 256 MB or 20 s to hear a hop, or needs a newer onnxruntime.
        """
        try:
            contents = read_bundle(Path(path)) if Path(path).is_dir() else _read_file(Path(path))
            metadata = contents.metadata
            cls(contents.opened(trial_options()), metadata)._warm_up()
            options = session_options(threads or _measured_threads(metadata))
            listener = cls(contents.opened(options), metadata, contents.sha256)
            listener._warm_up()
        except MilliwiseError as error:
            raise MilliwiseError(f"cannot open the listener {ascii(str(path))[1:-1]}: {error}") from None
        return listener

    @property
    def labels(self) -> list[str]:
        """`_silence_`, `_unknown_`, then the keywords."""
        return self.metadata.labels

    @property
    def hop_samples(self) -> int:
        """Samples of one hop."""
        return self.metadata.hop_samples

    @property
    def rate(self) -> int:
        """Samples a second it listens at, in Hz."""
        return self.metadata.sample_rate_hz

    @property
    def threads(self) -> int:
        """Threads a hop is computed with."""
        return self._binding.threads

    @property
    def gates(self) -> int:
        """How many gates of an adaptive model the dial moves; 0 of a model without a dial."""
        dial = self._binding.states.get(DIAL)
        is_dial = dial is not None and dial.ndim == 2 and len(dial) == 1 and dial.dtype == np.float32
        return dial.shape[1] if dial is not None and is_dial and self._binding.mode is not None else 0

    def set_dial(self, values: np.ndarray) -> None:
        """Move the operating point of an adaptive model: from the next hop on, until it is set again.

        Args:
            values: [gates], the log-odds that each gate has to exceed to open. Zeros are as trained; a large number
                keeps the gate shut.

        Raises:
            MilliwiseError: the model has no dial, or the values are not a finite number for each gate.
        """
        if not self.gates:
            raise MilliwiseError("the listener has no dial, because it is not adaptive: leave its dial alone")
        dial = np.array(values, np.float32)
        if dial.shape != (self.gates,) or not np.isfinite(dial).all():
            raise MilliwiseError(f"a dial is a finite number for each of {self.gates} gates, not {str(values)[:60]!a}")
        self._dial = dial
        self._binding.states[DIAL][0] = dial  # every hop hands it on to the next

    def reset(self) -> None:
        """Forget everything heard: all states are zeros again. The dial stays as it was set."""
        self._binding.clear()
        if self.gates:
            self._binding.states[DIAL][0] = self._dial

    def push(self, audio: np.ndarray) -> Scores:
        """Hear one hop: float32 [hop_samples] in -1..1.

        Raises:
            MilliwiseError: the hop has another shape or type or holds NaN, or the scores are not what the model
                declares. The listener then remembers nothing of the hop.
        """
        return self._hear(audio, None)

    def _hear(self, audio: np.ndarray, options: onnxruntime.RunOptions | None) -> Scores:
        if audio.shape != (self.hop_samples,) or audio.dtype != np.float32:
            raise MilliwiseError(f"a hop is float32 [{self.hop_samples}], not {audio.dtype} {list(audio.shape)}")
        if not np.isfinite(audio).all():
            raise MilliwiseError("a hop holds samples that are not numbers (NaN or infinity): put zeros in their place")
        binding = self._binding
        binding.audio[0] = audio
        begun = time.perf_counter_ns()
        _run(binding, options)
        elapsed_ms = (time.perf_counter_ns() - begun) / 1e6
        probabilities = binding.scores[0].copy()
        if not np.isfinite(probabilities).all():
            raise MilliwiseError("the scores are not finite numbers: the model is broken, export the listener again")
        binding.swap()
        mode = None if binding.mode is None else int(binding.mode[0])
        return Scores(probabilities, mode, elapsed_ms)

    def _warm_up(self) -> None:
        """The first call is slow and is the one that shows a model which does not do what it declares.

        Of an adaptive one every gate is opened, cold and then warm: none is slow, or fails, when it opens at last.
        """
        with limited_time(MAX_HOP_S, "one hop", "it is no listener of ours") as options:
            for dial in self._dials_tried():
                if self.gates:
                    self.set_dial(dial)
                heard = self._hear(np.zeros(self.hop_samples, np.float32), options).probabilities
                if (heard < 0).any() or abs(float(heard.sum()) - 1) > SUM_TOLERANCE:
                    raise MilliwiseError("its scores are not shares that sum to 1: export the listener again")
        if self.gates:
            self.set_dial(np.zeros(self.gates))
        self.reset()

    def _dials_tried(self) -> Iterator[np.ndarray]:
        """All gates shut; then each gate alone, and all together, for two hops, and all shut again."""
        if self.gates > MAX_GATES:
            raise MilliwiseError(f"it has {self.gates} gates, more than {MAX_GATES}: it is no listener of ours")
        shut = np.full(self.gates, NEVER)
        yield shut
        if self.gates:
            for opened in (*np.where(np.eye(self.gates) == 1, -NEVER, NEVER), -shut):
                yield from (opened, opened, shut)


def _read_file(path: Path) -> Contents:
    content = read_content(path)
    model = read_model(content)
    metadata = ListenerMetadata.from_properties(model.properties)
    check_runtime(metadata.min_onnxruntime)
    _check_contract(model, metadata)
    sha256 = hashlib.sha256(content).hexdigest()
    return Contents(metadata, sha256, lambda options: Binding(open_session(content, options), metadata))


def _measured_threads(metadata: ListenerMetadata) -> int:
    threads = metadata.device.get("threads")
    return threads if type(threads) is int and 1 <= threads <= MAX_THREADS else 1


def _run(binding: Binding | Bundle, options: onnxruntime.RunOptions | None) -> None:
    try:
        binding.run(options)
    except Exception as error:  # onnxruntime's errors share no base class
        raise MilliwiseError(f"onnxruntime cannot run it ({first_line(error)}): export the listener again") from None


def _check_contract(model: Model, metadata: ListenerMetadata) -> None:
    """Compare what the file declares with its metadata, clause by clause, before anything is allocated."""
    for tensors in (model.inputs, model.outputs):
        check_total(tensors)
    hop, labels = metadata.hop_samples, len(metadata.labels)
    check_tensor(model.inputs, "audio", Tensor("float32", (1, hop)))
    check_tensor(model.outputs, "scores", Tensor("float32", (1, labels)))
    if "mode" in model.outputs:
        check_tensor(model.outputs, "mode", Tensor("int64", (1,)))
    for name, state in metadata.states.items():
        declared = Tensor(state["dtype"], tuple(state["shape"]))
        check_tensor(model.inputs, IN + name, declared)
        check_tensor(model.outputs, OUT + name, declared)
    extra = sorted(set(model.inputs) - {"audio"} - {IN + name for name in metadata.states})
    if extra:
        raise MilliwiseError(f"its input {extra[0][:60]!a} is not in its metadata: export the listener again")
