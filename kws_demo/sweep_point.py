"""One point of a sweep: a search in a folder of its own, wherever that is done."""

from __future__ import annotations

import os
import platform
import re
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kws_demo.candidate import CANDIDATES_NAME
from kws_demo.run_folder import ARGUMENTS_NAME
from kws_demo.settings import Settings
from profilers.export import PROFILE_NAME
from toolkit.errors import MilliwiseError, printable
from toolkit.files import digest, write_bytes
from toolkit.own_cost import cost_digest
from toolkit.profile import DeviceProfile

# Of a finished run; run.json comes last, for a folder that has one is finished.
FILES = (ARGUMENTS_NAME, PROFILE_NAME, CANDIDATES_NAME, "log.jsonl", "weights.safetensors", "run.json")
MOST_BYTES = 2_000_000_000
LONGEST_REASON, LONGEST_SPACE = 400, 80  # characters


@dataclass(frozen=True)
class Point:
    """A search, and the profile of the device that it is for."""

    settings: Settings
    profile: DeviceProfile

    @property
    def name(self) -> str:
        """Of its folder, such as `resnet-fabric_bsn_40-MFLOPs_seed-0`."""
        given = self.settings
        penalty = [] if given.penalty is None else [f"penalty-{given.penalty:g}"]
        parts = (given.strategy, given.budget, *penalty, f"seed-{given.seed}")
        return "_".join([self.space_name, *map(_plain, parts)])

    @property
    def space_name(self) -> str:
        """Of its space, as it may stand in the name of a file."""
        given = self.settings.space
        space = Path(given).stem if os.sep in given else given
        if space != given or len(space) > LONGEST_SPACE:  # a path would be too long, its stem may not be alone
            space = f"{space[:LONGEST_SPACE]}-{digest(given)[:8]}"
        return _plain(space)

    @property
    def arguments(self) -> dict[str, Any]:
        """All that its result depends on, as JSON."""
        own = cost_digest(self.settings.cost)
        return {"settings": asdict(self.settings), "profile": digest(asdict(self.profile))[:16], "cost": own}


def _plain(part: str) -> str:
    return re.sub(r"[^A-Za-z0-9.=+@]+", "-", part).strip(".-")


def run_point(point: Point, folder: Path) -> str | None:
    """Search in a folder, going on with what is in it; if that fails, why, in one line."""
    try:
        from kws_demo.search import run_search

        run_search(point.settings, point.profile, folder, resume=True)
    except MilliwiseError as error:
        return _one_line(str(error))
    except Exception as error:  # whatever it is, it is one point of many that fails
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return _one_line(f"{type(error).__name__}: {error} ({Path(frame.filename).name}, line {frame.lineno})")
    return None


def run_away(point: Point) -> dict[str, bytes] | str:
    """Search in a temporary folder; the files of the finished run by name, or why it failed and where."""
    try:
        with tempfile.TemporaryDirectory(prefix="milliwise-point-") as name:
            failure = run_point(point, Path(name))
            if failure is None:
                return {file: (Path(name) / file).read_bytes() for file in FILES if (Path(name) / file).is_file()}
    except OSError as error:
        failure = _one_line(f"{error.strerror or error}; free some space there")
    return f"on {platform.node()}: {failure}"


def keep_files(folder: Path, found: object) -> str | None:
    """Write what `run_away` sent; if it is a failure or no such files, why, in one line.

    Only files that a run has are written, whatever was sent.

    Raises:
        MilliwiseError: the folder cannot be written.
    """
    if isinstance(found, str):
        return _one_line(found)
    if not isinstance(found, Mapping) or not all(isinstance(found.get(name), bytes) for name in FILES):
        return "what came back is no finished run: install the same milliwise on every node"
    if odd := [name for name in found if name not in FILES]:
        return (
            f"a file {printable(odd[0])[:60]!r} came back, which no run has: install the same milliwise on every node"
        )
    if sum(len(found[name]) for name in FILES) > MOST_BYTES:
        return f"more than {MOST_BYTES} bytes came back: that is no run of ours"
    for name in FILES:
        write_bytes(folder / name, found[name])
    return None


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))[:LONGEST_REASON]
