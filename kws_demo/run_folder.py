"""The folder of a search run: refused, begun anew or gone on with, before and after its data proved good."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from kws_demo.candidate import CANDIDATES_NAME
from kws_demo.settings import Settings
from profilers.export import PROFILE_NAME
from toolkit.errors import MilliwiseError, printable
from toolkit.files import holds_anything, read_json, remove_file, require_writable, write_json
from toolkit.own_cost import cost_digest
from toolkit.profile import DeviceProfile

ARGUMENTS_NAME, MODES_NAME, SECONDS_NAME = "arguments.json", "modes.json", "seconds.json"


class RunFolder:
    """Remembers the arguments of its run.

    Args:
        path: of the folder.
        resume: go on with the run in it, if there is one.

    Raises:
        MilliwiseError: it cannot be written, holds something else, or a run to resume of other arguments or of another
            version.
    """

    def __init__(self, path: Path, settings: Settings, profile: DeviceProfile, resume: bool) -> None:
        self.path = Path(path)
        measured = hashlib.sha256(json.dumps(asdict(profile), sort_keys=True).encode()).hexdigest()[:16]
        own = cost_digest(settings.cost)
        made_by = version("milliwise")
        self._arguments = {"version": made_by, "settings": asdict(settings), "profile": measured, "cost": own}
        self._resumed = self._holds_the_run(resume)

    def _holds_the_run(self, resume: bool) -> bool:
        arguments = self.path / ARGUMENTS_NAME
        require_writable(arguments)
        if not os.path.lexists(arguments) and holds_anything(self.path):
            raise MilliwiseError(f"{self.path} is not empty and holds no run: name a new folder")
        if not (resume and arguments.exists()):
            return False
        found = read_json(arguments, "run arguments")
        if found.get("version") != self._arguments["version"]:
            by = printable(found.get("version", "an older one"))[:40]
            raise MilliwiseError(
                f"{self.path} was begun by another version of milliwise ({by}, this is {self._arguments['version']}), "
                "which may search in another way: begin anew in another folder"
            )
        if found != self._arguments:
            raise MilliwiseError(
                f"{self.path} was begun with other arguments: repeat those with --resume, or leave it out"
            )
        return True

    def begin(self, profile: DeviceProfile) -> None:
        """Make the folder, unless its run is resumed: only when the data proved good, for bad data leaves nothing.

        Args:
            profile: as the run prices by it.
        """
        if not self._resumed:
            # What was made last goes first: if this is interrupted, what is left is a run that can be gone on with.
            tuned = [path.name for path in self.path.glob("candidate-*.checkpoint")]
            trained = sorted(path.name for path in self.path.glob("*.checkpoint") if path.name not in tuned)
            made = ("run.json", "weights.safetensors", *tuned, CANDIDATES_NAME, *trained, MODES_NAME, SECONDS_NAME)
            for name in (*made, "log.jsonl", PROFILE_NAME):
                remove_file(self.path / name)
            write_json(self.path / ARGUMENTS_NAME, self._arguments)
        # Again, too, where that was interrupted: for the same arguments it is the same.
        profile.save(self.path / PROFILE_NAME)
