"""The spool: what was appended comes out once, in order, whatever happened to the process or the disk."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.bus.memory import MemoryBus
from mainstem.bus.spool import Spool, SpoolBusy, SpoolCorrupt, SpoolFull, send
from mainstem.events.envelope import Message
from mainstem.events.topics import ConcreteTopic

CAP = 1 << 20


def message(text, size=0):
    return Message("tel.prediction.m", b"key", text.encode() + b"." * size, (("ce_id", text.encode()),), 0)


def everything(spool, start=0):
    found = []
    while batch := spool.read(start):
        found += batch
        start = batch[-1][0] + 1
    return [(number, m.value.rstrip(b".").decode()) for number, m in found]


@pytest.fixture
def spool(tmp_path):
    opened = Spool(tmp_path, CAP)
    yield opened
    opened.close()


def segments(folder):
    return sorted(folder.glob("*.spool"))


def test_messages_come_out_as_they_went_in(spool):
    spool.append([message("a"), message("b")])
    assert spool.read(0) == [(0, message("a")), (1, message("b"))]


def test_numbers_go_on_after_reopening(tmp_path):
    first = Spool(tmp_path, CAP)
    first.append([message("a"), message("b")])
    first.close()
    second = Spool(tmp_path, CAP)
    second.append([message("c")])
    assert everything(second, 1) == [(1, "b"), (2, "c")]
    assert second.incarnation == first.incarnation
    second.close()


def test_an_empty_folder_is_a_new_incarnation(tmp_path):
    one, other = Spool(tmp_path / "one", CAP), Spool(tmp_path / "other", CAP)
    assert one.incarnation != other.incarnation
    one.close()
    other.close()


@given(
    calls=st.lists(st.lists(st.integers(0, 3000), max_size=5), max_size=12),
    start=st.integers(0, 30),
)
def test_reading_from_any_number_gives_the_rest_over_any_segments(tmp_path_factory, calls, start):
    spool = Spool(tmp_path_factory.mktemp("spool"), 8 * 4000 * 60)
    spool._segment_bytes = 4000
    for call in calls:
        spool.append([message("m", size) for size in call])
    count = sum(map(len, calls))
    assert [number for number, _ in everything(spool, start)] == list(range(start, count))
    spool.close()


def test_released_segments_are_gone_and_the_last_stays(tmp_path):
    spool = Spool(tmp_path, 8 * 100)
    for name in "abcd":
        spool.append([message(name, 50)])
    assert len(segments(tmp_path)) == 4
    everything(spool)
    spool.release(4)
    assert [path.name for path in segments(tmp_path)] == [f"{3:020}.spool"]
    assert everything(spool, 3) == [(3, "d")]
    spool.close()


def test_numbers_go_on_after_everything_was_released(tmp_path):
    spool = Spool(tmp_path, 8 * 100)
    spool.append([message("a", 90)])
    spool.append([message("b", 90)])
    spool.release(2)
    spool.close()
    again = Spool(tmp_path, 8 * 100)
    assert again.next_sequence == 2
    again.close()


@given(cut=st.integers(1, 170))
def test_a_torn_tail_costs_only_the_frames_it_tore(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, CAP)
    for name in "ab":
        spool.append([message(name)])
    spool.close()
    (path,) = segments(folder)
    whole = path.stat().st_size
    os.truncate(path, max(0, whole - cut))
    again = Spool(folder, CAP)
    again.append([message("new")])
    kept = 1 if cut <= whole // 2 else 0
    assert everything(again) == [*[(0, "a")][:kept], (kept, "new")]
    again.close()


def test_a_changed_byte_at_the_tail_is_cut_off(tmp_path):
    spool = Spool(tmp_path, CAP)
    spool.append([message("a")])
    spool.append([message("b")])
    spool.close()
    _flip(segments(tmp_path)[0], -1)
    again = Spool(tmp_path, CAP)
    assert everything(again) == [(0, "a")]
    again.close()


def test_a_changed_byte_in_a_full_segment_is_refused_by_name(tmp_path):
    spool = Spool(tmp_path, 8 * 100)
    spool.append([message("a", 90)])
    spool.append([message("b", 90)])
    spool.close()
    _flip(segments(tmp_path)[0], -1)
    with pytest.raises(SpoolCorrupt, match=f"{0:020}"):
        Spool(tmp_path, 8 * 100)


def test_a_byte_changed_while_it_runs_is_refused_when_it_is_read(spool, tmp_path):
    spool.append([message("a")])
    _flip(segments(tmp_path)[0], -1)
    with pytest.raises(SpoolCorrupt):
        spool.read(0)


def test_the_cap_refuses_the_whole_call_and_keeps_what_was_there(tmp_path):
    spool = Spool(tmp_path, 400)
    spool.append([message("a", 100)])
    with pytest.raises(SpoolFull, match="400 bytes"):
        spool.append([message("b", 10), message("c", 300)])
    assert everything(spool) == [(0, "a")]
    spool.close()


def test_the_cap_gives_way_once_segments_are_released(tmp_path):
    spool = Spool(tmp_path, 8 * 150)
    with pytest.raises(SpoolFull):
        for number in range(100):
            spool.append([message(str(number), 60)])
    everything(spool)
    spool.release(spool.next_sequence)
    spool.append([message("again", 60)])
    spool.close()


def test_a_full_disk_refuses_and_leaves_no_torn_frame(small_disk):
    spool = Spool(small_disk / "spool", 1 << 30)
    with pytest.raises(SpoolFull, match="free space"):
        for _ in range(1000):
            spool.append([message("m", 1000) for _ in range(7)])
    count = spool.next_sequence
    assert 0 < count < 7000
    assert count % 7 == 0
    spool.close()
    again = Spool(small_disk / "spool", 1 << 30)
    assert [number for number, _ in everything(again)] == list(range(count))
    again.close()


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder whose files cannot grow beyond 200,000 bytes: a write is cut there, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    yield tmp_path
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_two_processes_cannot_share_a_folder(spool, tmp_path):
    with pytest.raises(SpoolBusy, match="folder of its own"):
        Spool(tmp_path, CAP)


def test_numbers_that_were_sent_are_never_given_again(spool):
    spool.append([message("a")])
    spool.skip_to(10)
    spool.append([message("b")])
    assert everything(spool) == [(0, "a"), (10, "b")]


CHILD = """
import sys
from pathlib import Path
from mainstem.bus.spool import Spool
from mainstem.events.envelope import Message
spool = Spool(Path(sys.argv[1]), 1 << 26)
while True:
    spool.append([Message("t", None, b"x" * 500, (), 0)] * 3)
    print(spool.next_sequence, flush=True)
"""


def test_a_killed_process_loses_nothing_that_it_answered_for(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    seen = [child.stdout.readline() for _ in range(200)]
    child.send_signal(signal.SIGKILL)
    answered = int([*seen, *child.stdout][-1])
    child.wait()
    child.stdout.close()
    spool = Spool(tmp_path, 1 << 26)
    assert answered <= spool.next_sequence <= answered + 3
    assert [number for number, _ in everything(spool)] == list(range(spool.next_sequence))
    spool.close()


class Kept:
    """What a store would keep of the sender; `reached` returns when it has kept a number."""

    def __init__(self):
        self.number = 0
        self._changed = asyncio.Condition()

    async def __call__(self, messages, following):
        async with self._changed:
            self.number = following
            self._changed.notify_all()

    async def reached(self, number):
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(lambda: self.number >= number)


async def sending(spool, bus, start, names):
    kept = Kept()
    task = asyncio.create_task(send(spool, bus, start, "serving", kept))
    await asyncio.sleep(0)
    spool.append([message(name) for name in names])
    await kept.reached(spool.next_sequence)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def bus_with_topic():
    bus = MemoryBus()
    await bus.create([ConcreteTopic("tel.prediction.m", 1, {})])
    return bus


async def test_the_sender_publishes_in_order_with_numbered_origins(spool):
    bus = await bus_with_topic()
    spool.append([message(str(number)) for number in range(450)])
    await sending(spool, bus, 0, ["last"])
    origins = [dict(record.headers)["ce_origin"].decode() for record in bus.log["tel.prediction.m", 0]]
    assert origins == [f"serving@{spool.incarnation}/{number}" for number in range(451)]


async def test_the_sender_starts_where_the_store_says(spool):
    bus = await bus_with_topic()
    spool.append([message(name) for name in "abc"])
    await sending(spool, bus, 2, ["d"])
    assert [record.value for record in bus.log["tel.prediction.m", 0]] == [b"c", b"d"]


async def test_the_sender_takes_what_is_appended_while_it_waits(spool):
    bus = await bus_with_topic()
    await sending(spool, bus, 0, ["late"])
    assert [record.value for record in bus.log["tel.prediction.m", 0]] == [b"late"]


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
