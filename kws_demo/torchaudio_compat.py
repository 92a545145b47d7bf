"""Import torchaudio also where its compiled part does not fit the installed torch."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType


def import_torchaudio() -> ModuleType:
    """The torchaudio module; without its compiled part when that cannot be loaded.

    The torchaudio 2.11 wheel for x86-64 is linked against CUDA: beside a CPU torch `import torchaudio` dies with
    "OSError: libc10_cuda.so". What is used here (its datasets, MelSpectrogram, MFCC) is Python and torch alone, so only
    then the loader of the compiled part is replaced by a module that says there is none.

    Raises:
        ModuleNotFoundError: torchaudio or torch is not installed.
    """
    try:
        return importlib.import_module("torchaudio")
    except ModuleNotFoundError:
        raise
    except (OSError, ImportError):
        for name in [name for name in sys.modules if name == "torchaudio" or name.startswith("torchaudio.")]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _no_extension()
        return importlib.import_module("torchaudio")


def _no_extension() -> ModuleType:
    module = ModuleType("torchaudio._extension", "Says that torchaudio has no compiled part here.")

    def unavailable(*_: object, **__: object) -> None:
        raise RuntimeError("the compiled part of torchaudio does not fit this torch: install the two from one index")

    vars(module).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _check_cuda_version=lambda: None,
        _load_lib=lambda name: False,
        fail_if_no_align=lambda function: unavailable,
    )
    return module
