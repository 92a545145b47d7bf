"""Speech Commands: downloaded once and whole, or not at all."""

import tarfile
from pathlib import Path

import pytest
from recorded import speech_commands_set

from kws_demo.speech_commands import speech_commands
from kws_demo.torchaudio_compat import import_torchaudio
from toolkit.errors import MilliwiseError


def test_speech_commands_are_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = speech_commands_set(tmp_path / "served")

    def download(url: str, file: str, hash_prefix: str | None = None) -> None:
        with tarfile.open(file, "w:gz") as archive:  # as torch does, into a folder that must exist
            archive.add(base, ".")

    module = import_torchaudio().datasets.speechcommands
    monkeypatch.setattr(module, "download_url_to_file", download)
    recordings, noise = speech_commands(tmp_path / "new" / "set")
    assert len(recordings) == 88 and len(noise) == 2 and all(found.path.is_file() for found in (*recordings,))
    monkeypatch.delattr(module, "download_url_to_file")
    assert speech_commands(tmp_path / "new" / "set") == (recordings, noise)


@pytest.mark.parametrize(
    "error", [OSError("no route to host"), RuntimeError("invalid hash value"), KeyboardInterrupt()]
)
def test_a_download_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def broken(url: str, file: str, hash_prefix: str | None = None) -> None:
        Path(file).write_bytes(b"half")
        raise error

    monkeypatch.setattr(import_torchaudio().datasets.speechcommands, "download_url_to_file", broken)
    with pytest.raises(MilliwiseError if isinstance(error, Exception) else type(error)) as caught:
        speech_commands(tmp_path / "missing")
    assert isinstance(error, KeyboardInterrupt) or (str(error) in str(caught.value) and "unpack" in str(caught.value))
    assert not (tmp_path / "missing").exists()


def test_a_folder_without_speech_commands_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(MilliwiseError, match="no Speech Commands"):
        speech_commands(tmp_path)
    assert (tmp_path / "mine.txt").exists()
