"""Published sets are downloaded once, whole and unchanged, from a server that is run here."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from image_files import IDX_NAMES, cifar, idx, pictures

from toolkit.datasets import load_images
from toolkit.errors import MilliwiseError
from toolkit.image_sources import download
from toolkit.image_sources.download import PUBLISHED, Published, downloaded

PIXELS, LABELS = pictures(20, 28, 28), np.arange(20) % 10
FILES = {f"{name}.gz": gzip.compress(idx(LABELS if "labels" in name else PIXELS), mtime=0) for name in IDX_NAMES}


class Server(ThreadingHTTPServer):
    """Gives `files` by name, and remembers what it was asked for; `promised` is how long it says that they are."""

    files: dict[str, bytes]
    asked: list[str]
    promised: int | None = None
    moved: str = ""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.strip("/")
        self.server.asked.append(name)
        if self.server.moved:
            self.send_response(302)
            self.send_header("Location", self.server.moved)
            self.end_headers()
        elif name in self.server.files:
            content = self.server.files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(self.server.promised or len(content)))
            self.end_headers()
            self.wfile.write(content)
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves MNIST and CIFAR-100 in place of their addresses; the cache is empty."""
    served = Server(("127.0.0.1", 0), Handler)
    served.files, served.asked = dict(FILES) | {"cifar-100-binary.tar.gz": archive()}, []
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{served.server_address[1]}/"
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in served.files.items()}
    monkeypatch.setitem(PUBLISHED, "mnist", Published(address, {name: md5[name] for name in FILES}))
    name = "cifar-100-binary.tar.gz"
    monkeypatch.setitem(PUBLISHED, "cifar100", Published(address, {name: md5[name]}, PUBLISHED["cifar100"].members))
    monkeypatch.setattr(download, "SCHEMES", ("http",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def archive() -> bytes:
    """CIFAR-100 with members that have no business in it."""
    labels = np.arange(20) * 5
    record = cifar(pictures(20, 32, 32, 3), labels, coarse=True)
    members = {"train.bin": record, "test.bin": record, "fine_label_names.txt": b"name\n" * 100}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as packed:
        link = tarfile.TarInfo("cifar-100-binary/coarse/train.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "../../../outside"
        packed.addfile(link)
        for name, content in {**members, "../../escaped.bin": b"outside", "evil.py": b"1"}.items():
            info = tarfile.TarInfo(name if name.startswith("..") else f"cifar-100-binary/{name}")
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return file.getvalue()


def left(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_set_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    first, again = (load_images("mnist", size=32, seed=0, validation_share=0.25) for _ in range(2))
    assert (first.test.pixels[:, 2:30, 2:30, 0] == PIXELS).all() and not first.flip
    assert (first.train.pixels == again.train.pixels).all()
    assert sorted(server.asked) == sorted(FILES)  # not again
    assert left(tmp_path) == {f"cache/milliwise/images/mnist/{name}" for name in FILES}


def test_only_the_plain_files_that_are_expected_leave_an_archive(server: Server, tmp_path: Path) -> None:
    data = load_images("cifar100", size=32, seed=0)
    assert len(data.labels) == 100 and len(data.test.labels) == 20
    kept = ("train.bin", "test.bin", "fine_label_names.txt")
    assert left(tmp_path) == {f"cache/milliwise/images/cifar100/{name}" for name in kept}
    load_images("cifar100", size=32, seed=0)
    assert server.asked == ["cifar-100-binary.tar.gz"]


def test_it_goes_on_with_the_files_that_are_missing(server: Server, tmp_path: Path) -> None:
    last = f"{IDX_NAMES[3]}.gz"
    del server.files[last]
    with pytest.raises(MilliwiseError, match=rf"{last} \(.*Not Found\): put .*{last} into .*mnist, or name a folder"):
        downloaded("mnist")
    server.files[last] = FILES[last]
    server.asked.clear()
    folder = downloaded("mnist")
    assert server.asked == [last] and left(folder) == set(FILES)


def test_a_wrong_file_is_not_kept(server: Server, tmp_path: Path) -> None:
    name = f"{IDX_NAMES[0]}.gz"
    server.files[name] = b"something else"
    with pytest.raises(MilliwiseError, match=r"has the check sum .*, not the published"):
        downloaded("mnist")
    assert left(tmp_path) == set()


def test_too_much_and_too_little(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.promised = 100_000
    with pytest.raises(MilliwiseError, match=r"broke off|IncompleteRead"):
        downloaded("mnist")
    monkeypatch.setattr(download, "MAX_BYTES", 50_000)
    with pytest.raises(MilliwiseError, match="more than 50000 bytes"):
        downloaded("mnist")
    server.promised = None
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    with pytest.raises(MilliwiseError, match="more than 1000 bytes"):
        downloaded("mnist")
    assert left(tmp_path) == set()


def test_who_does_not_answer_or_is_not_encrypted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.moved = "ftp://127.0.0.1/other"
    with pytest.raises(MilliwiseError, match="is not http"):
        downloaded("mnist")
    monkeypatch.setattr(download, "SCHEMES", ("https",))
    with pytest.raises(MilliwiseError, match="is not https"):
        downloaded("mnist")
    monkeypatch.setattr(download, "SCHEMES", ("http",))
    monkeypatch.setitem(PUBLISHED, "mnist", Published("http://127.0.0.1:1/", PUBLISHED["mnist"].md5))
    with pytest.raises(MilliwiseError, match=r"refused.*or name a folder") as caught:
        downloaded("mnist")
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(MilliwiseError, match="cannot write"):
        downloaded("mnist")


def test_published_addresses_are_encrypted() -> None:
    for published in PUBLISHED.values():
        assert published.address.startswith("https://") and published.address.endswith("/")
        assert all(len(bytes.fromhex(md5)) == 16 for md5 in published.md5.values())
