"""The listeners that come with the package, each found by a short name: models/NAME.onnx with its card NAME.md."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from toolkit.errors import MilliwiseError

FOLDER = Path(str(files("kws_demo") / "models"))
DEFAULT = "english"
MAX_BYTES = 500_000  # of a listener that ships


def shipped() -> dict[str, Path]:
    """The shipped listeners by name: the default one first, then by alphabet."""
    found = {path.stem: path for path in FOLDER.glob("*.onnx")}
    return {name: found[name] for name in sorted(found, key=lambda name: (name != DEFAULT, name))}


def resolve_model(text: str | None) -> Path:
    """The file that a user's MODEL means: a file of that name, else the shipped listener; the default one for None.

    Raises:
        MilliwiseError: none is named, or a short name that is neither, and the message lists those that ship.
    """
    known = shipped()
    if text is None:
        if not known:
            raise MilliwiseError("no listener is named: make one with milliwise demo, then milliwise stream MODEL.onnx")
        return next(iter(known.values()))
    path = Path(text)
    if text in known and not path.is_file():
        return known[text]
    if known and path.name == text and not path.suffix and not path.exists():
        raise MilliwiseError(f"no file and no shipped listener {text!a}: choose {' or '.join(known)}, or name a file")
    return path
