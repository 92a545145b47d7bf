"""Where the command starts: Ctrl-C ends it in one line even while Python still imports, or a thread still computes."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

INTERRUPTED = 130


def main() -> None:
    """Run `milliwise`; exit code 130 after Ctrl-C."""
    try:
        from toolkit.cli import main as command

        command(prog_name="milliwise")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        _leave()
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            _leave()
        raise


def _leave() -> NoReturn:
    """End at once: a thread that still computes in torch, and is stopped as Python ends, may abort the process."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
