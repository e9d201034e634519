"""What a cluster and its topics are called, whatever their names are."""

from uuid import UUID, uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from mainstem.bus.admin import cluster_id, create_topics, topic_names
from mainstem.bus.identity import log_identity
from mainstem.events.errors import Unavailable
from mainstem.events.topics import ConcreteTopic
from mainstem.runtime import steadily

pytestmark = pytest.mark.real


@pytest.fixture
async def topic(kafka: str) -> str:
    name = f"identity.{uuid4().hex}"
    await create_topics(kafka, [ConcreteTopic(name, 2, {})])
    return name


async def remake(kafka: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.delete_topics([topic])
    await admin.close()
    await create_topics(kafka, [ConcreteTopic(topic, 2, {})])


async def test_a_topic_keeps_its_id(kafka: str, topic: str) -> None:
    found = await log_identity(kafka, [topic])
    assert found == await log_identity(kafka, [topic])
    assert UUID(found.topics[topic]).version == 4


async def test_the_cluster_is_the_one_that_the_broker_describes(kafka: str, topic: str) -> None:
    assert (await log_identity(kafka, [topic])).cluster == await cluster_id(kafka)


async def test_each_topic_has_an_id_of_its_own(kafka: str, topic: str) -> None:
    other = f"identity.{uuid4().hex}"
    await create_topics(kafka, [ConcreteTopic(other, 1, {})])
    found = await log_identity(kafka, [topic, other])
    assert len(set(found.topics.values())) == 2


async def test_a_topic_that_is_made_anew_under_its_name_has_another_id(kafka: str, topic: str) -> None:
    before = await log_identity(kafka, [topic])
    await remake(kafka, topic)
    after = await steadily(lambda: log_identity(kafka, [topic]))  # the news of it travels
    assert (before.cluster, before.topics.keys()) == (after.cluster, after.topics.keys())
    assert before.topics != after.topics


async def test_asking_for_a_topic_that_is_not_there_does_not_make_it(kafka: str) -> None:
    with pytest.raises(Unavailable, match=r"identity\.none does not exist; apply the project"):
        await log_identity(kafka, ["identity.none"])
    assert "identity.none" not in await topic_names(kafka)


async def test_a_broker_that_is_away_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9 does not say"):
        await log_identity("127.0.0.1:9", ["any"])
