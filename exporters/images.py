"""A network of images as a file: an `image` in, `logits` out, checked against torch before it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from exporters.image_file import INPUT, OUTPUT
from exporters.onnx import IR_VERSION, OPSET, to_onnx
from exporters.opening import session_options
from toolkit.errors import MilliwiseError
from toolkit.supernet import SuperNetwork

TOLERANCE = 1e-4  # of the largest logit, or of 1
IMAGES = 8


@dataclass(frozen=True)
class ImageVerification:
    """Largest absolute difference of the logits between the exported file and torch, over some images."""

    max_abs_diff: float
    images: int


def images_to_onnx(
    network: SuperNetwork, shape: tuple[int, ...], opset: int = OPSET, ir: int = IR_VERSION
) -> onnx.ModelProto:
    """See `to_onnx`; input and output are named for people.

    Args:
        shape: of the image, [1, 3, height, width]; its values are bytes / 127.5 - 1.
    """
    model = to_onnx(network, shape, opset, ir, listener=False)
    names = {"features": INPUT, "output": OUTPUT}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    return model


def verify_images(path: Path, network: SuperNetwork) -> ImageVerification:
    """Check a written file: the checker, and parity with torch on black, white and random images.

    Raises:
        MilliwiseError: a check fails; the message says by how much.
    """
    model = onnx.load(path)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise MilliwiseError(f"export refused: {' '.join(str(error).split())[:200]}; please report this") from None
    shape = tuple(size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim)
    session = onnxruntime.InferenceSession(path, session_options(1), providers=["CPUExecutionProvider"])
    chance = torch.Generator().manual_seed(0)
    images = [-torch.ones(shape), torch.ones(shape)]
    images += [2 * torch.rand(shape, generator=chance) - 1 for _ in range(IMAGES - 2)]
    worst = 0.0
    for image in images:
        with torch.no_grad():
            expected = network.eval().cpu()(image).numpy()
        difference = float(np.abs(session.run([OUTPUT], {INPUT: image.numpy()})[0] - expected).max())
        if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise MilliwiseError(f"export refused: logits differ from torch by {difference:.2g}; please report this")
        worst = max(worst, difference)
    return ImageVerification(worst, IMAGES)
