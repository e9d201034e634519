"""What only the real broker can show, after the battery that its twin passes too."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from libs.bus.tests.bus_expiry import delete, expire
from libs.bus.tests.odd_headers import TEXT, send_odd

from mainstem.bus import Partition
from mainstem.bus.admin import cluster_id, create_topics, given_out, topic_names
from mainstem.bus.kafka import KafkaBus, KafkaSubscription
from mainstem.bus.reader import LogReader
from mainstem.bus.records import Unreadable
from mainstem.events.envelope import Message
from mainstem.events.errors import Unavailable
from mainstem.events.record import Record
from mainstem.events.topics import ConcreteTopic
from mainstem.testkit.bus_contract import APPEND_TIME, BusContract, Reader, numbered
from mainstem.testkit.waiting import running, until

pytestmark = pytest.mark.real

#: Nobody listens there.
NOWHERE = "127.0.0.1:9"


@pytest.fixture
async def bus(kafka: str) -> AsyncIterator[KafkaBus]:
    async with KafkaBus(kafka, "test") as bus:
        yield bus


@pytest.fixture
async def topics(bus: KafkaBus) -> list[str]:
    names = [f"kafka.{uuid4().hex}" for _ in range(2)]
    await bus.create([ConcreteTopic(name, 2, APPEND_TIME) for name in names])
    return names


class TestKafkaBus(BusContract):
    pass


async def test_a_new_list_of_topics_is_read_within_two_seconds(bus: KafkaBus, topics: list[str]) -> None:
    first, second = Reader(), Reader({(topics[0], 0): 1})
    await bus.publisher.publish([message for topic in topics for message in numbered(topic, 1)])
    async with running(bus.subscribe("applied", topics[:1], first.positions).run(first.on_batch)):
        await until(lambda: first.records)
    async with running(bus.subscribe("applied", topics, second.positions).run(second.on_batch)):
        await until(lambda: second.records, within_s=2)
    assert [record.topic for record in second.records] == topics[1:]


#: A process that reads a topic and says so.
READER = """
import asyncio, sys
from mainstem.bus.kafka import KafkaBus

async def main(kafka, topic):
    async def positions():
        return {}
    async def say(records):
        print(len(records), flush=True)
    async with KafkaBus(kafka, "test") as bus:
        await bus.subscribe(topic, [topic], positions).run(say)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.fault
async def test_who_comes_after_a_killed_process_has_its_partitions_at_once(
    kafka: str, bus: KafkaBus, topics: list[str]
) -> None:
    reader = Reader()
    await bus.publisher.publish(numbered(topics[0], 1))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", READER, kafka, topics[0], stdout=PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"1\n"
    process.kill()
    await process.communicate()
    async with running(bus.subscribe(topics[0], topics[:1], reader.positions).run(reader.on_batch)):
        await until(lambda: reader.records, within_s=3)


@pytest.mark.fault
async def test_who_comes_after_a_killed_process_reads_a_topic_that_was_made_anew_meanwhile(
    kafka: str, bus: KafkaBus, topics: list[str]
) -> None:
    reader = Reader()
    await bus.publisher.publish(numbered(topics[0], 1))
    code = READER.replace("[topic]", "topic.split()")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, kafka, " ".join(topics), stdout=PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"1\n"
    await delete(kafka, topics[0])
    group = " ".join(topics)
    async with asyncio.timeout(30):
        while await given_out(kafka, group) != {(topics[1], 0), (topics[1], 1)}:  # noqa: ASYNC110  # the broker knows
            await asyncio.sleep(0.1)
    process.kill()
    await process.communicate()
    await bus.create([ConcreteTopic(topics[0], 2, APPEND_TIME)])
    await bus.publisher.publish(numbered(topics[0], 1))
    async with running(bus.subscribe(group, topics, reader.positions).run(reader.on_batch)):
        await until(lambda: reader.records)


async def test_two_processes_share_the_partitions_and_lose_nothing(kafka: str, topics: list[str]) -> None:
    one, other = Reader(), Reader()
    topic = topics[0]
    async with KafkaBus(kafka, "one", "1") as first, KafkaBus(kafka, "other", "2") as second:
        subscriptions = [bus.subscribe(topic, [topic], Reader().positions) for bus in (first, second)]
        async with running(subscriptions[0].run(one.on_batch)), running(subscriptions[1].run(other.on_batch)):
            await until(lambda: [len(subscription.lag()) for subscription in subscriptions] == [1, 1])
            await first.publisher.publish([*numbered(topic, 50, 0), *numbered(topic, 50, 1)])
            await until(lambda: len({(r.partition, r.offset) for r in one.records + other.records}) == 100)
    assert not {r.partition for r in one.records[-1:]} & {r.partition for r in other.records[-1:]}


async def test_a_subscription_cancelled_while_it_joins_its_group_leaves_no_client_behind(
    bus: KafkaBus, topics: list[str]
) -> None:
    subscription = bus.subscribe(topics[0], topics[:1], Reader().positions)
    async with running(subscription.run(Reader().on_batch)):
        await until(lambda: subscription.consumer and subscription.consumer._coordinator)
        joining = subscription.consumer._coordinator._coordination_task
    assert joining.done()


async def test_whoever_is_left_without_a_partition_was_told_so(kafka: str, topics: list[str]) -> None:
    async with AsyncExitStack() as open_now:
        buses = [await open_now.enter_async_context(KafkaBus(kafka, "test", f"{n}")) for n in range(3)]
        subscriptions = [bus.subscribe(topics[0], topics[:1], Reader().positions) for bus in buses]
        for subscription in subscriptions:
            await open_now.enter_async_context(running(subscription.run(Reader().on_batch)))
        await until(lambda: sorted(len(subscription.lag()) for subscription in subscriptions) == [0, 1, 1])
        await until(lambda: all(subscription.assigned() for subscription in subscriptions))


async def test_nothing_is_handed_over_while_the_positions_are_looked_up(bus: KafkaBus, topics: list[str]) -> None:
    topic, here = topics[0], TopicPartition(topics[0], 0)
    before, after, known = Reader(), Reader(), asyncio.Event()

    async def slowly() -> dict[Partition, int]:
        await known.wait()
        return {}

    await bus.publisher.publish(numbered(topic, 2))
    async with running(bus.subscribe(topic, [topic], before.positions).run(before.on_batch)):
        await until(lambda: before.records)
    await bus.publisher.publish(numbered(topic, 1, first=2))
    subscription = bus.subscribe(topic, [topic], slowly)
    async with running(subscription.run(after.on_batch)):
        # The client reads on meanwhile, from where the group has committed.
        await until(lambda: subscription.consumer and here in subscription.consumer.assignment())
        async with asyncio.timeout(15):
            while await subscription.consumer.position(here) < 3:  # noqa: ASYNC110  # the client's own
                await asyncio.sleep(0.005)
        known.set()
        await until(lambda: after.values() == [b"0", b"1", b"2"])


async def emptied(subscription: KafkaSubscription, wanted: Mapping[Partition, int]) -> None:
    """Return when a subscription says where emptied partitions go on."""
    async with asyncio.timeout(15):
        while await subscription.emptied() != wanted:  # noqa: ASYNC110  # the client knows
            await asyncio.sleep(0)


async def test_a_partition_that_lost_what_was_due_says_where_it_goes_on(
    kafka: str, bus: KafkaBus, topics: list[str]
) -> None:
    lost, read, topic = (topics[0], 0), (topics[0], 1), topics[0]
    await bus.publisher.publish([*numbered(topic, 5, 0), *numbered(topic, 5, 1)])
    await expire(kafka, {lost: 5, read: 5})
    reader = Reader({lost: 3, read: 5})
    subscription = bus.subscribe(topic, [topic], reader.positions)
    async with running(subscription.run(reader.on_batch)):
        await emptied(subscription, {lost: 5})
        await bus.publisher.publish(numbered(topic, 1, 0, first=5))
        await until(lambda: reader.values() == [b"5"])
        assert await subscription.emptied() == {}


async def test_a_partition_that_ends_before_what_was_handed_over_says_so(
    kafka: str, bus: KafkaBus, topics: list[str]
) -> None:
    here = (topics[0], 0)
    await bus.publisher.publish(numbered(topics[0], 2))
    reader = Reader({here: 7})
    subscription = bus.subscribe(topics[0], topics[:1], reader.positions)
    async with running(subscription.run(reader.on_batch)):
        await until(lambda: reader.values() == [b"0", b"1"])
        assert await subscription.emptied() == {}
    await expire(kafka, {here: 2})
    behind = bus.subscribe(topics[0], topics[:1], Reader({here: 7}).positions)
    async with running(behind.run(reader.on_batch)):
        await emptied(behind, {here: 2})


async def test_a_topic_made_anew_ends_before_what_was_handed_over(kafka: str, bus: KafkaBus, topics: list[str]) -> None:
    here, elsewhere = (topics[0], 0), (topics[1], 0)
    await bus.publisher.publish([*numbered(topics[0], 2), *numbered(topics[1], 2, 0)])
    reader = Reader()
    subscription = bus.subscribe(topics[0], topics, reader.positions)
    async with running(subscription.run(reader.on_batch)):
        await until(lambda: len(reader.records) == 4)
        reader.begin_at({here: 2, elsewhere: 2})
        await delete(kafka, topics[0])
        await bus.create([ConcreteTopic(topics[0], 2, APPEND_TIME)])
        await emptied(subscription, {here: 0})


async def test_a_reader_without_a_group_knows_where_partitions_begin_and_end(
    kafka: str, bus: KafkaBus, topics: list[str]
) -> None:
    emptied, whole = (topics[0], 0), (topics[0], 1)
    await bus.publisher.publish([*numbered(topics[0], 5, 0), *numbered(topics[0], 3, 1)])
    await expire(kafka, {emptied: 5})
    async with LogReader(kafka, topics[:1]) as reader:
        await reader.start()
        assert await reader.begins() == {emptied: 5, whole: 0}
        assert await reader.ends() == {emptied: 5, whole: 3}
        assert [record.offset async for batch in reader.to_end() for record in batch] == [0, 1, 2]


async def test_a_reader_says_where_partitions_go_on_that_lost_what_it_had_not_given(
    kafka: str, bus: KafkaBus, topics: list[str]
) -> None:
    lost, whole = (topics[0], 0), (topics[0], 1)
    await bus.publisher.publish([*numbered(topics[0], 5, 0), *numbered(topics[0], 3, 1)])
    async with LogReader(kafka, topics[:1]) as reader:
        await reader.start({lost: 2})
        assert len([record async for batch in reader.to_end() for record in batch]) == 6
        assert await reader.emptied() == {}
        await expire(kafka, {lost: 5, whole: 3})
        assert (await reader.poll(), await reader.emptied()) == ([], {})
        await reader.start({lost: 2})
        assert [record async for batch in reader.to_end() for record in batch] == []
        assert await reader.emptied() == {lost: 5, whole: 3}
        await bus.publisher.publish(numbered(topics[0], 1, 0, first=5))
        assert [record.offset for record in await reader.poll(timeout_s=5.0)] == [5]
        assert await reader.emptied() == {whole: 3}


async def test_what_goes_from_the_log_while_it_is_in_hand_is_not_lost(
    kafka: str, bus: KafkaBus, topics: list[str]
) -> None:
    here, done = (topics[0], 0), asyncio.Event()

    class Slow(Reader):
        async def on_batch(self, records: Sequence[Record]) -> None:
            await super().on_batch(records)
            await done.wait()

    reader = Slow()
    await bus.publisher.publish(numbered(topics[0], 3))
    subscription = bus.subscribe(topics[0], topics[:1], reader.positions)
    async with running(subscription.run(reader.on_batch)):
        await until(lambda: reader.records)
        await expire(kafka, {here: 3})
        assert await subscription.emptied() == {}
        done.set()
        await bus.publisher.publish(numbered(topics[0], 1, first=3))
        await until(lambda: len(reader.records) == 4)
        assert await subscription.emptied() == {}


async def test_messages_larger_than_a_batch_keep_their_place(bus: KafkaBus, topics: list[str]) -> None:
    large = Message(topics[0], None, bytes(10 << 20), (), 0)
    reader = Reader()
    await bus.publisher.publish([*numbered(topics[0], 2), large, *numbered(topics[0], 2, first=2)])
    async with running(bus.subscribe(topics[0], topics[:1], reader.positions).run(reader.on_batch)):
        await until(lambda: len(reader.records) == 5)
    assert [len(value or b"") for value in reader.values()] == [1, 1, 10 << 20, 1, 1]


async def test_a_message_that_the_topic_cannot_take_is_unavailable(bus: KafkaBus) -> None:
    topic = ConcreteTopic(f"kafka.{uuid4().hex}", 1, {"max.message.bytes": "1000"})
    await bus.create([topic])
    incompressible = b"".join(uuid4().bytes for _ in range(200))
    with pytest.raises(Unavailable, match="MessageSizeTooLarge"):
        await bus.publisher.publish([Message(topic.name, None, incompressible, (), 0)])


async def test_the_broker_stamps_records_with_the_time_it_appended_them(bus: KafkaBus, topics: list[str]) -> None:
    reader, before = Reader(), time.time()
    await bus.publisher.publish(numbered(topics[0], 1))
    async with running(bus.subscribe(topics[0], topics[:1], reader.positions).run(reader.on_batch)):
        await until(lambda: reader.records)
    assert before - 1 < reader.records[0].timestamp / 1000 < time.time() + 1


async def test_a_reader_without_a_group_reads_to_the_end_it_found(kafka: str, bus: KafkaBus, topics: list[str]) -> None:
    await bus.publisher.publish([*numbered(topics[0], 30, 0), *numbered(topics[0], 20, 1)])
    async with LogReader(kafka, topics) as reader:
        await reader.start({(topics[0], 0): 10})
        records = [record async for batch in reader.to_end() for record in batch]
    assert sorted((r.partition, r.offset) for r in records) == [
        *((0, offset) for offset in range(10, 30)),
        *((1, offset) for offset in range(20)),
    ]


async def test_a_reader_that_takes_little_at_once_reads_records_that_are_larger(
    kafka: str, bus: KafkaBus, topics: list[str]
) -> None:
    large = [Message(topics[0], None, b"x" * size, (), 0) for size in (1, 100_000, 1, 300_000, 1)]
    await bus.publisher.publish(large)
    async with LogReader(kafka, topics[:1], 1 << 10) as reader:
        await reader.start()
        found = [record.value async for batch in reader.to_end() for record in batch]
    assert found == [message.value for message in large]


async def test_a_reader_of_an_unknown_topic_says_what_to_do(kafka: str) -> None:
    async with LogReader(kafka, ["kafka.unknown"]) as reader:
        with pytest.raises(Unavailable, match=r"kafka\.unknown does not exist; apply the project"):
            await reader.start()


async def test_the_broker_lists_topics_and_knows_itself(kafka: str, topics: list[str]) -> None:
    assert set(topics) <= set(await topic_names(kafka))
    assert await cluster_id(kafka) == await cluster_id(kafka)


async def test_several_that_create_the_same_topics_at_the_same_moment_all_have_them(kafka: str) -> None:
    for _ in range(5):
        topics = [ConcreteTopic(f"kafka.{uuid4().hex}", 4, {}) for _ in range(8)]
        await asyncio.gather(*(create_topics(kafka, topics) for _ in range(4)))
        assert {topic.name for topic in topics} <= set(await topic_names(kafka))


async def test_a_topic_that_the_broker_refuses_is_unavailable(kafka: str) -> None:
    with pytest.raises(Unavailable, match="InvalidTopic"):
        await create_topics(kafka, [ConcreteTopic("no topic at all", 1, {})])


async def test_a_broker_that_is_away_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await cluster_id(NOWHERE)
    with pytest.raises(Unavailable, match="did not create"):
        await create_topics(NOWHERE, [])
    with pytest.raises(Unavailable, match="does not list"):
        await topic_names(NOWHERE)
    with pytest.raises(Unavailable, match="does not answer"):
        async with LogReader(NOWHERE, []):
            pass


async def test_a_header_whose_name_is_no_text_costs_no_record_of_any_partition(
    kafka: str, bus: KafkaBus, topics: list[str]
) -> None:
    reader, topic = Reader(), topics[0]
    async with running(bus.subscribe("odd", [topic], reader.positions).run(reader.on_batch)):
        for _ in range(5):
            await bus.publisher.publish([*numbered(topic, 20), *numbered(topic, 20, partition=1)])
            await send_odd(kafka, topic, 0, b"odd", None)
        await until(lambda: len(reader.records) >= 210)
    seen = {number: [r.offset for r in reader.records if r.partition == number] for number in (0, 1)}
    assert seen == {0: list(range(110)), 1: list(range(100))}
    odd = [record for record in reader.records if record.value == b"odd"]
    assert [list(record.headers) for record in odd] == [[(TEXT, b"held"), ("empty", None)]] * 5
    async with LogReader(kafka, [topic]) as whole:
        await whole.start()
        assert sum([len(some) async for some in whole.to_end()]) == 210


async def test_what_cannot_be_read_ends_the_reader_before_anything_is_passed_over(
    kafka: str, bus: KafkaBus, topics: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, topic = Reader(), topics[0]
    await bus.publisher.publish([*numbered(topic, 20), *numbered(topic, 20, partition=1)])
    await send_odd(kafka, topic, 1, b"odd")
    monkeypatch.setattr("mainstem.bus.records._AnyNames", lambda _: int("no record"))
    with pytest.raises(Unreadable, match=rf"{topic}/1/20: the batch cannot be read"):
        async with asyncio.timeout(20):
            await bus.subscribe("broken", [topic], reader.positions).run(reader.on_batch)
    handed = {(r.partition, r.offset) for r in reader.records}
    assert all((number, offset - 1) in handed for number, offset in handed if offset)
