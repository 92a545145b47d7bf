"""Open an exported listener defensively and run it hop by hop, with numpy and onnxruntime alone."""

from __future__ import annotations

import math
import stat
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from exporters.metadata import ITEM_BYTES, MAX_STATE_BYTES, ListenerMetadata
from exporters.wire import Model, Tensor, read_model
from toolkit.errors import MilliwiseError

MAX_FILE_BYTES = 64_000_000
IN, OUT = "state_in_", "state_out_"


class Scores(NamedTuple):
    """What a listener says about one hop."""

    probabilities: np.ndarray  # float32 [labels], they sum to 1
    mode: int | None  # which mode of an adaptive model ran
    elapsed_ms: float  # of the onnxruntime call


def session_options(threads: int = 1) -> onnxruntime.SessionOptions:
    """The one setting everything is measured and run with: sequential, and no thread spins between two hops."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # errors are raised, and said once
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


class Listener:
    """A keyword listener: `push` one hop of audio, get the scores of every label. It keeps the states between hops."""

    def __init__(self, session: onnxruntime.InferenceSession, metadata: ListenerMetadata) -> None:
        """Wrap a checked session; use `open`, which checks it."""
        self._session = session
        self.metadata = metadata
        states = metadata.states
        self._outputs = ["scores", *(OUT + name for name in states)]
        self._adaptive = any(output.name == "mode" for output in session.get_outputs())
        self._outputs += ["mode"] if self._adaptive else []
        self._zeros = {IN + name: np.zeros(state["shape"], state["dtype"]) for name, state in states.items()}
        self._feeds: dict[str, np.ndarray] = {}
        self.reset()

    @classmethod
    def open(cls, path: Path, threads: int = 1) -> Listener:
        """Check an ONNX file from anywhere against the contract, then load it and let it hear one hop of silence.

        Raises:
            MilliwiseError: it cannot be read, is not a listener, breaks a clause of the contract, asks for more than
                64 MB of states, or needs a newer onnxruntime.
        """
        try:
            content = _read(Path(path))
            model = read_model(content)
            metadata = ListenerMetadata.from_properties(model.properties)
            _check_runtime(metadata.min_onnxruntime)
            _check_contract(model, metadata)
            listener = cls(_session(content, threads), metadata)
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

    def reset(self) -> None:
        """Forget everything heard: all states are zeros again."""
        self._feeds = dict(self._zeros)

    def push(self, audio: np.ndarray) -> Scores:
        """Hear one hop: float32 [hop_samples] in -1..1.

        Raises:
            MilliwiseError: the hop has another shape or type, or the scores are not what the model declares.
        """
        if audio.shape != (self.hop_samples,) or audio.dtype != np.float32:
            raise MilliwiseError(f"a hop is float32 [{self.hop_samples}], not {audio.dtype} {list(audio.shape)}")
        self._feeds["audio"] = audio[None]
        begun = time.perf_counter_ns()
        results = _run(self._session, self._outputs, self._feeds)
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
        self.push(np.zeros(self.hop_samples, np.float32))
        self.reset()


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise MilliwiseError("it is not a file; name an .onnx file")
        if status.st_size > MAX_FILE_BYTES:
            raise MilliwiseError(
                f"it has {status.st_size} bytes, more than {MAX_FILE_BYTES}: it is not a listener of ours"
            )
        return path.read_bytes()
    except OSError as error:
        raise MilliwiseError(f"{error.strerror}; name an .onnx file you may read") from None
    except ValueError:
        raise MilliwiseError("the name holds a null character; name an .onnx file") from None


def _session(content: bytes, threads: int) -> onnxruntime.InferenceSession:
    options, cpu = session_options(threads), ["CPUExecutionProvider"]
    try:  # without the fallback, which prints to standard output and tries the same provider again
        return onnxruntime.InferenceSession(content, options, providers=cpu, enable_fallback=False)
    except Exception as error:  # onnxruntime's errors share no base class
        raise MilliwiseError(f"onnxruntime cannot load it ({_first_line(error)}): export the listener again") from None


def _run(session: onnxruntime.InferenceSession, outputs: list[str], feeds: dict[str, np.ndarray]) -> list[Any]:
    try:
        return list(session.run(outputs, feeds))
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
