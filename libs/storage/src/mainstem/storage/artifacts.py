"""Artifacts by content address in a folder: bytes in, `sha256:` out, and only the same bytes back."""

import os
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from mainstem.events.errors import MainstemError
from mainstem.events.ids import content_id
from mainstem.storage.files import sync_folder

_PREFIX = "sha256:"


class ArtifactMissing(MainstemError):
    """No artifact has this address."""


class ArtifactCorrupt(MainstemError):
    """The stored bytes are not what the address says."""


class Artifacts:
    """A folder of artifacts. Writing is atomic and durable; reading verifies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, content: bytes) -> str:
        """Store `content` and return its address. Putting it twice is one artifact.

        A file that is there is read once: if it does not hold `content` any more, a whole one takes its place at once,
        so that whoever reads meanwhile has the bytes of the one or of the other.
        """
        address = content_id(content)
        target = self._path(address)
        if not _holds(target, content):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{target.name}.{uuid4().hex}")  # others may put the same meanwhile
            with partial.open("wb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
            partial.replace(target)
            sync_folder(target.parent)
        return address

    def has(self, address: str) -> bool:
        """Tell whether there is a file at `address`."""
        return self._path(address).is_file()

    def get(self, address: str) -> bytes:
        """Return the bytes at `address`. Raises ArtifactMissing, or ArtifactCorrupt: changed, or cannot be read."""
        try:
            content = self._path(address).read_bytes()
        except FileNotFoundError as fault:
            raise ArtifactMissing(f"no artifact {address}; put it back from a copy, or make it anew") from fault
        except OSError as fault:
            raise ArtifactCorrupt(f"artifact {address} cannot be read ({fault}); put it back from a copy") from fault
        found = _PREFIX + sha256(content).hexdigest()
        if found != address:
            changed = "it was changed after it was stored; put it back from a copy"
            raise ArtifactCorrupt(f"artifact {address} holds bytes of {found}; {changed}")
        return content

    def _path(self, address: str) -> Path:
        digest = address.removeprefix(_PREFIX)
        if len(digest) != 64 or not all(c in "0123456789abcdef" for c in digest):
            raise ArtifactMissing(f"{address!r} is no content address (sha256: and 64 hexadecimal digits)")
        return self._folder / digest[:2] / digest


def _holds(file: Path, content: bytes) -> bool:
    """Tell whether a file has these bytes; one that cannot be read has not."""
    try:
        return file.stat().st_size == len(content) and file.read_bytes() == content
    except OSError:
        return False
