"""The audit passes what is as it was archived and names exactly what is not."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from struct import pack

import cramjam
import pytest

from mainstem.events.catalogue import encode
from mainstem.events.envelope import begin
from mainstem.events.frames import Entry
from mainstem.events.ledger import CheckpointPublished
from mainstem.events.record import header
from mainstem.ledger import Frontier, leaf_hashes
from mainstem.ledger_service.domain import Block, cut, frames_of
from mainstem.ledger_service.engine import Audit, Verdict

Write = Callable[..., list[Entry]]
MAY = 1_367_366_400_000_000


@pytest.fixture
def blocks(write: Write) -> list[Block]:
    """Return four blocks of ten entries, the last but one followed by the checkpoint of all before it."""
    archive: list[Block] = []
    for first in (0, 10, 20):
        archive += _cut(write(range(first, first + 10), first_offset=first), archive)
    archive += _cut([_checkpoint(archive)], archive)
    return archive + _cut(write(range(30, 40), first_offset=30), archive)


def _cut(entries: list[Entry], before: Sequence[Block]) -> list[Block]:
    return cut(entries, [header(entry, "ce_id") for entry in entries], sum(block.count for block in before))


def _frontier(blocks: Sequence[Block]) -> Frontier:
    return Frontier().append(b"".join(block.hashes for block in blocks))


def _checkpoint(blocks: Sequence[Block]) -> Entry:
    tree = _frontier(blocks)
    fact = CheckpointPublished(ledger="mainstem", size=tree.size, root=tree.root().hex())
    message = encode(begin(fact, command_id="1", source="/test", actor="/test", recorded_us=MAY))
    return Entry(message.topic, 0, 0, 1_000, message.key, message.value, message.headers)


def _audit(blocks: Sequence[Block], stored: Frontier | None = None) -> Verdict:
    audit = Audit()
    for block in blocks:
        audit.take(block)
    return audit.finish(stored or _frontier(blocks))


def _with_frames(block: Block, frames: Sequence[bytes]) -> Block:
    packed = b"".join(pack(">I", len(frame)) + frame for frame in frames)
    return replace(block, frames=bytes(cramjam.zstd.compress(packed)))


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_an_undisturbed_archive_holds(blocks: list[Block]) -> None:
    verdict = _audit(blocks)
    assert verdict == Verdict(41, _frontier(blocks).root().hex(), 1, 0, ())
    assert verdict.holds


@pytest.mark.parametrize("place", range(10))
@pytest.mark.parametrize("part", [0.03, 0.5, 0.99])
def test_one_changed_byte_of_an_entry_is_named_exactly(blocks: list[Block], place: int, part: float) -> None:
    frames = frames_of(blocks[1])
    frames[place] = _flip(frames[place], int(len(frames[place]) * part))
    faults = _audit([blocks[0], _with_frames(blocks[1], frames), *blocks[2:]], _frontier(blocks)).faults
    event_id = blocks[1].ids[16 * place : 16 * place + 16].hex()
    where = f"leaf {10 + place} (evt.registry.model/0/{10 + place}, event id {event_id})"
    assert {fault.where for fault in faults} == {where}


@pytest.mark.parametrize(
    ("column", "at", "leaf", "what"),
    [("hashes", 32 * 3, 13, "hash of"), ("ids", 16 * 4, 14, "event id of"), ("offsets", 8 * 9, 19, "offset of")],
)
def test_a_changed_column_is_named_with_the_entry(
    blocks: list[Block], column: str, at: int, leaf: int, what: str
) -> None:
    damaged = replace(blocks[1], **{column: _flip(getattr(blocks[1], column), at)})
    faults = _audit([blocks[0], damaged, *blocks[2:]], _frontier(blocks)).faults
    assert any(what in fault.what for fault in faults)
    assert all(fault.where.startswith((f"leaf {leaf} (", blocks[1].name)) for fault in faults)


def test_an_entry_changed_together_with_its_hash_is_caught_by_the_next_checkpoint(blocks: list[Block]) -> None:
    frames = frames_of(blocks[1])
    frames[0] = frames[0].replace(b'"ann"', b'"bob"')
    forged = replace(_with_frames(blocks[1], frames), hashes=leaf_hashes(frames))
    (fault,) = _audit([blocks[0], forged, *blocks[2:]]).faults
    assert fault.where == "leaves 0 to 29"
    assert "checkpoint at leaf 30" in fault.what


@pytest.mark.parametrize("column", ["frames", "hashes"])
def test_a_change_before_a_checkpoint_does_not_hide_one_after_it(
    blocks: list[Block], write: Write, column: str
) -> None:
    """The first is told by the hash beside the entry, the second, hash and all, by the second checkpoint alone."""
    blocks += _cut([_checkpoint(blocks)._replace(offset=1)], blocks)
    frames = [frames_of(block) for block in blocks]
    frames[0][7] = _flip(frames[0][7], len(frames[0][7]) - 1)
    frames[4][3] = frames[4][3].replace(b'"ann"', b'"bob"')
    first = _with_frames(blocks[0], frames[0])
    if column == "hashes":
        first = replace(blocks[0], hashes=_flip(blocks[0].hashes, 7 * 32))
    forged = replace(_with_frames(blocks[4], frames[4]), hashes=leaf_hashes(frames[4]))
    named, caught = _audit([first, *blocks[1:4], forged, blocks[5]], _frontier(blocks)).faults[:2]
    assert named.where.startswith("leaf 7 (")
    assert (caught.where, "together with its hash" in caught.what) == ("leaves 30 to 40", True)


def test_what_does_not_call_itself_a_checkpoint_is_none(blocks: list[Block]) -> None:
    junk = Entry(CheckpointPublished.TOPIC, 0, 1, 0, None, b"?", ())
    assert _audit(blocks + _cut([junk], blocks)).holds


@pytest.mark.parametrize("value", [b'{"ledger":"mainstem","size":-1}', b"{", None])
def test_what_calls_itself_a_checkpoint_and_is_none_attests_nothing(blocks: list[Block], value: bytes | None) -> None:
    torn = _checkpoint(blocks)._replace(offset=1, value=value)
    verdict = _audit(blocks + _cut([torn], blocks))
    assert (verdict.holds, verdict.checkpoints) == (True, 1)


def test_a_checkpoint_that_is_written_once_more_after_later_ones_still_agrees(blocks: list[Block]) -> None:
    blocks += _cut([_checkpoint(blocks)._replace(offset=1)], blocks)
    blocks += _cut([_checkpoint(blocks[:3])._replace(offset=2)], blocks)
    verdict = _audit(blocks)
    assert (verdict.holds, verdict.checkpoints) == (True, 3)


def test_entries_that_cannot_be_read_at_all_are_named_as_a_range(blocks: list[Block]) -> None:
    (fault,) = _audit([blocks[0], replace(blocks[1], frames=b"?"), *blocks[2:]], _frontier(blocks)).faults
    assert fault.where == "leaves 10 to 19 (evt.registry.model/0, offsets 10 to 19)"


def test_a_block_that_was_taken_out_is_missed(blocks: list[Block]) -> None:
    where = [fault.where for fault in _audit([blocks[0], *blocks[2:]], _frontier(blocks)).faults]
    assert where == ["leaves 10 to 19", "leaves 0 to 29", "leaves 31 to 40"]


def test_blocks_cut_off_at_the_end_are_missed(blocks: list[Block]) -> None:
    (fault,) = _audit(blocks[:-1], _frontier(blocks)).faults
    assert (fault.where, fault.what) == ("leaves 31 to 40", "cut off: the tree has 41 entries, the archive 31")


def test_an_offset_that_comes_twice_is_named(blocks: list[Block], write: Write) -> None:
    again = _cut(write(range(39, 41), first_offset=39), blocks)
    faults = _audit([*blocks, *again]).faults
    assert [fault.what for fault in faults] == ["offset 39 comes after offset 39 of its partition"]


@pytest.mark.parametrize("column", ["hashes", "ids", "offsets"])
def test_columns_that_are_too_short_are_faults_and_no_crash(blocks: list[Block], column: str) -> None:
    for cut_off in (1, len(getattr(blocks[1], column))):
        damaged = replace(blocks[1], **{column: getattr(blocks[1], column)[:-cut_off]})
        assert not _audit([blocks[0], damaged, *blocks[2:]], _frontier(blocks)).holds
