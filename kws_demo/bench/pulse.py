"""A sound server of one's own, without a sound card: what is played is recorded, its source is unplugged at will."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from toolkit.errors import MilliwiseError

PROGRAMS = ("pulseaudio", "pactl", "paplay")
SINK = ("module-null-sink", "sink_name=speaker", "rate=44100")
SERVER = ("--daemonize=no", "--exit-idle-time=-1", "-n", "-L", "module-native-protocol-unix")
ALSA = "pcm.pulse { type pulse }\nctl.pulse { type pulse }\npcm.!default { type pulse }\n"
PATIENCE_SECONDS = 20.0


def missing_programs() -> str:
    """What has to be installed first, as a sentence; empty if nothing."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    packages = "pulseaudio pulseaudio-utils libasound2-plugins"
    return f"{missing[0]} is not installed: apt install {packages}" if missing else ""


def await_that(what: str, condition: Callable[[], object], patience_s: float = PATIENCE_SECONDS) -> None:
    """Wait until a condition holds.

    Raises:
        MilliwiseError: it does not in that time.
    """
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise MilliwiseError(f"waited {patience_s:g} s in vain for {what}: try again on a quieter machine")
        time.sleep(0.05)


class PulseAudio:
    """A context manager: a server in a private folder, whose null sink `speaker` is the source of what `env` starts."""

    def __enter__(self) -> PulseAudio:
        self._folder = tempfile.TemporaryDirectory(prefix="pulse-")
        folder = Path(self._folder.name)
        (folder / "asound.conf").write_text(ALSA)
        (folder / "client.conf").write_text("autospawn = no\n")
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PULSE_")},
            "XDG_RUNTIME_DIR": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
            "PULSE_CLIENTCONFIG": str(folder / "client.conf"),
            "PULSE_SOURCE": "speaker.monitor",
        }
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Start the server, with its source.

        Raises:
            MilliwiseError: it does not start.
        """
        command = ["pulseaudio", *SERVER, "-L", " ".join(SINK)]
        self._server = subprocess.Popen(command, env=self.env, stderr=subprocess.DEVNULL)
        await_that("PulseAudio", lambda: "speaker" in self._pactl("list", "short", "sources"))

    def stop(self) -> None:
        """Kill the server."""
        self._server.kill()
        self._server.wait()

    def unplug(self) -> None:
        """Take the source away from a server that runs on."""
        self._pactl("unload-module", SINK[0])

    def plug(self) -> None:
        """Give it back."""
        self._pactl("load-module", *SINK)

    def is_recorded(self) -> bool:
        """Whether somebody records from the source."""
        return bool(self._pactl("list", "short", "source-outputs"))

    def play(self, wav: Path) -> None:
        """Play a recording to its end, at real time.

        Raises:
            MilliwiseError: it cannot be played.
        """
        done = subprocess.run(["paplay", "--device=speaker", str(wav)], env=self.env, capture_output=True, check=False)
        if done.returncode:
            raise MilliwiseError(f"cannot play {wav}: {done.stderr.decode(errors='replace').strip()}")

    def _pactl(self, *arguments: str) -> str:
        command = ["pactl", *arguments]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=False).stdout.strip()
