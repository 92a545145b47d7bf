"""Download published sets of images once, over https and with their published check sums (those in torchvision)."""

from __future__ import annotations

import hashlib
import http.client
import tarfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from toolkit.errors import MilliwiseError, printable
from toolkit.files import cache_folder, remove_file, write_file
from toolkit.images import reading
from toolkit.progress import progress

TIMEOUT_S = 30.0
MAX_BYTES = 200_000_000  # of a download; the largest published one has 170 MB
CHUNK_BYTES = 2**18
SCHEMES = ("https",)


@dataclass(frozen=True)
class Published:
    """A set of images as it is published.

    Attributes:
        address: of the folder the files are in.
        md5: of every file by its name; the only check sum that its publishers give.
        members: what is taken out of a .tar.gz; none for files that are read as they come.
    """

    address: str
    md5: dict[str, str]
    members: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that are kept."""
        return self.members or tuple(self.md5)


_IDX = tuple(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
_CIFAR10 = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin", "batches.meta.txt")
_MNIST_MD5 = (
    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "d53e105ee54ea40749a09fcbcd1e9432",
    "9fb629c4189551a2d022fa330f9573f3",
    "ec29112dd5afa0611ce80d1b7f02629c",
)
_FASHION_MD5 = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)
PUBLISHED = {
    "mnist": Published("https://ossci-datasets.s3.amazonaws.com/mnist/", dict(zip(_IDX, _MNIST_MD5, strict=True))),
    "fashion-mnist": Published(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        dict(zip(_IDX, _FASHION_MD5, strict=True)),
    ),
    "cifar10": Published(
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
        _CIFAR10,
    ),
    "cifar100": Published(
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8"},
        ("train.bin", "test.bin", "fine_label_names.txt"),
    ),
}


def downloaded(name: str) -> Path:
    """The folder in the cache with the files of a published set; what is not there yet is downloaded.

    Raises:
        MilliwiseError: a file cannot be downloaded, or is not the published one.
    """
    published = PUBLISHED[name]
    folder = cache_folder() / "images" / name
    cure = f"put {', '.join(published.files)} into {printable(folder)}, or name a folder that has them"
    for file, md5 in published.md5.items():
        if all((folder / kept).is_file() for kept in (published.members or (file,))):
            continue
        path = folder / file
        _download(published.address + file, md5, path, cure)
        if published.members:
            try:
                _unpack(path, published.members, cure)
            finally:
                remove_file(path)
    return folder


def _download(address: str, md5: str, path: Path, cure: str) -> None:
    """Write a file only if it is the published one."""

    def write(aside: Path) -> None:
        seen = hashlib.md5(usedforsecurity=False)
        with aside.open("wb") as file:
            for chunk in _chunks(address, path.name, cure):
                seen.update(chunk)
                file.write(chunk)
        if seen.hexdigest() != md5:
            raise MilliwiseError(f"{address} has the check sum {seen.hexdigest()}, not the published {md5}: {cure}")

    write_file(path, write)


def _chunks(address: str, title: str, cure: str) -> Iterator[bytes]:
    """What an address gives, with a bar of progress.

    Raises:
        MilliwiseError: it does not answer, breaks off, or gives too much.
    """
    opener = urllib.request.build_opener(_StayEncrypted)
    count = 0
    try:
        _require_scheme(address)
        with opener.open(address, timeout=TIMEOUT_S) as answer:
            expected = int(answer.headers.get("Content-Length") or 0)
            with progress(f"download {title}", expected or MAX_BYTES) as advance:
                while count <= MAX_BYTES and expected <= MAX_BYTES and (chunk := answer.read(CHUNK_BYTES)):
                    count += len(chunk)
                    advance(len(chunk))
                    yield chunk
        if max(count, expected) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        if count < expected:
            raise ValueError(f"it broke off after {count} of {expected} bytes")
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = printable(str(getattr(error, "reason", None) or error) or type(error).__name__)
        raise MilliwiseError(f"cannot download {address} ({why}): {cure}") from None


class _StayEncrypted(urllib.request.HTTPRedirectHandler):
    """Follows an address that moved, but never to one that is not encrypted."""

    def redirect_request(
        self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        _require_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_scheme(address: str) -> None:
    if urlsplit(address).scheme not in SCHEMES:
        raise ValueError(f"{address} is not {SCHEMES[0]}")


def _unpack(archive: Path, members: tuple[str, ...], cure: str) -> None:
    """Put the plain files of these names, whatever folder of the archive they are in, beside it, and nothing else.

    Raises:
        MilliwiseError: one is missing, or the archive is damaged.
    """
    found = set()
    with reading(archive):
        try:
            with tarfile.open(archive, "r:gz") as packed:
                for member in packed:
                    name = PurePosixPath(member.name).name
                    content = packed.extractfile(member) if member.isreg() and name in members else None
                    if content is not None and member.size <= MAX_BYTES:
                        _write(content, archive.parent / name)
                        found.add(name)
        except tarfile.TarError as error:
            raise ValueError(str(error)) from None
    if missing := sorted(set(members) - found):
        raise MilliwiseError(f"{archive.name} does not hold {missing[0]}: {cure}")


def _write(content: IO[bytes], path: Path) -> None:
    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            while chunk := content.read(CHUNK_BYTES):
                file.write(chunk)

    write_file(path, write)
