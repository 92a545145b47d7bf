"""Values from JSON that others wrote, each checked: what is no such value is a ValueError that names it."""

from __future__ import annotations


def number(value: object, name: str, least: float = -1e300) -> float:
    """A finite number of at least that."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 1e300:
        raise ValueError(f"{name} is {str(value)[:40]}")
    return float(value)


def optional_number(value: object, name: str, least: float = 0.0) -> float | None:
    """A number, or none."""
    return None if value is None else number(value, name, least)


def count(value: object, name: str, least: int = 0, most: int = 10**18) -> int:
    """An integer in that range, both ends included."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} is {str(value)[:40]}")
    return value


def flag(value: object, name: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {str(value)[:40]}")
    return value


def text(value: object, name: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise ValueError(f"{name} is {str(value)[:40]}")
    return value


def texts(value: object, name: str) -> tuple[str, ...]:
    """A list of strings."""
    if not isinstance(value, list):
        raise ValueError(f"{name} is {str(value)[:40]}")
    return tuple(text(item, name) for item in value)
