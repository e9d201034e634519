"""A topic that was deleted and made anew is another log, however many records it has by now."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from libs.bus.tests.bus_expiry import delete
from services.features.tests.features_history import ANNOUNCED, Process

from mainstem.bus.identity import log_identity
from mainstem.bus.kafka import KafkaBus
from mainstem.events.errors import Unavailable
from mainstem.events.topics import ConcreteTopic
from mainstem.features.gaps import guarded, recognise_again
from mainstem.fold.gap import Gap
from mainstem.runtime import steadily

pytestmark = pytest.mark.real

TOPICS = ("evt.data.orders", "evt.data.payments")


@pytest.fixture
async def bus(kafka: str) -> AsyncIterator[KafkaBus]:
    async with KafkaBus(kafka, f"test-{uuid4().hex}") as bus:
        await bus.create([ConcreteTopic(topic, 2, {}) for topic in TOPICS])
        yield bus
    for topic in TOPICS:
        await delete(kafka, topic)


async def make_anew(kafka: str, bus: KafkaBus, topic: str) -> None:
    await delete(kafka, topic)
    await bus.create([ConcreteTopic(topic, 2, {})])
    async with asyncio.timeout(15):
        await steadily(lambda: log_identity(kafka, [topic]))  # made, and not known to the broker yet


async def test_a_topic_made_anew_stops_the_set_and_one_that_was_not_read_does_not(kafka: str, bus: KafkaBus) -> None:
    process = Process(ANNOUNCED)
    await process.computing.recognise(kafka, process.store)
    await make_anew(kafka, bus, TOPICS[1])
    await process.computing.recognise(kafka, process.store)
    await process.finish()
    await process.computing.recognise(kafka, process.store)
    await make_anew(kafka, bus, TOPICS[1])
    due = process.fold.due(TOPICS[1], 0)
    with pytest.raises(Gap, match=rf"^evt\.data\.payments/0 goes on at offset 0, {due} is due: .* made anew"):
        await process.computing.recognise(kafka, process.store)
    process.restart()
    with pytest.raises(ExceptionGroup) as stopped:
        async with guarded(process.computing, kafka, process.store):
            pytest.fail("it was begun")
    assert stopped.group_contains(Gap)


async def test_a_topic_made_anew_while_all_that_was_read_of_it_waits_stops_the_set(kafka: str, bus: KafkaBus) -> None:
    process = Process(ANNOUNCED)
    for part in (0, 1):
        await process.poll((TOPICS[1], part), 1_000)
    assert process.fold.held > 0
    assert process.fold.due(TOPICS[1], 0) == process.fold.due(TOPICS[1], 1) == 0
    await process.computing.recognise(kafka, process.store)
    await make_anew(kafka, bus, TOPICS[1])
    with pytest.raises(Gap, match=r"^evt\.data\.payments/0 goes on at offset 0, 0 is due: .* made anew"):
        await process.computing.recognise(kafka, process.store)
    process.restart()
    assert process.fold.held == 0
    with pytest.raises(Gap, match="made anew"):
        await process.computing.recognise(kafka, process.store)


async def test_a_topic_that_is_gone_is_waited_for_by_name(kafka: str, bus: KafkaBus) -> None:
    process = Process(ANNOUNCED)
    await delete(kafka, TOPICS[0])
    with pytest.raises(Unavailable, match=r"topic evt\.data\.orders does not exist; apply the project"):
        await process.computing.recognise(kafka, process.store)


async def test_what_was_published_before_a_gap_is_stored(
    kafka: str, bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainstem.features.gaps._RECOGNISE_EVERY_S", 0.01)
    process = Process(ANNOUNCED)
    for place in ANNOUNCED:
        await process.poll(place, 1_000)
    await process.computing.recognise(kafka, process.store)
    assert process.store.states == {}
    with pytest.raises(ExceptionGroup) as stopped:
        async with guarded(process.computing, kafka, process.store), asyncio.TaskGroup() as group:
            group.create_task(recognise_again(process.computing, kafka, process.store))
            await make_anew(kafka, bus, TOPICS[0])
    assert stopped.group_contains(Gap)
    rows = process.fold.rows
    process.restart()
    assert process.fold.rows == rows > 0
