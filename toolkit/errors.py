"""The errors a user can cause, each one line that says what is wrong with the value seen and how to cure it."""


class MilliwiseError(Exception):
    """Bad input. The message is one line: what is wrong, the value seen, the cure."""

    exit_code = 2


class BudgetTooSmall(MilliwiseError):
    """The budget is below the cheapest network of the space on this device."""


class UnpricedEdge(MilliwiseError):
    """An edge (or a whole metric) has no measured cost in the device profile."""


class ProfileMismatch(MilliwiseError):
    """The device profile was made for another graph, machine, thread count or runtime."""


class Unreachable(MilliwiseError):
    """A target cannot be reached now: what is to be measured there has to wait."""


class MissingExtra(MilliwiseError):
    """A command needs a package that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this command needs the package {package}: pip install 'milliwise[{extra}]'")


def printable(text: object) -> str:
    """Text from outside (a file, a device), safe on a terminal: what is not printable becomes an escape."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))
