"""Where the command starts: Ctrl-C ends it in one line even while Python still imports."""

from __future__ import annotations

import sys


def main() -> None:
    """Run `milliwise`; exit code 130 after Ctrl-C."""
    try:
        from toolkit.cli import main as command

        command(prog_name="milliwise")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
