"""Power is lost while the log is published: whatever is on the disk then, nothing is lost that was said.

Every state that the promises of POSIX allow is laid out, read, and gone on from (`tests.fault.disk`). The controls
publish in another order or leave out a sync, and are caught.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from tests.fault.disk import Step, crashes, lay_out, recorded
from tests.fault.published import Lost, check_all, go_on
from tests.fault.publishing import Said
from typing_extensions import override

from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.keys import LogKey
from mainstem.ledger.note import Note
from mainstem.ledger.tiles import Tile
from mainstem.ledger_service.folder import Folder
from mainstem.testkit.cosigner import LOG
from mainstem.witness.memory import Memory

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("nothing_is_synced")]


def states(steps: Sequence[Step], root: Path) -> Iterator[tuple[Path, list[Said]]]:
    """Lay out each state that a crash may leave, with what had been said by then."""
    for number, (found, said) in enumerate(crashes(steps)):
        lay_out(found, root / str(number))
        yield root / str(number), said


def lost(state: Path, said: Sequence[Said]) -> str:
    """Return what a reader misses; nothing when there is nothing."""
    try:
        check_all(state, said)
    except Lost as fault:
        return str(fault)
    return ""


def test_a_machine_that_stops_behind_any_call_has_lost_nothing_that_was_said(tmp_path: Path) -> None:
    steps, number = recorded(tmp_path / "run"), 0
    for number, (state, said) in enumerate(states(steps, tmp_path), 1):  # noqa: B007  # counted
        assert lost(state, said) == ""
        go_on(state, said)
    print(f"{len(steps)} calls, {number} states of the disk")
    assert number > 80


class CheckpointFirst(Folder):
    """Writes the tiles behind their checkpoint."""

    def __init__(self, folder: Path, key: LogKey) -> None:
        super().__init__(folder, key)
        self._waiting: dict[Tile, bytes] = {}

    @override
    def read(self, tile: Tile) -> bytes:
        return self._waiting.get(tile) or super().read(tile)

    @override
    def write_tiles(self, tiles: Iterable[tuple[Tile, bytes]]) -> None:
        self._waiting = dict(tiles)

    @override
    def write_checkpoint(self, note: Note) -> None:
        super().write_checkpoint(note)
        super().write_tiles(self._waiting.items())


class KeptLater(Memory):
    """Writes down what it cosigned when it is asked the next time."""

    _last: Note | None = None

    @property
    @override
    def latest(self) -> Mapping[str, Checkpoint]:
        return {LOG.name: Checkpoint.parse(self._last.text)} if self._last else super().latest

    @override
    def keep(self, note: Note) -> None:
        if self._last:
            super().keep(self._last)
        self._last = note


def as_it_is(_: Step) -> bool:
    return True


def unsynced(step: Step) -> bool:
    return step.kind != "fsync"


def without_folders(step: Step) -> bool:
    return step.kind != "fsync" or step.file > 0


def without_files(step: Step) -> bool:
    return step.kind != "fsync" or step.file == 0


@pytest.mark.parametrize(
    ("folder", "memory", "kept", "says"),
    [
        (CheckpointFirst, Memory, as_it_is, "what is published cannot be read"),
        (Folder, KeptLater, as_it_is, "the witness remembers"),
        (Folder, Memory, unsynced, "were told of"),
        (Folder, Memory, without_folders, "were told of"),
        (Folder, Memory, without_files, "is torn"),
    ],
)
def test_what_is_published_carelessly_is_lost_and_that_is_seen(
    tmp_path: Path, folder: type[Folder], memory: type[Memory], kept: Callable[[Step], bool], says: str
) -> None:
    steps = list(filter(kept, recorded(tmp_path / "run", folder, memory)))
    assert any(says in lost(state, said) for state, said in states(steps, tmp_path))
