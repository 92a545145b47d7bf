"""Read PNG files with Pillow, guarded: sizes are looked at first, and nothing is lost silently."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from toolkit.errors import MilliwiseError, printable
from toolkit.files import require_regular
from toolkit.images import damaged, reading

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = struct.Struct(">8s4x4sIIB")  # signature, "IHDR", width, height, bits a channel
MAX_PIXELS = 2**24
MAX_FILE_BYTES = 2**27
BROKEN = (SyntaxError, IndexError, KeyError, TypeError, struct.error, Image.DecompressionBombError)


def png_size(path: Path) -> tuple[int, int]:
    """Height and width of a PNG, by its header; see `_header`."""
    return _header(path)[:2]


def _header(path: Path) -> tuple[int, int, int]:
    """Height, width and bits a channel that the header of a PNG gives, before any of it is unpacked.

    Raises:
        MilliwiseError: it is no PNG, has 16 bits a channel, or too many pixels.
    """
    with reading(path):
        require_regular(path)
        with path.open("rb") as file:
            head = file.read(HEADER.size)
    if len(head) < HEADER.size or not head.startswith(SIGNATURE) or head[12:16] != b"IHDR":
        raise damaged(path, "it is no PNG")
    _, _, width, height, bits = HEADER.unpack(head)
    if bits > 8:
        raise MilliwiseError(f"{printable(path)} has {bits} bits a channel: convert it to 8")
    if not 0 < width * height <= MAX_PIXELS:
        raise MilliwiseError(
            f"{printable(path)} is {height} x {width}, not of 1 to {MAX_PIXELS} pixels: make it smaller"
        )
    return height, width, bits


def read_image(path: Path) -> np.ndarray:
    """A PNG of any kind (grey, colour, palette) as uint8 [height, width, 3].

    Raises:
        MilliwiseError: it is damaged, or a pixel of it is transparent.
    """
    image = _opened(path)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getextrema()[-1] != (255, 255):
            raise MilliwiseError(f"{printable(path)} has transparent pixels: lay it on a background")
    return np.asarray(image.convert("RGB"))


def read_mask(path: Path) -> np.ndarray:
    """A PNG of class numbers (grey values, or the numbers of a palette's colours) as uint8 [height, width].

    Raises:
        MilliwiseError: it is damaged, or has colours and therefore no numbers.
    """
    image = _opened(path)
    bits = _header(path)[2]
    if image.mode not in ("1", "L", "P") or (image.mode == "L" and bits < 8):  # Pillow scales 2 and 4 bits to 0 to 255
        raise MilliwiseError(
            f"the mask {printable(path)} is {image.mode} of {bits} bits: write class numbers as 8-bit grey values"
        )
    return np.asarray(image).astype(np.uint8)


def _opened(path: Path) -> Image.Image:
    """The unpacked image, its check sums verified (Pillow does not look at them when it unpacks)."""
    _header(path)
    with reading(path):
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise damaged(path, f"it has more than {MAX_FILE_BYTES} bytes")
            content = path.read_bytes()
            with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
                image.verify()
            image = Image.open(io.BytesIO(content), formats=("PNG",))
            if getattr(image, "is_animated", False):
                raise MilliwiseError(f"{printable(path)} is animated: give one image")
            image.load()
        except BROKEN as error:
            raise damaged(path, str(error)) from None
    return image
