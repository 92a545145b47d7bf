"""Open an exported listener defensively and run it hop by hop, with numpy and onnxruntime alone."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from exporters.metadata import ITEM_BYTES, MAX_STATE_BYTES, ListenerMetadata
from exporters.wire import Model, Tensor, read_model
from toolkit.errors import MilliwiseError
from toolkit.files import require_regular

MAX_FILE_BYTES = 64_000_000
MAX_MEMORY_BYTES = 256_000_000  # of the first, untrusted run
MAX_HOP_S = 20.0  # and its time
MAX_THREADS = 64
IN, OUT = "state_in_", "state_out_"
SUM_TOLERANCE = 1e-3


class Scores(NamedTuple):
    """What a listener says about one hop."""

    probabilities: np.ndarray  # float32 [labels], they sum to 1
    mode: int | None  # which mode of an adaptive model ran
    elapsed_ms: float  # of the onnxruntime call


def session_options(threads: int = 1) -> onnxruntime.SessionOptions:
    """The one setting everything is measured and run with: sequential, and no thread spins between two hops."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # errors are raised, and said once
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _trial_options() -> onnxruntime.SessionOptions:
    """Nothing is computed while it loads, and what a hop computes has to fit into an arena of limited size."""
    _limit_memory()
    options = session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.use_env_allocators", "1")
    return options


@cache
def _limit_memory() -> None:
    """Once per process: the arena of the sessions that ask for it, which are those of `_trial_options`."""
    arena = {"max_mem": MAX_MEMORY_BYTES, "arena_extend_strategy": 1, "initial_chunk_size_bytes": 1_000_000}
    kind, memory = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    onnxruntime.create_and_register_allocator(
        onnxruntime.OrtMemoryInfo("Cpu", kind, 0, memory),
        onnxruntime.OrtArenaCfg({**arena, "max_dead_bytes_per_chunk": -1}),
    )


class Listener:
    """A keyword listener: `push` one hop of audio, get the scores of every label. It keeps the states between hops."""

    def __init__(self, session: onnxruntime.InferenceSession, metadata: ListenerMetadata, sha256: str = "") -> None:
        """Wrap a checked session; use `open`, which checks it."""
        self._session = session
        self.metadata = metadata
        self.sha256 = sha256  # of the file, which tells one listener from every other
        states = metadata.states
        self._outputs = ["scores", *(OUT + name for name in states)]
        self._adaptive = any(output.name == "mode" for output in session.get_outputs())
        self._outputs += ["mode"] if self._adaptive else []
        self._zeros = {IN + name: np.zeros(state["shape"], state["dtype"]) for name, state in states.items()}
        self._feeds: dict[str, np.ndarray] = {}
        self.reset()

    @classmethod
    def open(cls, path: Path, threads: int | None = None) -> Listener:
        """Check an ONNX file from anywhere against the contract, then load it and let it hear one hop of silence.

        The first hop is heard without optimisation, with limited memory and time: what a hostile file would make
        onnxruntime compute at loading fails here.

        Args:
            path: the file.
            threads: of onnxruntime; as many as the listener was measured with when None.

        Raises:
            MilliwiseError: it cannot be read, is not a listener, breaks a clause of the contract, asks for more than
                64 MB of states, for 256 MB or 20 s to hear a hop, or needs a newer onnxruntime.
        """
        try:
            content = _read(Path(path))
            model = read_model(content)
            metadata = ListenerMetadata.from_properties(model.properties)
            _check_runtime(metadata.min_onnxruntime)
            _check_contract(model, metadata)
            cls(_session(content, _trial_options()), metadata)._warm_up()
            session = _session(content, session_options(threads or _measured_threads(metadata)))
            listener = cls(session, metadata, hashlib.sha256(content).hexdigest())
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
        return int(self._session.get_session_options().intra_op_num_threads)

    def reset(self) -> None:
        """Forget everything heard: all states are zeros again."""
        self._feeds = dict(self._zeros)

    def push(self, audio: np.ndarray) -> Scores:
        """Hear one hop: float32 [hop_samples] in -1..1.

        Raises:
            MilliwiseError: the hop has another shape or type, or the scores are not what the model declares.
        """
        return self._hear(audio, None)

    def _hear(self, audio: np.ndarray, options: onnxruntime.RunOptions | None) -> Scores:
        if audio.shape != (self.hop_samples,) or audio.dtype != np.float32:
            raise MilliwiseError(f"a hop is float32 [{self.hop_samples}], not {audio.dtype} {list(audio.shape)}")
        self._feeds["audio"] = audio[None]
        begun = time.perf_counter_ns()
        results = _run(self._session, self._outputs, self._feeds, options)
        elapsed_ms = (time.perf_counter_ns() - begun) / 1e6
        mode = int(results.pop()[0]) if self._adaptive else None
        for name, state in zip(self._zeros, results[1:], strict=True):
            self._feeds[name] = state
        probabilities = results[0].reshape(-1)
        if len(probabilities) != len(self.labels) or not np.isfinite(probabilities).all():
            raise MilliwiseError(
                "the scores are not finite numbers, one for each label: the audio or the model is broken"
            )
        return Scores(probabilities, mode, elapsed_ms)

    def _warm_up(self) -> None:
        """The first call is slow and is the one that shows a model which does not do what it declares."""
        options = onnxruntime.RunOptions()
        watchdog = threading.Timer(MAX_HOP_S, setattr, (options, "terminate", True))
        watchdog.daemon = True
        watchdog.start()
        try:
            heard = self._hear(np.zeros(self.hop_samples, np.float32), options).probabilities
            if (heard < 0).any() or abs(float(heard.sum()) - 1) > SUM_TOLERANCE:
                raise MilliwiseError("its scores are not shares that sum to 1: export the listener again")
        except MilliwiseError:
            if options.terminate:
                raise MilliwiseError(f"one hop takes longer than {MAX_HOP_S:g} s: it is no listener of ours") from None
            raise
        finally:
            watchdog.cancel()
        self.reset()


def _read(path: Path) -> bytes:
    try:
        require_regular(path)
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise MilliwiseError(f"it has {size} bytes, more than {MAX_FILE_BYTES}: it is not a listener of ours")
        return path.read_bytes()
    except OSError as error:
        raise MilliwiseError(f"{error.strerror}; name an .onnx file you may read") from None
    except ValueError:
        raise MilliwiseError("the name holds a null character; name an .onnx file") from None


def _measured_threads(metadata: ListenerMetadata) -> int:
    threads = metadata.device.get("threads")
    return threads if type(threads) is int and 1 <= threads <= MAX_THREADS else 1


def _session(content: bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    cpu = ["CPUExecutionProvider"]
    try:  # without the fallback, which prints to standard output and tries the same provider again
        return onnxruntime.InferenceSession(content, options, providers=cpu, enable_fallback=False)
    except Exception as error:  # onnxruntime's errors share no base class
        raise MilliwiseError(f"onnxruntime cannot load it ({_first_line(error)}): export the listener again") from None


def _run(
    session: onnxruntime.InferenceSession,
    outputs: list[str],
    feeds: dict[str, np.ndarray],
    options: onnxruntime.RunOptions | None,
) -> list[Any]:
    try:
        return list(session.run(outputs, feeds, options))
    except Exception as error:  # onnxruntime's errors share no base class
        raise MilliwiseError(f"onnxruntime cannot run it ({_first_line(error)}): export the listener again") from None


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return ascii(lines[0][:200])[1:-1] if lines else type(error).__name__


def _check_runtime(minimum: str) -> None:
    def numbers(version: str) -> list[int]:
        return [int(part) for part in version.split(".") if part.isdecimal()]

    if numbers(onnxruntime.__version__) < numbers(minimum):
        raise MilliwiseError(
            f"it needs onnxruntime {minimum}, this is {onnxruntime.__version__}: pip install -U onnxruntime"
        )


def _check_contract(model: Model, metadata: ListenerMetadata) -> None:
    """Compare what the file declares with its metadata, clause by clause, before anything is allocated."""
    for tensors in (model.inputs, model.outputs):
        _check_total(tensors)
    hop, labels = metadata.hop_samples, len(metadata.labels)
    _check_tensor(model.inputs, "audio", Tensor("float32", (1, hop)))
    _check_tensor(model.outputs, "scores", Tensor("float32", (1, labels)))
    if "mode" in model.outputs:
        _check_tensor(model.outputs, "mode", Tensor("int64", (1,)))
    for name, state in metadata.states.items():
        declared = Tensor(state["dtype"], tuple(state["shape"]))
        _check_tensor(model.inputs, IN + name, declared)
        _check_tensor(model.outputs, OUT + name, declared)
    extra = sorted(set(model.inputs) - {"audio"} - {IN + name for name in metadata.states})
    if extra:
        raise MilliwiseError(f"its input {extra[0][:60]!a} is not in its metadata: export the listener again")


def _check_total(tensors: dict[str, Tensor]) -> None:
    total = 0
    for name, tensor in tensors.items():
        sizes = [size for size in tensor.shape if size is not None]
        if len(sizes) < len(tensor.shape) or tensor.dtype not in ITEM_BYTES:
            raise MilliwiseError(f"{name[:60]!a} is {tensor.dtype} {list(tensor.shape)}; a listener's shapes are fixed")
        total += math.prod(sizes) * ITEM_BYTES[tensor.dtype]
    if total > MAX_STATE_BYTES:
        raise MilliwiseError(
            f"its states take {total} bytes, more than {MAX_STATE_BYTES}: it is not a listener of ours"
        )


def _check_tensor(tensors: dict[str, Tensor], name: str, expected: Tensor) -> None:
    seen = tensors.get(name)
    if seen != expected:
        has = f"{seen.dtype} {list(seen.shape)}" if seen else "missing"
        raise MilliwiseError(
            f"its {name[:60]!a} is {has}, not {expected.dtype} {list(expected.shape)}: export the listener again"
        )
