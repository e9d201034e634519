"""The spool: what was appended comes out once, in order, whatever happened to the process or the disk."""

import asyncio
import errno
import os
import resource
import signal
import struct
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libs.bus.tests.spool_content import everything, flip, segments

from mainstem.bus import spool as spool_module
from mainstem.bus.frames import HEAD_BYTES, Block, frame_of, goes_on, is_shorter, size_of
from mainstem.bus.spool import Spool, SpoolFull, check, keep_synced
from mainstem.bus.spool_folder import SpoolBusy, SpoolCorrupt, SpoolEarlier
from mainstem.bus.spool_tail import Tail

CAP = 1 << 20


@pytest.fixture
def spool(tmp_path):
    opened = Spool(tmp_path, CAP)
    yield opened
    opened.close()


def test_blocks_come_out_as_they_went_in(spool, tmp_path):
    assert [spool.append(b"two", 2), spool.append(b"three", 3)] == [0, 2]
    assert spool.next_number == 5
    tail = Tail(tmp_path)
    assert tail.read(0) == [Block(0, 2, b"two"), Block(2, 3, b"three")]
    assert tail.read(5) == []


def test_numbers_go_on_after_reopening(tmp_path):
    first = Spool(tmp_path, CAP)
    first.append(b"ab", 2)
    first.close()
    second = Spool(tmp_path, CAP)
    assert second.append(b"c", 1) == 2
    assert everything(tmp_path, 2) == [(2, "c")]
    assert second.incarnation == first.incarnation == Tail(tmp_path).incarnation
    second.close()


def test_an_empty_folder_is_a_new_incarnation(tmp_path):
    one, other = Spool(tmp_path / "one", CAP), Spool(tmp_path / "other", CAP)
    assert one.incarnation != other.incarnation
    one.close()
    other.close()


def test_a_new_spool_stands_on_the_disk_with_its_name_before_it_takes_anything(tmp_path, monkeypatch):
    synced, sync = [], os.fsync

    def fsync(handle):
        synced.append((Path(f"/proc/self/fd/{handle}").readlink(), (folder / "incarnation").exists()))
        sync(handle)

    folder = tmp_path / "made" / "spool"
    monkeypatch.setattr(os, "fsync", fsync)
    opened = Spool(folder, CAP)
    assert synced[:3] == [(tmp_path, False), (tmp_path / "made", False), (folder / "incarnation.new", False)]
    assert (folder, True) in synced
    opened.close()


def test_a_folder_that_somebody_made_and_did_not_sync_is_synced(tmp_path, monkeypatch):
    synced, folder = [], tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(Path(f"/proc/self/fd/{handle}").readlink()))
    Spool(folder, CAP).close()
    assert tmp_path in synced


@pytest.mark.parametrize("name", [b"", b"0123", b"\0" * 32, b"\xff" * 32, b"a" * 33])
@pytest.mark.parametrize("opened", [lambda folder: Spool(folder, CAP), Tail])
def test_a_name_that_is_none_is_refused_and_stays(tmp_path, opened, name):
    Spool(tmp_path, CAP).close()
    (tmp_path / "incarnation").write_bytes(name)
    with pytest.raises(SpoolCorrupt, match="not 32 hexadecimal digits: write there what stands between @ and /"):
        opened(tmp_path)
    assert (tmp_path / "incarnation").read_bytes() == name


def test_blocks_whose_name_is_gone_are_not_given_another(tmp_path):
    spool = Spool(tmp_path, CAP)
    spool.append(b"a", 1)
    spool.close()
    (tmp_path / "incarnation").unlink()
    with pytest.raises(SpoolCorrupt, match="incarnation is gone, and blocks lie beside it"):
        Spool(tmp_path, CAP)


def test_a_spool_that_is_refused_is_held_by_nobody_and_goes_on_when_it_is_whole_again(tmp_path):
    Spool(tmp_path, CAP).close()
    name = (tmp_path / "incarnation").read_text()
    (tmp_path / "incarnation").write_text("")
    with pytest.raises(SpoolCorrupt):
        Spool(tmp_path, CAP)
    (tmp_path / "incarnation").write_text(name)
    again = Spool(tmp_path, CAP)
    assert again.incarnation == name
    again.close()


def test_numbers_go_on_after_everything_was_released(tmp_path):
    spool = Spool(tmp_path, 8 * 100)
    spool.append(b"a" * 90, 1)
    spool.append(b"b" * 90, 1)
    Tail(tmp_path).release(2)
    spool.close()
    again = Spool(tmp_path, 8 * 100)
    assert again.next_number == 2
    again.close()


@given(cut=st.integers(1, 50))
def test_a_torn_tail_costs_only_the_frames_it_tore(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, CAP)
    for name in (b"aaaaa", b"bbbbb"):
        spool.append(name, 1)
    spool.close()
    (path,) = segments(folder)
    whole = path.stat().st_size
    os.truncate(path, whole - cut)
    again = Spool(folder, CAP)
    again.append(b"new", 1)
    kept = 1 if cut <= whole // 2 else 0
    assert everything(folder) == [*[(0, "aaaaa")][:kept], (kept, "new")]
    again.close()


def test_a_changed_byte_at_the_tail_is_cut_off(tmp_path):
    spool = Spool(tmp_path, CAP)
    spool.append(b"a", 1)
    spool.append(b"b", 1)
    spool.close()
    flip(segments(tmp_path)[0], -1)
    again = Spool(tmp_path, CAP)
    assert everything(tmp_path) == [(0, "a")]
    again.close()


@given(st.integers(0, 39), st.integers(1, 255))
def test_a_changed_byte_before_whole_blocks_is_refused_and_nothing_is_cut_off(at, change):
    with TemporaryDirectory() as name:
        folder = Path(name)
        spool = Spool(folder, CAP)
        for letter in b"abc":
            spool.append(bytes([letter]) * 20, 1)
        spool.close()
        (segment,) = segments(folder)
        content = bytearray(segment.read_bytes())
        content[at] ^= change
        segment.write_bytes(content)
        with pytest.raises(SpoolCorrupt, match="whole ones behind it"):
            Spool(folder, CAP)
        assert segment.read_bytes() == content


def test_a_changed_byte_in_a_full_segment_is_refused_by_name(tmp_path):
    spool = Spool(tmp_path, 8 * 100)
    spool.append(b"a" * 100, 1)
    spool.append(b"b" * 100, 1)
    spool.close()
    flip(segments(tmp_path)[0], -1)
    with pytest.raises(SpoolCorrupt, match=f"{0:020}"):
        Spool(tmp_path, 8 * 100)


@pytest.mark.parametrize("damage", [b"\x00" * 8, b"\xff" * 8, b"\x01\x02\x00\x00\x07\x07\x07\x07", b"\x00" * 70])
def test_a_head_changed_in_many_bytes_before_whole_blocks_is_refused_and_nothing_is_cut_off(tmp_path, damage):
    with closing(Spool(tmp_path, CAP)) as spool:
        for letter in b"abcdef":
            spool.append(bytes([letter]) * 20, 1)
    (segment,) = segments(tmp_path)
    content = damage + segment.read_bytes()[len(damage) :]
    segment.write_bytes(content)
    with pytest.raises(SpoolCorrupt, match="whole ones behind it"):
        Spool(tmp_path, CAP)
    assert segment.read_bytes() == content


def test_what_callers_wrote_to_make_a_start_long_is_refused_soon():
    pretended = struct.pack("<IIQ", 200_000, 0, 5) * 40_000
    assert goes_on(frame_of(Block(0, 1, pretended))[:-9], 1, 0)


def test_the_torn_end_of_a_young_spool_is_cut_off_though_numbers_in_it_look_like_frames(tmp_path):
    with closing(Spool(tmp_path, CAP)) as spool:
        spool.append(b"a", 1)
        flags = [float(row * column % 5 > 0) for row in range(160) for column in range(20)]
        spool.append(b"rows" + struct.pack(f"<{len(flags)}d", *flags), 160)
    (segment,) = segments(tmp_path)
    os.truncate(segment, segment.stat().st_size - 50)
    with closing(Spool(tmp_path, CAP)) as again:
        assert again.next_number == 1


@given(st.binary(max_size=60), st.integers(0, 31))
def test_a_length_changed_by_any_bit_is_told_from_a_frame_that_is_not_whole_yet(payload, bit):
    frame, behind = frame_of(Block(3, 2, payload)), frame_of(Block(5, 1, b"next"))
    content = bytearray(frame + behind)
    content[bit // 8] ^= 1 << bit % 8
    longer = size_of(content[:HEAD_BYTES]) > len(content)
    assert is_shorter(bytes(content)) or not longer
    assert not any(is_shorter(frame[:end]) for end in range(len(frame)))
    assert not is_shorter(b"\xff" * 99)


def test_the_cap_refuses_a_block_and_keeps_what_was_there(tmp_path):
    spool = Spool(tmp_path, 400)
    spool.append(b"a" * 100, 1)
    with pytest.raises(SpoolFull, match="400 bytes"):
        spool.append(b"b" * 310, 2)
    assert everything(tmp_path) == [(0, "a" * 100)]
    assert spool.next_number == 1
    spool.close()


def test_the_cap_gives_way_once_segments_are_released(tmp_path):
    spool = Spool(tmp_path, 8 * 150)
    with pytest.raises(SpoolFull):
        for _ in range(100):
            spool.append(b"m" * 60, 1)
    Tail(tmp_path).release(spool.next_number)
    spool.append(b"again", 1)
    spool.close()


def test_a_full_disk_refuses_and_leaves_no_torn_frame(small_disk):
    spool = Spool(small_disk / "spool", 1 << 30)
    with pytest.raises(SpoolFull, match="free space"):
        for _ in range(1000):
            spool.append(b"m" * 7000, 7)
    count = spool.next_number
    assert 0 < count < 7000
    spool.close()
    again = Spool(small_disk / "spool", 1 << 30)
    assert [first for first, _ in everything(small_disk / "spool")] == list(range(0, count, 7))
    again.close()


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder whose files cannot grow beyond 200,000 bytes: a write is cut there, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    yield tmp_path
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_an_earlier_release_left_is_named_and_not_passed_over(tmp_path):
    (tmp_path / "00000000000000000000.spool").write_bytes(b"frames")
    with pytest.raises(SpoolEarlier, match="let that release send it"):
        Spool(tmp_path, CAP)


def test_two_processes_cannot_write_to_a_folder(spool, tmp_path):
    with pytest.raises(SpoolBusy, match="folder of its own"):
        Spool(tmp_path, CAP)


def test_a_block_is_durable_before_append_returns_where_that_is_asked_for(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fdatasync", lambda handle: synced.append(os.fstat(handle).st_size))
    spool = Spool(tmp_path, CAP, sync_each=True)
    spool.append(b"a", 1)
    assert synced == [segments(tmp_path)[0].stat().st_size]
    spool.close()


def failing_once(monkeypatch, call="fdatasync"):
    """Have the next call of its kind fail; return what it was asked for."""
    asked, right = [], getattr(os, call)

    def failing(*args):
        asked.append(args)
        if len(asked) == 1:
            raise OSError(5, "Input/output error")
        return right(*args)

    monkeypatch.setattr(os, call, failing)
    return asked


def test_after_a_sync_that_failed_nothing_is_written_any_more_and_what_was_written_is_not_taken_back(
    tmp_path, monkeypatch
):
    with closing(Spool(tmp_path, CAP, sync_each=True)) as spool:
        failing_once(monkeypatch)
        for letter in (b"a", b"b", b"c"):
            with pytest.raises(SpoolFull, match="Input/output error"):
                spool.append(letter, 2)
        assert spool.next_number == 2
    assert everything(tmp_path) == [(0, "a")]


@pytest.mark.parametrize("failed", ["a sync", "the sync of a full segment", "the name of another", "taking back"])
async def test_whoever_keeps_a_spool_synced_hears_that_nobody_knows_what_the_disk_has(tmp_path, monkeypatch, failed):
    with closing(Spool(tmp_path, 8 * 100 if "full" in failed or "name" in failed else CAP)) as spool:
        spool.append(b"a" * 100, 1)
        failing_once(monkeypatch, {"the name of another": "fsync", "taking back": "ftruncate"}.get(failed, "fdatasync"))
        if failed == "taking back":
            write = os.write
            monkeypatch.setattr(os, "write", lambda handle, content: write(handle, content[:30]))
        if failed != "a sync":
            for _ in range(2):
                with pytest.raises(SpoolFull):
                    spool.append(b"b" * 50, 1)
        async with asyncio.timeout(5):
            with pytest.raises(SpoolCorrupt, match="Input/output error"):
                await keep_synced(spool)
        with pytest.raises(SpoolFull):
            spool.append(b"c", 1)
    with pytest.raises(SpoolCorrupt, match=r"may not be on its disk: .*Input/output error"):
        Spool(tmp_path, CAP)
    assert everything(tmp_path) == [(0, "a" * 100)]


def test_a_spool_that_is_closed_takes_nothing_and_is_not_lost(tmp_path):
    spool = Spool(tmp_path, CAP)
    spool.close()
    with pytest.raises(SpoolFull, match="Bad file descriptor"):
        spool.append(b"a", 1)
    Spool(tmp_path, CAP).close()


def test_want_of_files_where_a_segment_begins_is_no_loss(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EMFILE, "Too many open files")

    with closing(Spool(tmp_path, 8 * 100)) as spool:
        spool.append(b"a" * 100, 1)
        with monkeypatch.context() as patched:
            patched.setattr(spool_module, "sync_folder", fail)
            with pytest.raises(SpoolFull, match="Too many open files"):
                spool.append(b"b", 1)
        assert spool.append(b"c", 1) == 1
    assert everything(tmp_path) == [(0, "a" * 100), (1, "c")]


def test_a_spool_that_cannot_be_synced_at_its_end_is_given_free_and_nobody_appends_to_it(tmp_path, monkeypatch):
    spool = Spool(tmp_path, CAP)
    failing_once(monkeypatch, "fsync")
    with pytest.raises(SpoolCorrupt, match="Input/output error"):
        spool.close()
    for _ in range(2):
        with pytest.raises(SpoolCorrupt, match="may not be on its disk"):
            Spool(tmp_path, CAP)


@pytest.mark.parametrize("damage", ["a segment is gone", "its last frame is gone", "frames between others are gone"])
def test_a_folder_of_which_whole_frames_are_gone_is_refused_and_nothing_is_changed(tmp_path, damage):
    with closing(Spool(tmp_path, 8 * 200)) as spool:
        for letter in b"abcdefghi":
            spool.append(bytes([letter]) * 50, 1)
    first, second, last = segments(tmp_path)
    if damage == "a segment is gone":
        second.unlink()
    elif damage == "its last frame is gone":
        os.truncate(first, 2 * 70)
    else:
        content = last.read_bytes()
        last.write_bytes(content[:70] + content[140:])
    left = {path: path.read_bytes() for path in segments(tmp_path)}
    for opened in (check, partial(Spool, cap_bytes=CAP)):
        with pytest.raises(SpoolCorrupt, match=r"ends before number|lacks frames"):
            opened(tmp_path)
    assert left == {path: path.read_bytes() for path in segments(tmp_path)}


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_what_the_disk_does_not_give_back_is_broken_and_want_of_files_is_not(tmp_path, monkeypatch, number):
    Spool(tmp_path, CAP).close()

    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(SpoolCorrupt if number == errno.EIO else OSError, match=os.strerror(number)):
        Spool(tmp_path, CAP)


def test_who_makes_durable_ends_when_told_whatever_it_does_then(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "SYNC_S", 1e-4)
    for number in range(50):
        with closing(Spool(tmp_path / str(number), CAP)) as spool:
            thread = Thread(target=spool.sync)
            thread.start()
            for _ in range(number):
                spool.append(b"a", 1)
            spool.leave()
            thread.join(5)
            assert not thread.is_alive()


async def test_what_is_appended_becomes_durable_soon(spool, tmp_path, monkeypatch):
    sizes = asyncio.Queue()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(
        os, "fdatasync", lambda handle: loop.call_soon_threadsafe(sizes.put_nowait, os.fstat(handle).st_size)
    )
    task = asyncio.create_task(keep_synced(spool))
    spool.append(b"a", 1)
    async with asyncio.timeout(5):
        while await sizes.get() < segments(tmp_path)[0].stat().st_size:
            pass
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


CHILD = """
import sys
from contextlib import closing
from pathlib import Path
from mainstem.bus.spool import Spool
spool = Spool(Path(sys.argv[1]), 1 << 26)
while True:
    spool.append(b"x" * 1500, 3)
    print(spool.next_number, flush=True)
"""


def test_a_killed_process_loses_nothing_that_it_answered_for(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    seen = [child.stdout.readline() for _ in range(200)]
    child.send_signal(signal.SIGKILL)
    answered = int([*seen, *child.stdout][-1])
    child.wait()
    child.stdout.close()
    spool = Spool(tmp_path, 1 << 26)
    assert answered <= spool.next_number <= answered + 3
    assert [first for first, _ in everything(tmp_path)] == list(range(0, spool.next_number, 3))
    spool.close()
