"""The end of a spool that is read: every block once, none passed over, and nothing before it is durable."""

import asyncio
import os
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libs.bus.tests.spool_content import everything, flip, lose_sector, segments

from mainstem.bus import spool_folder, spool_tail
from mainstem.bus.frames import HEAD_BYTES, Block, frame_of, size_of
from mainstem.bus.spool import Spool, SpoolFull, keep_synced
from mainstem.bus.spool_folder import SpoolCorrupt, lose
from mainstem.bus.spool_tail import Tail

CAP = 1 << 20


@pytest.fixture
def spool(tmp_path):
    opened = Spool(tmp_path, CAP)
    yield opened
    opened.close()


def test_what_is_read_is_synced_before_it_is_given_also_where_a_torn_end_lay(tmp_path, monkeypatch):
    with closing(Spool(tmp_path, CAP)) as spool:
        spool.append(b"a", 1)
    (segment,) = segments(tmp_path)
    with segment.open("ab") as file:
        file.write(frame_of(Block(1, 1, b"torn"))[:-1])
    tail = Tail(tmp_path)
    assert tail.read(0) == [Block(0, 1, b"a")]
    synced, sync = [], os.fdatasync

    def fdatasync(handle):
        synced.append(segment.read_bytes())
        sync(handle)

    with closing(Spool(tmp_path, CAP)) as again:
        again.append(b"b", 1)
        monkeypatch.setattr(os, "fdatasync", fdatasync)
        assert tail.read(1) == [Block(1, 1, b"b")]
    assert synced == [segment.read_bytes()]


def test_reading_begins_with_the_block_that_holds_a_number(spool, tmp_path):
    spool.append(b"a", 3)
    spool.append(b"b", 3)
    assert everything(tmp_path, 2) == [(0, "a"), (3, "b")]
    assert everything(tmp_path, 3) == [(3, "b")]


@given(
    blocks=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 9)), max_size=40),
    start=st.integers(0, 100),
)
def test_reading_from_any_number_gives_the_rest_over_any_segments(tmp_path_factory, blocks, start):
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, 8 * 4000 * 60)
    spool._segment_bytes = 4000
    firsts = [(spool.append(b"m" + b"." * size, count), count) for size, count in blocks]
    wanted = [first for first, count in firsts if first + count > start]
    assert [first for first, _ in everything(folder, start)] == wanted
    spool.close()


@given(steps=st.lists(st.one_of(st.integers(1, 9), st.sampled_from(["read", "release"])), max_size=60))
def test_one_who_reads_while_another_writes_misses_nothing(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("spool")
    spool, tail, found, next_number = Spool(folder, 8 * 200), Tail(folder), [], 0
    for step in [*steps, *["read"] * 60]:
        if isinstance(step, int) and spool.size < 1000:
            spool.append(b"x" * 30, step)
        elif step == "release":
            tail.release(next_number)
        elif step == "read":
            for block in tail.read(next_number):
                found += range(block.first, block.first + block.count)
                next_number = block.first + block.count
    assert found == list(range(spool.next_number))
    spool.close()


def test_released_segments_are_gone_and_the_last_stays(tmp_path):
    spool, tail = Spool(tmp_path, 8 * 100), Tail(tmp_path)
    for name in b"abcd":
        spool.append(bytes([name]) + b"." * 99, 1)
    assert len(segments(tmp_path)) == 4
    tail.release(4)
    assert [path.name for path in segments(tmp_path)] == [f"{3:020}.blocks"]
    assert everything(tmp_path, 3) == [(3, "d")]
    spool.close()


def test_a_frame_that_is_not_whole_yet_is_not_read(spool, tmp_path):
    spool.append(b"a", 1)
    spool.append(b"b", 1)
    (path,) = segments(tmp_path)
    os.truncate(path, path.stat().st_size - 1)
    assert everything(tmp_path) == [(0, "a")]


def test_a_byte_changed_while_it_runs_is_refused_when_it_is_read(spool, tmp_path):
    spool.append(b"a", 1)
    flip(segments(tmp_path)[0], -1)
    with pytest.raises(SpoolCorrupt):
        everything(tmp_path)


def test_a_length_changed_while_it_runs_is_refused_as_soon_as_a_whole_block_stands_behind_it(spool, tmp_path):
    tail = Tail(tmp_path)
    spool.append(b"a", 1)
    spool.append(b"b" * 20, 1)
    (segment,) = segments(tmp_path)
    flip(segment, segment.stat().st_size - len(frame_of(Block(1, 1, b"b" * 20))) + 1)
    assert [block.payload for block in tail.read(0)] == [b"a"]
    assert tail.read(1) == tail.read(1) == []
    spool.append(b"c", 1)
    with pytest.raises(SpoolCorrupt, match="broken frame"):
        tail.read(1)


@pytest.mark.parametrize("cut", [1, 30, 60, 100])
def test_a_block_half_written_is_not_broken_whatever_callers_put_into_it(tmp_path, cut):
    said = b"x" * 20 + frame_of(Block(2, 1, b"a frame")) + frame_of(Block(7, 1, b"another")) + b"y" * 20
    with closing(Spool(tmp_path, CAP)) as spool:
        spool.append(b"a", 1)
        spool.append(said, 1)
    (segment,) = segments(tmp_path)
    os.truncate(segment, segment.stat().st_size - cut)
    assert everything(tmp_path) == [(0, "a")]


def test_a_full_segment_that_became_shorter_is_refused_and_not_passed_over(tmp_path):
    with closing(Spool(tmp_path, 8 * 100)) as spool:
        for letter in b"abcdef":
            spool.append(bytes([letter]) * 50, 1)
    tail = Tail(tmp_path)
    first = segments(tmp_path)[0]
    os.truncate(first, first.stat().st_size - 1)
    with pytest.raises(SpoolCorrupt):
        for number in range(6):
            tail.read(number)


@pytest.mark.parametrize("begun", [5, 30])
def test_what_is_taken_back_for_want_of_room_is_not_read_and_not_broken(spool, tmp_path, monkeypatch, begun):
    spool.append(b"a", 1)
    (segment,), size = segments(tmp_path), segments(tmp_path)[0].stat().st_size
    with segment.open("ab") as file:
        file.write(frame_of(Block(1, 1, b"b" * 20))[:begun])
    tail, look = Tail(tmp_path), spool_tail.segments_in

    def take_back(folder):
        found = look(folder)
        os.truncate(segment, size)
        return found

    monkeypatch.setattr(spool_tail, "segments_in", take_back)
    assert tail.read(0) == []
    assert [block.first for block in tail.read(0)] == [0]
    assert tail.read(1) == []


def nine(folder):
    """Have nine blocks of one size in three segments."""
    with closing(Spool(folder, 8 * 200)) as spool:
        for letter in b"abcdefghi":
            spool.append(bytes([letter]) * 50, 1)


@pytest.mark.parametrize("gone", ["the second segment", "the last frame of the first"])
def test_what_stands_behind_frames_that_are_gone_is_not_read_and_what_stands_before_is(tmp_path, gone):
    nine(tmp_path)
    first, second, _ = segments(tmp_path)
    if gone == "the second segment":
        second.unlink()
    else:
        os.truncate(first, 2 * 70)
    tail, number = Tail(tmp_path), 0
    with pytest.raises(SpoolCorrupt, match="begins with number"):
        while blocks := tail.read(number):
            number = blocks[-1].first + 1
    assert number == (3 if gone == "the second segment" else 2)


def test_reading_begins_with_the_oldest_that_is_kept(tmp_path):
    nine(tmp_path)
    Tail(tmp_path).release(3)
    assert [first for first, _ in everything(tmp_path)] == [3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("appended", [0, 1, 3])
def test_a_segment_that_lost_what_was_read_of_it_is_refused_whatever_is_appended(tmp_path, appended):
    with closing(Spool(tmp_path, CAP)) as spool:
        for letter in b"abcde":
            spool.append(bytes([letter]) * 50, 1)
        tail = Tail(tmp_path)
        assert len(tail.read(0)) == 5
        os.truncate(segments(tmp_path)[0], 3 * 70)
        for letter in b"fgh"[:appended]:
            spool.append(bytes([letter]) * 50, 1)
        with pytest.raises(SpoolCorrupt):
            tail.read(5)


def test_what_cannot_be_made_durable_is_read_once_nobody_appends_any_more(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(5, "Input/output error")

    with closing(Spool(tmp_path, CAP)) as spool:
        spool.append(b"a", 1)
    tail = Tail(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        with pytest.raises(SpoolCorrupt, match="may not be on its disk"):
            tail.read(0)
        assert everything(tmp_path) == [(0, "a")]
    with pytest.raises(SpoolCorrupt, match="may not be on its disk"):
        Spool(tmp_path, CAP)


async def test_who_appends_hears_that_whoever_reads_could_not_sync(spool, tmp_path, monkeypatch):
    def fail(_):
        raise OSError(5, "Input/output error")

    spool.append(b"a", 1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        with pytest.raises(SpoolCorrupt):
            Tail(tmp_path).read(0)
    async with asyncio.timeout(5):
        with pytest.raises(SpoolCorrupt, match="may not be on its disk"):
            await keep_synced(spool)
    with pytest.raises(SpoolFull):
        spool.append(b"b", 1)


@pytest.mark.parametrize("name", [None, "", "nobody"])
def test_a_folder_that_loses_its_name_while_it_is_read_is_read_on_under_the_name_it_had(spool, tmp_path, name):
    tail = Tail(tmp_path)
    spool.append(b"a", 1)
    (tmp_path / "incarnation").unlink() if name is None else (tmp_path / "incarnation").write_text(name)
    assert tail.read(0) == [Block(0, 1, b"a")]


@pytest.mark.parametrize("moved", ["before it is looked at", "while it is read", "while it is read, and another made"])
def test_of_another_folder_in_the_place_of_one_that_was_moved_nothing_is_read_and_nothing_removed(
    tmp_path, monkeypatch, moved
):
    place, aside = tmp_path / "spool", tmp_path / "aside"
    nine(place)
    tail, look = Tail(place), spool_tail.segments_in

    def move(folder):
        found = look(folder)
        if not aside.exists():
            place.rename(aside)
            if "another" in moved:
                nine(place)
        return found

    if "while" in moved:
        monkeypatch.setattr(spool_tail, "segments_in", move)
    else:
        move(place)
    assert tail.read(0) == []
    if not place.exists():
        nine(place)
    tail.release(9)
    assert (tail.read(0), tail.read(7)) == ([], [])
    assert len(segments(place)) == len(segments(aside)) == 3


async def test_a_shorter_spool_in_the_place_of_one_that_was_moved_is_waited_for_no_longer(tmp_path):
    place = tmp_path / "spool"
    with closing(Spool(place, CAP)) as spool:
        spool.append(b"a" * 100, 1)
    tail = Tail(place)
    tail.read(0)
    place.rename(tmp_path / "aside")
    with closing(Spool(place, CAP)) as another:
        another.append(b"b", 1)
    async with asyncio.timeout(5):
        await tail.wait()
    assert not tail.is_there()


def test_a_gap_below_the_number_that_is_asked_for_is_none(tmp_path):
    with closing(Spool(tmp_path, 8 * 200)) as spool:
        for letter in b"ab":
            spool.append(bytes([letter]) * 50, 1)
        tail = Tail(tmp_path)
        assert tail.read(9) == []
        for letter in b"cdefghijklm":
            spool.append(bytes([letter]) * 50, 1)
        Tail(tmp_path).release(9)
        assert [block.first for block in tail.read(9)] == [9, 10, 11]


def test_what_stands_before_a_gap_in_the_last_segment_has_an_end_and_what_was_sent_behind_it_is_missed(tmp_path):
    nine(tmp_path)
    last = segments(tmp_path)[-1]
    content = last.read_bytes()
    last.write_bytes(content[:70] + content[140:])
    tail = Tail(tmp_path)
    assert tail.end() == 7
    tail.refuse_shorter(7)
    with pytest.raises(SpoolCorrupt, match="ends before number 8"):
        tail.refuse_shorter(8)


def test_what_was_sent_and_is_not_given_back_by_the_disk_is_missed_as_that(tmp_path, monkeypatch):
    nine(tmp_path)
    lose_sector(monkeypatch, segments(tmp_path)[-1], 100)
    tail = Tail(tmp_path)
    assert tail.end() == 7
    tail.refuse_shorter(7)
    with pytest.raises(SpoolCorrupt, match="cannot be read"):
        tail.refuse_shorter(8)


def test_of_what_was_sent_nothing_is_missed_in_a_folder_that_lies_where_it_lay(tmp_path):
    place = tmp_path / "spool"
    nine(place)
    tail = Tail(place)
    place.rename(tmp_path / "aside")
    Spool(place, CAP).close()
    tail.refuse_shorter(9)
    assert not tail.is_there()


def test_a_broken_length_is_not_hidden_by_a_bad_sector_far_behind_it(spool, tmp_path, monkeypatch):
    spool.append(b"a", 1)
    begin = spool.size
    spool.append(b"b" * 300_000, 1)
    (segment,) = segments(tmp_path)
    flip(segment, begin + 2)  # 65 KiB more or less
    content = segment.read_bytes()
    assert size_of(content[begin : begin + HEAD_BYTES]) > len(content) - begin
    lose_sector(monkeypatch, segment, 290_000)
    with pytest.raises(SpoolCorrupt, match="cannot be read"):
        everything(tmp_path)


def test_a_folder_that_is_named_and_begun_while_it_is_looked_at_has_not_lost_its_name(tmp_path, monkeypatch):
    look = spool_folder.segments_in

    def begin(folder):
        monkeypatch.undo()
        with closing(Spool(tmp_path, CAP)) as spool:
            spool.append(b"a", 1)
        return look(folder)

    monkeypatch.setattr(spool_folder, "segments_in", begin)
    assert spool_folder.given_name(tmp_path) == (tmp_path / "incarnation").read_text()


@pytest.mark.parametrize("segment", [0, 2])
@pytest.mark.parametrize("place", [100, 140, 145])
def test_what_stands_before_a_bad_sector_is_given_before_it_is_refused(tmp_path, monkeypatch, segment, place):
    nine(tmp_path)
    lose_sector(monkeypatch, segments(tmp_path)[segment], place)
    tail, number = Tail(tmp_path), 0
    with pytest.raises(SpoolCorrupt, match="cannot be read"):
        while blocks := tail.read(number):
            number = blocks[-1].first + 1
    assert number == 3 * segment + place // 70


def test_a_block_longer_than_a_read_is_given_whole(spool, tmp_path):
    for payload in (b"a" * 400_000, b"b", b"c" * 300_000):
        spool.append(payload, 1)
    tail = Tail(tmp_path)
    assert [len(tail.read(number)[0].payload) for number in range(3)] == [400_000, 1, 300_000]


@pytest.mark.parametrize("size", [1_000, 400_000])
def test_what_is_taken_back_and_written_otherwise_while_it_is_looked_at_is_not_broken(
    spool, tmp_path, monkeypatch, size
):
    spool.append(b"first", 1)
    tail, read_at = Tail(tmp_path), spool_tail.read_at
    tail.read(0)
    (segment,), begin = segments(tmp_path), spool.size
    with segment.open("ab") as file:
        file.write(frame_of(Block(1, 1, b"y" * size))[: None if size > 1_000 else 500])

    def slow(*place):
        found = read_at(*place)
        if not spool.next_number > 1:
            os.truncate(segment, begin)
            spool.append(b"small", 1)
            spool.append(b"z" * size, 1)
        return found

    monkeypatch.setattr(spool_tail, "read_at", slow)
    assert tail.read(1) == []
    assert tail.read(1)[0].first == 1
    assert [block.first for block in tail.read(2)] == [2]


def test_a_folder_that_nobody_has_begun_is_given_no_name_by_who_reads(tmp_path):
    with pytest.raises(FileNotFoundError, match="nobody has begun"):
        Tail(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_of_another_folder_that_comes_while_segments_are_removed_none_is(tmp_path, monkeypatch):
    place, aside = tmp_path / "spool", tmp_path / "aside"
    nine(place)
    tail = Tail(place)

    def move(handle):
        if not aside.exists():
            place.rename(aside)
            nine(place)

    monkeypatch.setattr(os, "fsync", move)
    tail.release(9)
    assert (len(segments(place)), len(segments(aside))) == (3, 1)


def test_that_a_sync_failed_is_on_the_disk_before_it_is_told(tmp_path, monkeypatch):
    synced, sync = [], os.fsync

    def fsync(handle):
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    lose(tmp_path, OSError(5, "Input/output error"))
    assert synced == ["lost", tmp_path.name]


def test_segments_are_removed_one_after_the_other_so_that_a_power_cut_leaves_no_gap(tmp_path, monkeypatch):
    nine(tmp_path)
    there, sync = [], os.fsync

    def fsync(handle):
        there.append(len(segments(tmp_path)))
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    Tail(tmp_path).release(9)
    assert there == [2, 1]
