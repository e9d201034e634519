"""Whoever writes what is no event onto the platform's own topics stops no service, and what stands around it passes."""

import json
import os
from collections.abc import Sequence

import pytest
from aiokafka.structs import ConsumerRecord
from libs.bus.tests.odd_headers import send_odd
from tests.system.keeper import good
from tests.system.spring import MODEL, Spring
from tests.system.world import Sent, World, fact

pytestmark = pytest.mark.real

#: Too long for the index of any table, however it is packed.
LONG = os.urandom(200_000).hex().encode()
TOPICS = (
    "evt.data.gauge",
    "evt.data.inspected",
    "evt.data.quarantine",
    "evt.feature.water",
    "evt.feature.strain",
    "evt.feature.journal",
    "evt.feature.check",
    "evt.feature.read",
    "evt.training.run",
    "evt.registry.project",
    "evt.registry.model",
    "state.deployment",
    "evt.serving.deployment",
    f"tel.prediction.{MODEL}",
    "evt.monitoring.window",
    "evt.monitoring.alert",
    "evt.ledger.checkpoint",
)


def renamed(record: ConsumerRecord, name: str, value: bytes | None) -> Sent:
    """Return the record with one header changed, or left out."""
    headers = [(given, held if given != name else value) for given, held in record.headers]
    return Sent(record.value, record.key, [pair for pair in headers if pair[1] is not None])


def junk(found: Sequence[ConsumerRecord]) -> list[Sent]:
    """Return what is no event, and distorted copies of one that stands in the topic, if one does."""
    distorted = [
        copy
        for record in found[:1]
        for copy in (
            *(renamed(record, "ce_origin", origin) for origin in (None, b"x/abc", b"\xff/1", b"x/" + b"9" * 30)),
            *(renamed(record, name, b"\xff\xfe") for name in ("ce_id", "ce_type", "ce_time", "ce_recordedtime")),
            *(unseen(record, identity) for identity in (b"\xff\xfe", b"a\x00b", LONG)),
            *(renamed(record, name, None) for name in ("ce_id", "ce_type", "ce_time", "ce_recordedtime")),
            Sent((record.value or b"")[:-3], record.key, unplaced(record)),
            Sent(b"{}", record.key, unplaced(record)),
            Sent(None, b"north", unplaced(record)),
            *(
                Sent(json.dumps(fact(record) | {name: wrong}).encode(), record.key, unplaced(record))
                for name in fact(record)
                for wrong in ({"nonsense": 1}, "x\0y")
            ),
        )
    ]
    undated = Sent(b"{}", b"north", [("ce_recordedtime", b"yesterday")])
    return [undated, Sent(b"{"), Sent(b"{}", b"\xff", [("ce_specversion", b"1.0")]), *distorted]


def unseen(record: ConsumerRecord, identity: bytes) -> Sent:
    """Return the event once more, as another one of nobody's."""
    given = {**dict(record.headers), "ce_id": identity, "ce_origin": b"x/abc"}
    return Sent(record.value, record.key, tuple(given.items()))


def unplaced(record: ConsumerRecord) -> list[tuple[str, bytes]]:
    """Return the headers without the origin, by which a second copy would be known and dropped."""
    return [(name, value) for name, value in record.headers if name != "ce_origin"]


@pytest.mark.parametrize("topic", TOPICS)
async def test_junk_on_a_topic_of_the_platform_stops_nobody(world: World, spring: Spring, topic: str) -> None:
    async with world.unharmed():
        await good(world)
        follower = await world.follow(topic)
        there = await world.send(topic, *junk(await follower.all()))
        await send_odd(world.env["MAINSTEM_KAFKA"], topic, 0, b"{}", None)
        await world.until(lambda: archived(world, topic, len(there) + 2))
        await world.accepted("gauge", await good(world))
        answer = await spring.ask(id=f"after junk on {topic}", parameters={"entity": f"after junk on {topic}"})
        assert answer.status_code == 200
        await spring.prediction(channel="http", entity=f"after junk on {topic}")


async def test_a_header_whose_name_is_no_text_costs_a_source_nothing(world: World) -> None:
    async with world.unharmed():
        follower = await world.follow("src.gauge")
        before = len(await follower.all())
        for partition in (0, 1):
            await send_odd(world.env["MAINSTEM_KAFKA"], "src.gauge", partition, b"{}", None)
        await world.accepted("gauge", await good(world))
        await world.until(lambda: archived(world, "src.gauge", 0))
        assert len(await follower.all()) > before + 4


async def archived(world: World, topic: str, sent: int) -> bool:
    """Tell whether the ledger holds the topic, junk and all."""
    topics = (await world.get("ledger", "/v1/ledger")).json()["topics"]
    held = {one["topic"]: one["entries"] + one["second_copies"] for one in topics}
    return bool(held.get(topic, 0) >= len((await world.follow(topic)).records) + sent)


async def test_afterwards_the_archive_holds_junk_and_all(world: World) -> None:
    done = await world.run("audit", "verify")
    assert (done.returncode, "holds" in done.stdout) == (0, True), done.stdout
