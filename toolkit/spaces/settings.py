"""What a search space can be built with: settings by name, written `columns=8,channels=128`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Whole(NamedTuple):
    """A setting of a space that is a whole number of `least` to `most`."""

    default: int
    least: int
    most: int

    def read(self, text: str) -> int:
        """Its value.

        Raises:
            ValueError: it is none.
        """
        if not (text.isascii() and text.isdigit() and len(text) < 6 and self.least <= int(text) <= self.most):
            raise ValueError(f"{self.least} to {self.most}")
        return int(text)


class Choice(NamedTuple):
    """A setting of a space that is one of some words, by default the first."""

    words: tuple[str, ...]

    @property
    def default(self) -> str:
        """Its value if none is given."""
        return self.words[0]

    def read(self, text: str) -> str:
        """Its value.

        Raises:
            ValueError: it is none.
        """
        if text not in self.words:
            raise ValueError(" or ".join(self.words))
        return text


Setting = Whole | Choice


def read_settings(settings: Mapping[str, Setting], text: str) -> dict[str, int | str]:
    """The values that are given, by name.

    Raises:
        ValueError: there is no such setting, it is given twice, or such a value is not allowed.
    """
    found: dict[str, int | str] = {}
    for part in text.split(","):
        name, _equals, value = part.partition("=")
        if name not in settings or name in found:
            known = ", ".join(settings) or "none"
            raise ValueError(f"cannot set {part[:60]!a}: the settings are {known}, each once, with = and a value")
        try:
            found[name] = settings[name].read(value)
        except ValueError as error:
            raise ValueError(f"cannot set {part[:60]!a}: {name} is {error}") from None
    return found
