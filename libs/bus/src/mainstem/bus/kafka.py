"""The bus on Apache Kafka: FastStream as the shell, batches of raw records as the core."""

import asyncio
from collections.abc import Awaitable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from itertools import groupby
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaAckableMessage
from typing_extensions import override

from mainstem.bus.admin import cluster_id, create_topics, given_out
from mainstem.bus.port import OnBatch, Partition, Positions
from mainstem.bus.records import Unreadable, read_every_record
from mainstem.events.envelope import Message
from mainstem.events.errors import Unavailable
from mainstem.events.ids import child_id
from mainstem.events.record import Record
from mainstem.events.topics import LARGEST_SOURCE_MESSAGE, ConcreteTopic

_MAX_RECORDS = 2_000
_POLL_MS = 50
_FETCH_BYTES = 4 << 20
_BATCH_BYTES = 512 << 10
_REQUEST_BYTES = LARGEST_SOURCE_MESSAGE
_COMMIT_EVERY_S = 1.0
_DEAL_S = 1.0
#: So long it takes at most to notice that a topic was made anew.
_METADATA_MS = 10_000
#: What takes longer than this in the client is no matter of its turn on the processor.
_MOMENT_S = 0.25
#: How long a starting process waits for the broker.
_PATIENCE_S = 60.0


class KafkaPublisher:
    """Writes in batches: explicit partitions, one batch a partition, all acknowledgements awaited."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    async def publish(self, messages: Sequence[Message]) -> None:
        """Write all messages and wait for the acknowledgements; see `Publisher.publish`."""
        placed = sorted((m for m in messages if m.partition is not None), key=_place)
        try:
            waiting = [await self._send(message) for message in messages if message.partition is None]
            for (topic, partition), run in groupby(placed, key=_place):
                waiting += await self._send_run(topic, partition, list(run))
            await asyncio.gather(*waiting)
        except KafkaError as fault:
            raise Unavailable(f"Kafka did not take a message: {fault!r}") from fault

    async def _send(self, m: Message) -> Awaitable[Any]:
        return cast("Awaitable[Any]", await self._producer.send(m.topic, m.value, key=m.key, headers=list(m.headers)))

    async def _send_run(self, topic: str, partition: int, run: list[Message]) -> list[Awaitable[Any]]:
        waiting: list[Awaitable[Any]] = []
        batch = self._producer.create_batch()
        for m in run:
            if _added(batch, m):
                continue
            waiting.append(await self._producer.send_batch(batch, topic, partition=partition))
            batch = self._producer.create_batch()
            _added(batch, m)  # whatever its size: an empty batch takes any message
        waiting.append(await self._producer.send_batch(batch, topic, partition=partition))
        return waiting


def _added(batch: Any, m: Message) -> bool:
    return batch.append(key=m.key, value=m.value, timestamp=None, headers=list(m.headers)) is not None


def _place(message: Message) -> tuple[str, int]:
    return message.topic, cast("int", message.partition)


class KafkaSubscription:
    """A FastStream batch subscriber whose batches are pulled by `run`: a fault ends the process, not a log line."""

    def __init__(
        self,
        broker: KafkaBroker,
        bootstrap: str,
        group: str,
        instance: str,
        topics: Sequence[str],
        positions: Positions,
    ) -> None:
        self._bootstrap, self._group, self._topics = bootstrap, group, topics
        self._handover: asyncio.Queue[Sequence[Record] | Unreadable] = asyncio.Queue(1)
        self._handled = asyncio.get_running_loop().create_future()
        self._busy = asyncio.Lock()
        self._assignments = 0
        #: Which of the assignments holds; none between giving one away and taking the next.
        self._assignment: int | None = None
        self._told = False
        #: For each partition that is ours the offset after the last record handed over.
        self._following: dict[Partition, int] = {}
        #: The batch handed over last.
        self._in_hand: Sequence[Record] = ()
        self._committed_at = 0.0
        self._subscriber: Any = broker.subscriber(
            *topics,
            group_id=group,
            # A restarted process takes its partitions back at once instead of waiting for its own ghost to time out.
            group_instance_id=_member(group, instance, topics),
            batch=True,
            max_records=_MAX_RECORDS,
            batch_timeout_ms=_POLL_MS,
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
            listener=_Seek(self, positions),
            parser=self._parse,
            decoder=_as_it_is,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=1_000,
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_wait_ms=_POLL_MS,
        )
        self._subscriber(self._on_message)
        self._poll = self._subscriber.get_msg
        self._watch_polling()

    @property
    def consumer(self) -> AIOKafkaConsumer:
        """Return the client underneath; it exists while `run` runs."""
        return self._subscriber.consumer

    async def run(self, on_batch: OnBatch) -> None:
        """Hand over batches until cancelled; see `Subscription.run`."""
        dealing = asyncio.create_task(self._deal_out())
        try:
            await self._subscriber.start()
            while True:
                records = await self._handover.get()
                if isinstance(records, Unreadable):
                    raise records
                self._following.update({(r.topic, r.partition): r.offset + 1 for r in records})
                await on_batch(records)
                self._handled.set_result(None)
        finally:
            dealing.cancel()
            self._handled.cancel()
            self._following, self._told = {}, False
            self._leave()
            await self._subscriber.stop()

    async def _deal_out(self) -> None:
        """Have partitions dealt out anew once if nobody has some of them.

        Who comes after a killed process is given what that one had, whatever became of the topics meanwhile.
        """
        while not await self._all_given_out():  # noqa: ASYNC110  # the broker knows
            await asyncio.sleep(_DEAL_S)

    async def _all_given_out(self) -> bool:
        with suppress(Unavailable):
            given = await given_out(self._bootstrap, self._group) if self._told else None
            if given is not None:
                parts = {topic: self.consumer.partitions_for_topic(topic) or () for topic in self._topics}
                if {(topic, part) for topic, found in parts.items() for part in found} <= given:
                    return True
                self.consumer._coordinator.request_rejoin()
        return False

    def _leave(self) -> None:
        """Let the client say goodbye to the group: it keeps the place of a member that has a name of its own."""
        if self.consumer is not None and self.consumer._coordinator is not None:
            self.consumer._coordinator._group_instance_id = None

    def assigned(self) -> bool:
        """Tell whether the group has told this process what to read."""
        return self._told

    def lag(self) -> dict[Partition, int]:
        """Return records known to lie ahead, by partition."""
        found = {}
        for place, following in self._following.items():
            tp = TopicPartition(*place)
            end = self.consumer.highwater(tp)
            if end is not None and tp not in self.consumer.paused():
                found[place] = max(0, end - following)
        return found

    def hold_off(self, places: Collection[Partition]) -> None:
        """Pause these partitions and no others; see `Subscription.hold_off`."""
        if not self._following:
            return
        wanted = {TopicPartition(*place) for place in places if place in self._following}
        paused = self.consumer.paused()
        self.consumer.pause(*(wanted - paused))
        self.consumer.resume(*(paused - wanted))

    async def emptied(self) -> dict[Partition, int]:
        """Return where emptied partitions go on; see `Subscription.emptied`.

        The client passes over what is gone; what it has read ahead of us meanwhile is handed over in a moment.
        """
        before = await self._ahead()
        if before:
            await asyncio.sleep(_MOMENT_S)
        after = await self._ahead() if before else {}
        return {place: position for place, position in after.items() if before.get(place) == position}

    async def _ahead(self) -> dict[Partition, int]:
        """Return where the client stands in the partitions that it has read to the end, if not behind what it gave."""
        found = {}
        for tp in [TopicPartition(*place) for place in self._following]:
            with suppress(TimeoutError, KafkaError):  # it looks for its place, or the partition was given away
                async with asyncio.timeout(_MOMENT_S):
                    position = await self.consumer.position(tp)
                if tp in self.consumer.assignment() and position == self.consumer.highwater(tp):
                    found[tp.topic, tp.partition] = position
        known = self._following | {(r.topic, r.partition): r.offset + 1 for r in self._in_hand}
        return {place: position for place, position in found.items() if position != known.get(place, position)}

    def _watch_polling(self) -> None:
        self._subscriber.get_msg = self._polled

    async def _polled(self, consumer: AIOKafkaConsumer) -> Sequence[Record]:
        """Return the next batch; one that cannot be read ends `run`, as others that were read with it are lost."""
        try:
            found: Sequence[Record] = await self._poll(consumer)
        except Unreadable as fault:
            await self._handover.put(fault)
            raise
        return found

    async def _parse(self, records: Sequence[Record]) -> KafkaAckableMessage:
        """Wrap a batch without looking inside: a parser that cannot fail loses nothing."""
        return KafkaAckableMessage(
            raw_message=cast("Any", records),
            body=b"",
            headers={"assignment": self._assignment},
            message_id="batch",
            correlation_id="batch",
            consumer=self._subscriber.consumer,
        )

    async def _on_message(self, message: Any) -> None:
        async with self._busy:
            if self._assignment is None or message.headers["assignment"] != self._assignment:
                return  # polled before the partitions changed hands: what is ours of it is read again
            self._handled = asyncio.get_running_loop().create_future()
            self._in_hand = message.raw_message
            await self._handover.put(message.raw_message)
            await self._handled
            await self._acknowledge()

    async def give_away(self) -> None:
        """Let the batch in flight finish; hand over nothing more until `take` was called."""
        async with self._busy:
            self._following, self._assignment = {}, None

    def take(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Go on with these partitions from these offsets."""
        for tp, offset in offsets.items():
            self.consumer.seek(tp, offset)
        self._following = {(tp.topic, tp.partition): offset for tp, offset in offsets.items()}
        self._in_hand = ()
        self._assignments += 1
        self._assignment, self._told = self._assignments, True

    async def _acknowledge(self) -> None:
        """Tell the broker's group how far we are, now and then: for lag tools only, the truth is in the store."""
        now = asyncio.get_running_loop().time()
        if now - self._committed_at < _COMMIT_EVERY_S:
            return
        self._committed_at = now
        try:
            await self.consumer.commit()
        except KafkaError:
            # The group moved on without us, or its coordinator is away; the stored positions are what counts.
            return


class _Seek(ConsumerRebalanceListener):  # type: ignore[misc]
    """Start each assigned partition where the store says, and let a batch in flight finish before giving one away."""

    def __init__(self, owner: KafkaSubscription, positions: Positions) -> None:
        self._owner = owner
        self._positions = positions

    @override
    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._owner.give_away()

    @override
    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        positions: Mapping[Partition, int] = await self._positions()
        self._owner.take({tp: positions.get((tp.topic, tp.partition), 0) for tp in assigned})


def _member(group: str, instance: str, topics: Sequence[str]) -> str:
    """Return the name of a member of a group.

    Partitions are dealt out in the order of the names, so these begin with a hash: what is left over in each of many
    groups falls to another process. One under the name of another list of topics would get the partitions of that list.
    """
    name = f"{group}-{instance}-{child_id(','.join(sorted(topics)), 'topics')[:8]}"
    return f"{child_id(name, 'member')[:8]}-{name}"


async def _answering(bootstrap: str) -> None:
    """Return when the broker answers; raise Unavailable after `_PATIENCE_S`."""
    deadline = asyncio.get_running_loop().time() + _PATIENCE_S
    while True:
        try:
            await cluster_id(bootstrap)
        except Unavailable:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.2)
        else:
            return


async def _as_it_is(message: object) -> object:
    return message


class KafkaBus:
    """One process's connection to Kafka. Use `async with`; entering raises Unavailable when no broker answers."""

    def __init__(self, bootstrap: str, client: str, instance: str = "0") -> None:
        self._bootstrap = bootstrap
        self._instance = instance
        read_every_record()
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            client_id=client,
            acks="all",
            enable_idempotence=True,
            linger_ms=2,
            max_batch_size=_BATCH_BYTES,
            max_request_size=_REQUEST_BYTES,
            compression_type="zstd",
        )
        self._broker = KafkaBroker(
            bootstrap,
            client_id=client,
            logger=None,
            apply_types=False,
            graceful_timeout=10,
            metadata_max_age_ms=_METADATA_MS,
        )
        self.publisher = KafkaPublisher(self._producer)
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> "KafkaBus":
        await _answering(self._bootstrap)
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self._producer.stop)
            closing.push_async_callback(self._broker.stop)
            try:
                await self._producer.start()
                await self._broker.start()
            except KafkaError as fault:
                raise Unavailable(f"Kafka at {self._bootstrap} does not answer: {fault}") from fault
            self._closing = closing.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._closing.aclose()

    async def create(self, topics: Sequence[ConcreteTopic]) -> None:
        """Create what is missing."""
        await create_topics(self._bootstrap, topics)

    def subscribe(self, group: str, topics: Sequence[str], positions: Positions) -> KafkaSubscription:
        """Return a subscription; see `Bus.subscribe`."""
        return KafkaSubscription(self._broker, self._bootstrap, group, self._instance, topics, positions)
