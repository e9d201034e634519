"""The sender of a spool: what it holds is published once, in its order."""

import asyncio
from contextlib import closing

import pytest
from libs.bus.tests.spool_content import lose_sector, segments

from mainstem.bus.memory import MemoryBus
from mainstem.bus.spool import Spool
from mainstem.bus.spool_folder import SpoolCorrupt
from mainstem.bus.spool_sender import send
from mainstem.bus.spool_tail import Tail
from mainstem.events.envelope import Message
from mainstem.events.topics import ConcreteTopic
from mainstem.testkit.waiting import until


@pytest.fixture
def spool(tmp_path):
    opened = Spool(tmp_path, 1 << 20)
    yield opened
    opened.close()


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


def messages(block):
    """Return what a block stands for: one message a letter."""
    return [
        Message("tel.prediction.m", b"key", bytes([letter]), (("ce_id", bytes([letter])),), 0)
        for letter in block.payload[: block.count]
    ]


async def sending(spool, folder, bus, start, letters):
    kept = Kept()
    task = asyncio.create_task(send(Tail(folder), messages, bus, start, "serving", kept))
    await asyncio.sleep(0)
    spool.append(letters, len(letters))
    await kept.reached(spool.next_number)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def bus_with_topic():
    bus = MemoryBus()
    await bus.create([ConcreteTopic("tel.prediction.m", 1, {})])
    return bus


async def test_the_sender_publishes_in_order_with_numbered_origins(spool, tmp_path):
    bus = await bus_with_topic()
    for size in (250, 200):
        spool.append(b"x" * size, size)
    await sending(spool, tmp_path, bus, 0, b"last")
    origins = [dict(record.headers)["ce_origin"].decode() for record in bus.log["tel.prediction.m", 0]]
    assert origins == [f"serving@{spool.incarnation}/{number}" for number in range(454)]


async def test_the_sender_starts_where_the_store_says_within_a_block_too(spool, tmp_path):
    bus = await bus_with_topic()
    spool.append(b"abc", 3)
    await sending(spool, tmp_path, bus, 2, b"d")
    assert [record.value for record in bus.log["tel.prediction.m", 0]] == [b"c", b"d"]
    origins = [dict(record.headers)["ce_origin"].decode() for record in bus.log["tel.prediction.m", 0]]
    assert origins == [f"serving@{spool.incarnation}/{number}" for number in (2, 3)]


async def test_the_sender_takes_what_is_appended_while_it_waits(spool, tmp_path):
    bus = await bus_with_topic()
    await sending(spool, tmp_path, bus, 0, b"l")
    assert [record.value for record in bus.log["tel.prediction.m", 0]] == [b"l"]


async def test_what_stands_before_a_gap_in_the_last_segment_is_sent(spool, tmp_path):
    bus = await bus_with_topic()
    for letter in b"abcd":
        spool.append(bytes([letter]), 1)
    (segment,) = segments(tmp_path)
    content = segment.read_bytes()
    segment.write_bytes(content[:42] + content[63:])
    with pytest.raises(SpoolCorrupt, match="broken frame at byte 42"):
        await send(Tail(tmp_path), messages, bus, 0, "serving", Kept())
    assert [record.value for record in bus.log["tel.prediction.m", 0]] == [b"a", b"b"]


async def test_a_segment_that_was_sent_is_removed_though_nothing_follows_it(tmp_path):
    bus, kept = await bus_with_topic(), Kept()
    with closing(Spool(tmp_path, 8 * 40)) as spool:
        spool.append(b"x" * 50, 1)
        task = asyncio.create_task(send(Tail(tmp_path), messages, bus, 0, "serving", kept))
        await kept.reached(1)
        spool._roll()
        await until(lambda: len(segments(tmp_path)) == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_spool_that_ends_before_what_was_sent_is_not_sent_on(spool, tmp_path):
    spool.append(b"a", 1)
    with pytest.raises(SpoolCorrupt, match="ends before number 7"):
        await send(Tail(tmp_path), messages, None, 7, "serving", None)


@pytest.mark.parametrize("start", [0, 1])
async def test_what_stands_before_a_bad_sector_is_sent_from_wherever_it_begins(spool, tmp_path, monkeypatch, start):
    bus = await bus_with_topic()
    for letter in b"abcd":
        spool.append(bytes([letter]), 1)
    lose_sector(monkeypatch, segments(tmp_path)[0], 50)
    with pytest.raises(SpoolCorrupt, match="cannot be read"):
        await send(Tail(tmp_path), messages, bus, start, "serving", Kept())
    assert [record.value for record in bus.log["tel.prediction.m", 0]] == [b"a", b"b"][start:]


async def test_what_cannot_be_removed_keeps_nothing_from_being_sent(tmp_path, monkeypatch):
    bus = await bus_with_topic()
    with closing(Spool(tmp_path, 8 * 60)) as spool:
        for letter in b"abcd":
            spool.append(bytes([letter]) * 50, 1)
    monkeypatch.setattr(Tail, "release", read_only)
    with pytest.raises(OSError, match="Read-only"):
        await send(Tail(tmp_path), messages, bus, 0, "serving", Kept())
    assert len(bus.log["tel.prediction.m", 0]) == 4


def read_only(*_):
    raise OSError(30, "Read-only file system")
