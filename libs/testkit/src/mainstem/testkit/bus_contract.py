"""The battery that every bus passes: inherit from `BusContract` and give it the fixture `bus`."""

import asyncio
from collections.abc import Mapping, Sequence
from uuid import uuid4

import pytest

from mainstem.bus import Bus, Partition
from mainstem.events.envelope import Message
from mainstem.events.errors import Rejected
from mainstem.events.record import Record
from mainstem.events.topics import ConcreteTopic
from mainstem.testkit.waiting import running, until

APPEND_TIME = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(16 << 20)}


class Reader:
    """Collects what a subscription hands over, and starts where it is told."""

    def __init__(self, start: Mapping[Partition, int] | None = None) -> None:
        self.records: list[Record] = []
        self._start = dict(start or {})

    def begin_at(self, start: Mapping[Partition, int]) -> None:
        """Start there when partitions are given out the next time."""
        self._start = dict(start)

    async def positions(self) -> Mapping[Partition, int]:
        """Return where to start."""
        return self._start

    async def on_batch(self, records: Sequence[Record]) -> None:
        """Keep the records."""
        self.records += records

    def values(self, partition: int | None = None) -> list[bytes | None]:
        """Return the payloads in the order in which they came, of all partitions or of one."""
        return [r.value for r in self.records if partition in (None, r.partition)]


def numbered(topic: str, count: int, partition: int | None = 0, first: int = 0) -> list[Message]:
    """Return messages whose payloads are `first`, `first + 1` and so on."""
    return [Message(topic, b"key", b"%d" % n, (("ce_id", b"%d" % n),), partition) for n in range(first, first + count)]


class BusContract:
    """What `mainstem.bus.port` promises."""

    @pytest.fixture
    async def topic(self, bus: Bus) -> str:
        """Return a new topic of two partitions."""
        name = f"contract.{uuid4().hex}"
        await bus.create([ConcreteTopic(name, 2, APPEND_TIME)])
        return name

    async def test_records_of_a_partition_come_in_the_order_in_which_they_were_published(
        self, bus: Bus, topic: str
    ) -> None:
        """Two partitions, many batches."""
        reader = Reader()
        for first in range(0, 300, 100):
            await bus.publisher.publish(
                [*numbered(topic, 100, 0, first), *numbered(topic, 100, 1, first)],
            )
        async with running(bus.subscribe(topic, [topic], reader.positions).run(reader.on_batch)):
            await until(lambda: len(reader.records) == 600)
        assert reader.values(0) == reader.values(1) == [b"%d" % n for n in range(300)]
        assert [r.offset for r in reader.records if r.partition == 1] == list(range(300))

    async def test_a_record_keeps_key_payload_and_headers(self, bus: Bus, topic: str) -> None:
        """Byte for byte, headers in their order."""
        reader = Reader()
        headers = (("ce_id", b"1"), ("traceparent", b"\xff\x00"))
        await bus.publisher.publish([Message(topic, b"k\xff", b"\x00v", headers, 1)])
        async with running(bus.subscribe(topic, [topic], reader.positions).run(reader.on_batch)):
            await until(lambda: reader.records)
        (record,) = reader.records
        assert (record.key, record.value, tuple(record.headers)) == (b"k\xff", b"\x00v", headers)
        assert (record.topic, record.partition, record.offset) == (topic, 1, 0)

    async def test_a_tombstone_and_a_record_without_a_key_travel(self, bus: Bus, topic: str) -> None:
        """None is not the empty text."""
        reader = Reader()
        await bus.publisher.publish([Message(topic, b"k", None, (), 0), Message(topic, None, b"v", (), 0)])
        async with running(bus.subscribe(topic, [topic], reader.positions).run(reader.on_batch)):
            await until(lambda: len(reader.records) == 2)
        assert [(r.key, r.value) for r in reader.records] == [(b"k", None), (None, b"v")]

    async def test_reading_starts_at_the_stored_positions(self, bus: Bus, topic: str) -> None:
        """A partition that is not named starts at 0."""
        reader = Reader({(topic, 0): 7})
        await bus.publisher.publish([*numbered(topic, 10, 0), *numbered(topic, 2, 1)])
        async with running(bus.subscribe(topic, [topic], reader.positions).run(reader.on_batch)):
            await until(lambda: len(reader.records) == 5)
        assert (reader.values(0), reader.values(1)) == ([b"7", b"8", b"9"], [b"0", b"1"])

    async def test_what_is_published_later_arrives_too(self, bus: Bus, topic: str) -> None:
        """The subscription waits for more."""
        reader = Reader()
        async with running(bus.subscribe(topic, [topic], reader.positions).run(reader.on_batch)):
            for n in range(3):
                await bus.publisher.publish(numbered(topic, 1, 0, n))
                await until(lambda n=n: len(reader.records) == n + 1)  # type: ignore[misc]
        assert reader.values() == [b"0", b"1", b"2"]

    async def test_one_key_stays_in_one_partition(self, bus: Bus, topic: str) -> None:
        """Whoever leaves the choice to the key keeps the order of the key."""
        reader = Reader()
        await bus.publisher.publish(numbered(topic, 20, None))
        async with running(bus.subscribe(topic, [topic], reader.positions).run(reader.on_batch)):
            await until(lambda: len(reader.records) == 20)
        assert len({r.partition for r in reader.records}) == 1
        assert reader.values() == [b"%d" % n for n in range(20)]

    async def test_the_next_batch_comes_only_when_the_one_before_is_done(self, bus: Bus, topic: str) -> None:
        """Calls never overlap."""
        reader, calls = Reader(), 0

        async def one_at_a_time(records: Sequence[Record]) -> None:
            nonlocal calls
            calls += 1
            await asyncio.sleep(0)
            assert calls == 1
            calls -= 1
            await reader.on_batch(records)

        async with running(bus.subscribe(topic, [topic], reader.positions).run(one_at_a_time)):
            for n in range(5):
                await bus.publisher.publish(numbered(topic, 1, n % 2, n))
            await until(lambda: len(reader.records) == 5)

    async def test_what_the_handler_raises_ends_the_subscription(self, bus: Bus, topic: str) -> None:
        """A fault is not swallowed, and the records come again to whoever did not store that he had them."""

        async def fail(_: Sequence[Record]) -> None:
            raise ArithmeticError("a fault of ours")

        await bus.publisher.publish(numbered(topic, 1))
        reader = Reader()
        with pytest.raises(ArithmeticError, match="a fault of ours"):
            async with asyncio.timeout(15):
                await bus.subscribe(topic, [topic], reader.positions).run(fail)
        async with running(bus.subscribe(topic, [topic], reader.positions).run(reader.on_batch)):
            await until(lambda: reader.records)

    async def test_a_subscription_cancelled_in_the_middle_of_a_batch_ends_at_once(self, bus: Bus, topic: str) -> None:
        """Nothing waits for a handler that was told to stop."""
        entered = asyncio.Event()

        async def for_ever(_: Sequence[Record]) -> None:
            entered.set()
            await asyncio.Event().wait()

        await bus.publisher.publish(numbered(topic, 1))
        async with running(bus.subscribe(topic, [topic], Reader().positions).run(for_ever)) as task:
            async with asyncio.timeout(15):
                await entered.wait()
            task.cancel()
            await until(task.done, within_s=1)

    async def test_lag_counts_what_lies_ahead(self, bus: Bus, topic: str) -> None:
        """Zero everywhere once everything was handed over."""
        reader = Reader()
        subscription = bus.subscribe(topic, [topic], reader.positions)
        await bus.publisher.publish(numbered(topic, 5))
        async with running(subscription.run(reader.on_batch)):
            await until(lambda: len(reader.records) == 5)
            await until(lambda: subscription.lag() == {(topic, 0): 0, (topic, 1): 0})

    async def test_a_batch_is_not_part_of_the_lag_that_its_handler_sees(self, bus: Bus, topic: str) -> None:
        """What is handed over and what lies ahead make up the log, whatever was read ahead."""
        seen, sums = 0, set()

        async def add_up(records: Sequence[Record]) -> None:
            nonlocal seen
            seen += len(records)
            sums.add(seen + subscription.lag()[topic, 0])

        await bus.publisher.publish(numbered(topic, 5_000, 0))
        subscription = bus.subscribe(topic, [topic], Reader().positions)
        async with running(subscription.run(add_up)):
            await until(lambda: seen == 5_000)
        assert sums == {5_000}

    async def test_a_partition_held_off_waits_while_others_go_on_and_is_read_afterwards(
        self, bus: Bus, topic: str
    ) -> None:
        """Nothing of it is handed over, nothing is said of it, and nothing is lost."""
        reader, here = Reader(), (topic, 0)
        subscription = bus.subscribe(topic, [topic], reader.positions)
        async with running(subscription.run(reader.on_batch)):
            await until(lambda: subscription.lag() == {here: 0, (topic, 1): 0})
            subscription.hold_off([here, ("contract.elsewhere", 0)])
            await bus.publisher.publish([*numbered(topic, 3, 0), *numbered(topic, 3, 1)])
            await until(lambda: len(reader.records) == 3)
            assert {record.partition for record in reader.records} == {1}
            assert here not in subscription.lag()
            subscription.hold_off([])
            await until(lambda: len(reader.records) == 6)  # until then the client may know the end from before
            await until(lambda: subscription.lag() == {here: 0, (topic, 1): 0})
            assert [record.offset for record in reader.records if record.partition == 0] == [0, 1, 2]

    async def test_creating_a_topic_twice_leaves_it_as_it_is(self, bus: Bus, topic: str) -> None:
        """A second creation neither fails nor empties the topic."""
        reader = Reader()
        await bus.publisher.publish(numbered(topic, 1, 1))
        await bus.create([ConcreteTopic(topic, 2, APPEND_TIME)])
        async with running(bus.subscribe(topic, [topic], reader.positions).run(reader.on_batch)):
            await until(lambda: reader.values() == [b"0"])

    @pytest.mark.parametrize(
        ("partitions", "config", "says"),
        [
            (3, {}, "exists with 2 partitions, 3 are asked for; declare partitions=2, or choose another name"),
            (2, {"max.message.bytes": "99999999"}, "exists with max.message.bytes=16777216, 99999999 is asked for"),
            (2, {"message.timestamp.type": "CreateTime"}, "exists with message.timestamp.type=LogAppendTime, Create"),
        ],
    )
    async def test_a_topic_that_exists_otherwise_than_it_is_asked_for_is_refused(
        self, bus: Bus, topic: str, partitions: int, config: dict[str, str], says: str
    ) -> None:
        """What would misplace or lose records is said before the first one is written."""
        with pytest.raises(Rejected) as refusal:
            await bus.create([ConcreteTopic(topic, partitions, APPEND_TIME | config)])
        assert str(refusal.value).startswith(f"topic {topic} {says}")

    async def test_a_topic_that_takes_more_than_is_asked_for_will_do(self, bus: Bus, topic: str) -> None:
        """A limit that was raised by hand stays."""
        await bus.create([ConcreteTopic(topic, 2, APPEND_TIME | {"max.message.bytes": "1000"})])
