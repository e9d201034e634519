"""Administration of the broker: its identity, its topics."""

import asyncio
from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from mainstem.events.errors import Unavailable
from mainstem.events.topics import ConcreteTopic

#: The broker says that a topic exists before it can say how it is.
_KNOWN_S, _POLL_S = 10.0, 0.05


async def cluster_id(bootstrap: str) -> str:
    """Return the id of the cluster; raise Unavailable when it does not answer as a working broker."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=2_000)
    try:
        await client.start()
        cluster = await client.describe_cluster()
    except (KafkaError, OSError) as fault:
        raise Unavailable(f"Kafka at {bootstrap} does not answer: {fault}") from fault
    finally:
        await client.close()
    if not cluster["brokers"]:
        raise Unavailable(f"Kafka at {bootstrap} has no broker yet")
    return str(cluster["cluster_id"])


async def create_topics(bootstrap: str, topics: Sequence[ConcreteTopic], replication: int = 1) -> None:
    """Create the topics that do not exist; raise Unavailable when the broker refuses one.

    Raises Rejected when one exists that will not do; see `ConcreteTopic.accept`.
    """
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await client.start()
        wanted = [NewTopic(t.name, t.partitions, replication, topic_configs=t.config) for t in topics]
        answer = await client.create_topics(wanted)
        there = [name for name, code, *_ in answer.topic_errors if code == TopicAlreadyExistsError.errno]
        found = await _describe(client, there)
    except (KafkaError, OSError) as fault:
        raise Unavailable(f"Kafka at {bootstrap} did not create topics: {fault}") from fault
    finally:
        await client.close()
    for name, code, *message in answer.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise Unavailable(f"Kafka refused topic {name}: {for_code(code).__name__} {message}")
    for topic in topics:
        if topic.name in found:
            topic.accept(found[topic.name])


async def _describe(client: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, ConcreteTopic]:
    """Return the topics as the broker has them."""
    if not names:
        return {}
    partitions = await _partitions(client, names)
    answers = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    return {
        name: ConcreteTopic(name, partitions[name], {setting: value for setting, value, *_ in settings})
        for answer in answers
        for _, _, _, name, settings in answer.resources
    }


async def _partitions(client: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, int]:
    """Return how many partitions topics have; one that somebody creates at this moment is waited for.

    Raises Unavailable when the broker does not know them in time.
    """
    try:
        async with asyncio.timeout(_KNOWN_S):
            while True:
                found = {said["topic"]: len(said["partitions"]) for said in await client.describe_topics(names)}
                if all(found.get(name) for name in names):
                    return found
                await asyncio.sleep(_POLL_S)
    except TimeoutError as fault:
        raise Unavailable(f"Kafka has not told within {_KNOWN_S:g} s what it knows of {', '.join(names)}") from fault


async def topic_names(bootstrap: str) -> list[str]:
    """Return the names of all topics that are not the broker's own."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await client.start()
        names = await client.list_topics()
    except (KafkaError, OSError) as fault:
        raise Unavailable(f"Kafka at {bootstrap} does not list topics: {fault}") from fault
    finally:
        await client.close()
    return sorted(name for name in names if not name.startswith("__"))


async def consumer_groups(bootstrap: str, topics: Sequence[str]) -> dict[str, list[str]]:
    """Return for each topic the names of the consumer groups that have committed an offset in it, sorted.

    Raises Unavailable when the broker does not say.
    """
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    found: dict[str, set[str]] = {topic: set() for topic in topics}
    try:
        await client.start()
        for name, *_ in await client.list_consumer_groups():
            for place in await client.list_consumer_group_offsets(name):
                if place.topic in found:
                    found[place.topic].add(name)
    except (KafkaError, OSError) as fault:
        raise Unavailable(f"Kafka at {bootstrap} does not list consumer groups: {fault}") from fault
    finally:
        await client.close()
    return {topic: sorted(names) for topic, names in found.items()}


async def given_out(bootstrap: str, group: str) -> set[tuple[str, int]] | None:
    """Return the partitions that the members of a consumer group have among them; None while it deals them out.

    Raises Unavailable when the broker does not say.
    """
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await client.start()
        (answer,) = await client.describe_consumer_groups([group])
    except (KafkaError, OSError) as fault:
        raise Unavailable(f"Kafka at {bootstrap} does not describe group {group}: {fault}") from fault
    finally:
        await client.close()
    ((_, _, state, _, _, members, *_),) = answer.groups
    if state != "Stable":
        return None
    theirs = [ConsumerProtocolMemberAssignment.decode(held).assignment for *_, held in members if held]
    return {(topic, part) for found in theirs for topic, parts in found for part in parts}
