"""What the witness remembers: of each log the last checkpoint that it cosigned, a file each."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from mainstem.events.errors import Rejected
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.keys import WitnessKey
from mainstem.ledger.note import Note, NoteError
from mainstem.storage.files import make_folder, replace_file


class Memory:
    """The checkpoints that were cosigned last, by origin. What `keep` returned from survives any crash."""

    def __init__(self, folder: Path, key: WitnessKey) -> None:
        self._folder = folder
        self._key = key
        self._notes: dict[str, Note] = {}

    @contextmanager
    def held(self) -> Iterator["Memory"]:
        """Read what is there and be the only one to use it while the block runs.

        Raises Rejected when another process does, or a file is not what this key cosigned: a memory that was tampered
        with is no memory.
        """
        make_folder(self._folder)
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._notes = dict(map(self._read, sorted(self._folder.glob("*.checkpoint"))))
            yield self
        except BlockingIOError as fault:
            raise Rejected(f"another process cosigns from {self._folder}; stop it first") from fault
        finally:
            os.close(handle)

    def _read(self, file: Path) -> tuple[str, Note]:
        try:
            note = Note.parse(file.read_bytes())
            note.signed_by([self._key])
            return Checkpoint.parse(note.text).origin, note
        except NoteError as fault:
            raise Rejected(f"{file} is not what {self._key.name} cosigned: {fault}; bring it back") from fault

    @property
    def latest(self) -> Mapping[str, Checkpoint]:
        """Return the checkpoints by origin."""
        return {origin: Checkpoint.parse(note.text) for origin, note in self._notes.items()}

    @property
    def notes(self) -> list[Note]:
        """Return the checkpoints as they were cosigned, by origin."""
        return [self._notes[origin] for origin in sorted(self._notes)]

    def keep(self, note: Note) -> None:
        """Remember a cosigned checkpoint in the place of the last one of its origin, durably."""
        origin = Checkpoint.parse(note.text).origin
        replace_file(self._folder / f"{sha256(origin.encode()).hexdigest()[:16]}.checkpoint", note.render())
        self._notes[origin] = note
