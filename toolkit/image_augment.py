"""Augment images for training as the thesis does (pad, crop, mirror), and normalise them (mean and deviation 0.5)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.images import IGNORED

PADDING = 4  # pixels on every side


def normalised(pixels: Tensor) -> Tensor:
    """Images uint8 [batch, height, width, 3] as float32 [batch, 3, height, width] in -1 to 1."""
    return pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format) / 127.5 - 1


def augmented(pixels: Tensor, labels: Tensor, generator: torch.Generator, *, flip: bool) -> tuple[Tensor, Tensor]:
    """Images moved by up to 4 pixels each way and, if `flip`, half mirrored.

    Black comes in, of which no mask knows the class.

    Args:
        pixels: uint8 [batch, height, width, 3].
        labels: int64 [batch], returned as they are; or masks [batch, height, width], which move with their images.
        generator: of the draws; on any device.

    Returns:
        Normalised images float32 [batch, 3, height, width], and the labels.
    """
    batch, height, width, _ = pixels.shape
    device, drawn = pixels.device, generator.device
    moves = torch.randint(0, 2 * PADDING + 1, (2, batch, 1), generator=generator, device=drawn).to(device)
    mirrored = torch.randint(0, 2, (batch, 1), generator=generator, device=drawn).to(device) * int(flip)
    down, across = torch.arange(height, device=device), torch.arange(width, device=device)
    rows = moves[0] + down  # [batch, height]
    columns = moves[1] + torch.where(mirrored == 1, across.flip(0), across)  # [batch, width]
    which = torch.arange(batch, device=device)[:, None, None], rows[:, :, None], columns[:, None, :]
    around = (PADDING, PADDING, PADDING, PADDING)
    if labels.dim() == 3:
        labels = functional.pad(labels, around, value=IGNORED)[which]
    return normalised(functional.pad(pixels, (0, 0, *around))[which]), labels
