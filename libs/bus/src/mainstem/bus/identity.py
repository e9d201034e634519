"""Which log this is: the ids of the cluster and of its topics. An offset means something only beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from uuid import UUID

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields
from typing_extensions import override

from mainstem.events.errors import Unavailable

_TEXT = CompactString()
_NO_ID = UUID(int=0)


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """The ids that a cluster and its topics were born with; a topic that was deleted and made anew has another."""

    cluster: str
    #: Id by name of the topic, as a UUID.
    topics: Mapping[str, str]


async def log_identity(bootstrap: str, topics: Sequence[str]) -> LogIdentity:
    """Return the ids of the cluster and of `topics`, as the broker has them now.

    Raises Unavailable for a topic that is not there, and when no broker answers or it is older than Kafka 3.1.
    """
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    try:
        await client.bootstrap()
        answer = await client.send(client.get_random_node(), _Ask(topics))
    except (KafkaError, OSError, NotImplementedError) as fault:
        raise Unavailable(f"Kafka at {bootstrap} does not say which topics it has: {fault!r}") from fault
    finally:
        await client.close()
    return LogIdentity(answer.cluster_id, {name: _id(code, name, found) for code, name, found, *_ in answer.topics})


def _id(code: int, name: str, found: UUID) -> str:
    if code == UnknownTopicOrPartitionError.errno:
        raise Unavailable(f"topic {name} does not exist; apply the project that declares it")
    if found == _NO_ID:
        raise Unavailable(f"Kafka does not know the id of topic {name}: {for_code(code).__name__}; try again")
    return str(found)


class _Uuid(AbstractType):  # type: ignore[misc]  # the client has no types
    @classmethod
    @override
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    @override
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


_BROKER = (("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), ("tags", TaggedFields))
_PARTITION = (
    ("error_code", Int16),
    ("partition", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", CompactArray(Int32)),
    ("isr", CompactArray(Int32)),
    ("offline_replicas", CompactArray(Int32)),
    ("tags", TaggedFields),
)
_TOPIC = (
    ("error_code", Int16),
    ("name", _TEXT),
    ("topic_id", _Uuid),
    ("is_internal", Boolean),
    ("partitions", CompactArray(*_PARTITION)),
    ("authorized_operations", Int32),
    ("tags", TaggedFields),
)


class _Answer(Response):  # type: ignore[misc]
    """Metadata, version 12. The client knows versions up to 5, and ids came with 10."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(*_BROKER)),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        ("topics", CompactArray(*_TOPIC)),
        ("tags", TaggedFields),
    )


class _Question(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _TEXT), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Ask(Request[_Question]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = topics

    @override
    def build(self, request_struct_class: type[_Question]) -> _Question:
        no_tags: dict[int, bytes] = {}
        topics = [(_NO_ID, name, no_tags) for name in self._topics]
        return request_struct_class(topics, False, False, no_tags)
