"""Open an exported network of images defensively, with numpy and onnxruntime alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exporters.metadata import PREFIX
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
from exporters.wire import Tensor, read_model
from toolkit.errors import MilliwiseError

INPUT, OUTPUT = "image", "logits"
FURTHER = frozenset({"Resize"})  # what makes more than it is given: the first run has limited memory and time
MAX_SIZE = 1024
MAX_IMAGE_S = 20.0  # of the first, untrusted run
TASKS = ("classify", "segment")


@dataclass(frozen=True)
class ImageFile:
    """What the file of a network of images says of itself.

    Attributes:
        labels: of its logits.
        size: height and width of the image.
        device: that it was made for.
        hop_ms: how often it is called there; None if it was not measured.
    """

    labels: tuple[str, ...]
    size: int
    device: Mapping[str, Any]
    hop_ms: int | None


def sees(path: Path) -> bool:
    """Whether the file can be read and says that it is a network of images."""
    try:
        return PREFIX + "task" in read_model(read_content(path), FURTHER).properties
    except MilliwiseError:
        return False


def open_images(path: Path) -> ImageFile:
    """Check a file from anywhere, and let it see one image.

    Raises:
        MilliwiseError: it cannot be read, is not as we wrote it, asks for 256 MB or 20 s to see an image, or needs a
            newer onnxruntime.
    """
    try:
        return _checked(read_content(path))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        told = f"its metadata are not as milliwise wrote them ({reason}): export it again"
    except MilliwiseError as error:
        told = str(error)
    raise MilliwiseError(f"cannot open {ascii(str(path))[1:-1]}: {told}")


def _checked(content: bytes) -> ImageFile:
    model = read_model(content, FURTHER)
    told = {name: json.loads(model.properties[PREFIX + name]) for name in ("labels", "task", "device", "measured_ms")}
    labels, measured = tuple(str(label) for label in told["labels"]), told["measured_ms"]
    check_runtime(str(json.loads(model.properties[PREFIX + "min_onnxruntime"])))
    for tensors in (model.inputs, model.outputs):
        check_total(tensors)
    shape = model.inputs[INPUT].shape if INPUT in model.inputs else ()
    size = shape[-1] if shape and isinstance(shape[-1], int) else 0
    if not 1 <= size <= MAX_SIZE or told["task"] not in TASKS or not isinstance(told["device"], dict):
        raise ValueError(f"an image of {size}, to {str(told['task'])[:20]}")
    check_tensor(model.inputs, INPUT, Tensor("float32", (1, 3, size, size)))
    places = (size, size) if told["task"] == "segment" else ()
    check_tensor(model.outputs, OUTPUT, Tensor("float32", (1, len(labels), *places)))
    session = open_session(content, trial_options())
    with limited_time(MAX_IMAGE_S, "one image", "it is no network of ours") as options:
        try:
            session.run([OUTPUT], {INPUT: np.zeros((1, 3, size, size), np.float32)}, options)
        except Exception as error:  # onnxruntime's errors share no base class
            raise MilliwiseError(f"onnxruntime cannot run it ({first_line(error)}): export it again") from None
    hop_ms = None if measured is None else round(float(measured["hop_ms"]))
    return ImageFile(labels, size, told["device"], hop_ms)
