"""What opening any listener takes: sessions to run it with, those it is tried in first, and the limits of both."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import onnxruntime

from exporters.metadata import ITEM_BYTES, MAX_STATE_BYTES
from exporters.wire import Tensor
from toolkit.errors import MilliwiseError
from toolkit.files import require_regular

MAX_FILE_BYTES = 64_000_000
MAX_MEMORY_BYTES = 256_000_000  # of the first, untrusted run


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


def trial_options() -> onnxruntime.SessionOptions:
    """Nothing is computed while it loads, and what a hop computes has to fit into an arena of limited size."""
    _limit_memory()
    options = session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.use_env_allocators", "1")
    return options


@cache
def _limit_memory() -> None:
    """Once per process: the arena of the sessions that ask for it, which are those of `trial_options`."""
    arena = {"max_mem": MAX_MEMORY_BYTES, "arena_extend_strategy": 1, "initial_chunk_size_bytes": 1_000_000}
    kind, memory = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    onnxruntime.create_and_register_allocator(
        onnxruntime.OrtMemoryInfo("Cpu", kind, 0, memory),
        onnxruntime.OrtArenaCfg({**arena, "max_dead_bytes_per_chunk": -1}),
    )


def open_session(content: bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A session of the file with this content.

    Raises:
        MilliwiseError: onnxruntime cannot load it.
    """
    cpu = ["CPUExecutionProvider"]
    try:  # without the fallback, which prints to standard output and tries the same provider again
        return onnxruntime.InferenceSession(content, options, providers=cpu, enable_fallback=False)
    except Exception as error:  # onnxruntime's errors share no base class
        raise MilliwiseError(f"onnxruntime cannot load it ({first_line(error)}): export the listener again") from None


@contextmanager
def limited_time(seconds: float, what: str, so: str) -> Iterator[onnxruntime.RunOptions]:
    """Options for runs that onnxruntime ends when the time is over.

    Raises:
        MilliwiseError: instead of whatever is raised inside, if it was.
    """
    options = onnxruntime.RunOptions()
    watchdog = threading.Timer(seconds, setattr, (options, "terminate", True))
    watchdog.daemon = True
    watchdog.start()
    try:
        yield options
    except MilliwiseError:
        if options.terminate:
            raise MilliwiseError(f"{what} takes longer than {seconds:g} s: {so}") from None
        raise
    finally:
        watchdog.cancel()


def first_line(error: Exception) -> str:
    """Of its message, cut short and in ASCII."""
    lines = str(error).splitlines()
    return ascii(lines[0][:200])[1:-1] if lines else type(error).__name__


def read_content(path: Path) -> bytes:
    """Of a file of at most 64 MB.

    Raises:
        MilliwiseError: there is no such file, it may not be read, or it is larger.
    """
    try:
        require_regular(path)
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise MilliwiseError(f"it has {size} bytes, more than {MAX_FILE_BYTES}: it is not a listener of ours")
        return path.read_bytes()
    except OSError as error:
        raise MilliwiseError(f"{error.strerror}; name an .onnx file you may read") from None
    except ValueError:
        raise MilliwiseError("the name holds a null character; name an .onnx file") from None


def check_runtime(minimum: str) -> None:
    """Refuse a file that needs a newer onnxruntime than this one.

    Raises:
        MilliwiseError: it does.
    """

    def numbers(version: str) -> list[int]:
        return [int(part) for part in version.split(".") if part.isdecimal()]

    if numbers(onnxruntime.__version__) < numbers(minimum):
        raise MilliwiseError(
            f"it needs onnxruntime {minimum}, this is {onnxruntime.__version__}: pip install -U onnxruntime"
        )


def check_total(tensors: Mapping[str, Tensor]) -> None:
    """Refuse inputs or outputs whose sizes are not fixed, or are too many bytes in all.

    Raises:
        MilliwiseError: one is of another type, or they take more than 64 MB.
    """
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


def check_tensor(tensors: Mapping[str, Tensor], name: str, expected: Tensor) -> None:
    """Refuse an input or output that is missing or of another type or shape.

    Raises:
        MilliwiseError: it is.
    """
    seen = tensors.get(name)
    if seen != expected:
        has = f"{seen.dtype} {list(seen.shape)}" if seen else "missing"
        raise MilliwiseError(
            f"its {name[:60]!a} is {has}, not {expected.dtype} {list(expected.shape)}: export the listener again"
        )
