"""Profiles killed at random moments (kill -9) and resumed: whether each goes on where it was, and nothing is lost.

As a program (`python -m kws_demo.bench.profile_kills JOURNAL PROFILE`) it makes a profile, or goes on with it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kws_demo.bench.rows import Results, row
from profilers.host import ending
from profilers.plan import Effort
from profilers.profile import profile_device
from profilers.runner import MAX_EXTENSION
from profilers.target import LocalTarget
from toolkit.errors import MilliwiseError
from toolkit.files import remove_file
from toolkit.profile import DeviceProfile
from toolkit.progress import progress
from toolkit.spaces import find_space

SPACE, HOP_MS = "kws-coarse", 40
EFFORT = Effort(fitted=8, calibrating=0, held_out=6, paced=2, short_calls=3, hop_calls=2, rounds=4, weighed=2)
BATCH = 10  # kills whose raw results are kept together
ORPHAN_S = 90.0  # a runner that outlives its parent by more than this is ended
KILLED = -signal.SIGKILL
STATE, PARENT, BEGUN = 0, 1, 19  # fields of /proc/PID/stat behind the name
AGAIN = " again, "  # in the names of parts that an undisturbed run may lack
Row = dict[str, Any]


def kill_rows(results: Results, seed: int, kills: int = 100) -> list[Row]:
    """About half of the kills are of the measuring process alone: its runner has to notice. The others are of both."""
    whole = results.keep("kills: undisturbed", undisturbed)
    found: list[Row] = []
    for first in range(0, kills, BATCH):
        measure = functools.partial(killed, min(BATCH, kills - first), whole, seed + first)
        found += results.keep(f"kills from {first}", measure)
    every = [kill for profile in found for kill in profile["kills"]]
    resumed = sum(kill["resumed"] for kill in every)
    fell = Counter(re.sub(r" \d+", "", kill["part"]) or "nothing" for kill in every)
    where = f"{len(found)} profiles; what was written last: {', '.join(f'{n} {part}' for part, n in fell.items())}"
    errors = "; ".join(dict.fromkeys(profile["error"] for profile in found if profile["error"]))
    orphans = [kill["orphan_s"] for kill in every if kill["orphan_s"] is not None]
    alone = f"{len(orphans)} times it was killed while one ran"
    longest = max(orphans, default=None)
    return [
        row("profiles killed at random moments: kills", f"= {kills}", len(every), lambda n: n == kills, reason=where),
        row("successful resumes", f"= {kills}", resumed, lambda number: number == kills, reason=errors),
        row("rows lost", "= 0", sum(profile["lost"] for profile in found), lambda number: number == 0),
        row("rows doubled", "= 0", sum(profile["doubled"] for profile in found), lambda number: number == 0),
        row("seconds a runner outlives its parent, the most", "-", longest, None, reason=alone),
    ]


def undisturbed() -> Row:
    """A profile that nobody kills: how long it takes, and what its journal and the profile hold.

    Raises:
        MilliwiseError: it fails.
    """
    with tempfile.TemporaryDirectory(prefix="milliwise-bench-") as name:
        found = attempt(Path(name))
        _require_some(found.error)
        told = sorted(each for each in measured(found.journal) if AGAIN not in each)
        return {"seconds": round(found.seconds, 3), "journal": told, "profile": _profile_rows(Path(name))}


def killed(kills: int, whole: Row, seed: int) -> list[Row]:
    """As many profiles as it takes to kill so many times, each in a folder of its own.

    Raises:
        MilliwiseError: one fails without being killed.
    """
    chance, found, left = random.Random(seed), [], kills
    with progress(f"{kills} kills", kills) as advance:
        while left:
            with tempfile.TemporaryDirectory(prefix="milliwise-bench-") as name:
                found.append(one_profile(Path(name), left, whole, chance))
            done = len(found[-1]["kills"])
            _require_some("" if done else found[-1]["error"])
            left -= done
            advance(done)
    return found


def _require_some(error: str) -> None:
    if error:
        raise MilliwiseError(f"a profile of {SPACE} fails even if nobody kills it: {error}")


def one_profile(folder: Path, most: int, whole: Row, chance: random.Random) -> Row:
    """One profile, killed after a random time again and again (at most so often) until an attempt reaches its end.

    Returns:
        kills, lost and doubled (numbers of rows), error (why it never reached its end; else empty). Of each kill:
        after_s, alone, lines (of the journal then), part (of the work that the last one tells of), orphan_s, resumed:
        the next attempt did not fail, and all those lines were still there after it.
    """
    kills: list[Row] = []
    known: list[bytes] = []
    lost = 0
    for number in range(most + 1):
        after_s = round(chance.uniform(0, whole["seconds"]), 3) if number < most else math.inf
        alone = chance.random() < 0.5
        found = attempt(folder, after_s, alone)
        went_on = found.journal[: len(known)] == known
        if kills:
            kills[-1]["resumed"] = went_on and not found.error
        lost += 0 if went_on else len(set(known) - set(found.journal))
        known = found.journal
        if found.code != KILLED or _is_complete(folder):
            break
        facts = {"after_s": after_s, "alone": alone, "lines": len(known), "part": _last_part(known)}
        kills.append({**facts, "orphan_s": found.orphan_s, "resumed": False})
    missing, doubled = (0, 0) if found.error else judged(known, _profile_rows(folder), whole)
    return {"kills": kills, "lost": lost + missing, "doubled": doubled, "error": found.error}


def _is_complete(folder: Path) -> bool:
    """The profile was saved before the kill: the journal is removed last, and there is nothing left to go on with."""
    return (folder / "profile.json").exists() and not (folder / "journal").exists()


def judged(journal: Sequence[bytes], profile: Sequence[str], whole: Row) -> tuple[int, int]:
    """How much a finished journal and its profile lack, and have too much of, against those of an undisturbed run.

    Of a model too much is more blocks than a run may measure; of anything else it is a second result.
    """
    found = measured(journal)
    most = {name: MAX_EXTENSION * EFFORT.rounds if _is_model(name) else 1 for name in found}
    missing = len(set(whole["journal"]) - set(found))
    missing += sum(_is_model(name) and often < EFFORT.rounds for name, often in found.items())
    doubled = len(journal) - len(set(journal)) + sum(max(0, often - most[name]) for name, often in found.items())
    ours: Counter[str] = Counter(profile)
    theirs: Counter[str] = Counter(whole["profile"])
    return missing + (theirs - ours).total(), doubled + (ours - theirs).total()


def measured(journal: Sequence[bytes]) -> Counter[str]:
    """How many blocks of every model ("PART: MODEL"), and how many results of everything else ("PART")."""
    found: Counter[str] = Counter()
    for line in journal[1:]:
        entry = json.loads(line.partition(b" ")[2])
        part, value = entry["part"], entry["value"]
        event = value.get("event") if isinstance(value, dict) else None
        if event == "blocks":
            found[f"{part}: {value['model']}"] += len(value["blocks_ms"])
        elif event != "load":
            found[part] += 1
    return found


def _is_model(name: str) -> bool:
    return ": " in name


def _last_part(journal: Sequence[bytes]) -> str:
    return str(json.loads(journal[-1].partition(b" ")[2])["part"]) if len(journal) > 1 else ""


def _profile_rows(folder: Path) -> list[str]:
    """The edges that have a cost, and the held-out networks."""
    profile = DeviceProfile.load(folder / "profile.json")
    edges = [name for name, edge in profile.edges.items() if edge.latency_ms is not None]
    return edges + [" ".join(sorted(row["kept"])) for row in profile.held_out.rows]


@dataclass(frozen=True)
class Attempt:
    """One process that begins a profile or goes on with it.

    Attributes:
        code: its exit code; of a signal, negative.
        journal: its whole lines afterwards.
        orphan_s: for how long its runner outlived it; None where there was none, or it was killed, too.
        error: what it said last, unless it reached its end or was killed.
    """

    code: int
    seconds: float
    journal: list[bytes]
    orphan_s: float | None
    error: str


def attempt(folder: Path, kill_after_s: float = math.inf, alone: bool = False) -> Attempt:
    """Begin the profile of the folder or go on with it, and kill -9 that after so many seconds."""
    path, begun, orphan_s = folder / "journal", time.monotonic(), None
    command = [sys.executable, "-m", __name__, str(path), str(folder / "profile.json")]
    with (folder / "errors.txt").open("wb") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            env={**os.environ, "TMPDIR": str(folder)}, start_new_session=True,
        )  # fmt: skip
    with ending(process), contextlib.ExitStack() as handles:
        journal = None  # opened while there is one: whoever finishes a profile removes it
        while process.poll() is None and time.monotonic() - begun < kill_after_s:
            if journal is None and path.exists():
                journal = handles.enter_context(path.open("rb"))
            time.sleep(0.005)
        seconds = time.monotonic() - begun
        if process.poll() is None:
            orphan_s = _kill(process, alone)
        content = path.read_bytes() if path.exists() else journal.read() if journal else b""
    lines = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
    said = (folder / "errors.txt").read_text(errors="replace").strip().splitlines()
    error = "" if process.returncode in (0, KILLED) else f"exit code {process.returncode}: {' '.join(said[-1:])[-300:]}"
    return Attempt(process.returncode, seconds, lines, orphan_s, error)


def _kill(process: subprocess.Popen[bytes], alone: bool) -> float | None:
    """Kill -9 a process, and its children unless it is to be alone in that; the seconds in which they end then."""
    children = [(pid, stat[BEGUN]) for pid, stat in _processes().items() if stat[PARENT] == str(process.pid)]
    process.kill()
    begun = time.monotonic()
    process.wait()
    while left := [pid for pid, at in children if _still_runs(pid, at)]:
        for pid in left if not alone or time.monotonic() - begun > ORPHAN_S else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    return round(time.monotonic() - begun, 3) if alone and children else None


def _processes() -> dict[int, list[str]]:
    """Of every process the fields of its stat file behind its name."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found[int(path.parent.name)] = path.read_text(errors="replace").rpartition(")")[2].split()
    return found


def _still_runs(pid: int, begun: str) -> bool:
    stat = _processes().get(pid)
    return stat is not None and stat[BEGUN] == begun and stat[STATE] != "Z"


def main(journal: Path, profile: Path) -> None:
    """Make a profile, or go on with it, as `milliwise profile --resume` does."""
    found = profile_device(find_space(SPACE), LocalTarget(), hop_ms=HOP_MS, effort=EFFORT, partial=journal)
    found.save(profile)
    remove_file(journal)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
