"""One transaction: what was read is fenced, what is decided is appended, all of it or nothing."""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import LiteralString

import asyncpg

from mainstem.events.catalogue import BY_TYPE, encode
from mainstem.events.envelope import Event, Message, read_envelope
from mainstem.events.errors import Rejected
from mainstem.events.fence import Fence, Position
from mainstem.events.record import Record, header
from mainstem.storage.queries import load

#: No event has more: a topic of ours takes twice as much, headers and compression aside.
MAX_EVENT_BYTES = 1 << 20

#: The relay's header: the log keeps an event without it.
_ORIGIN = "ce_origin"

SQL = load("mainstem.storage", "sql/platform.sql")


class Transaction:
    """A transaction of `Database.transaction`; its methods may be used until the block ends."""

    def __init__(self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> None:
        self.connection = connection
        self._fence: Fence | None = None
        self._appended = False
        #: Called in order once the transaction is committed; never when it is rolled back.
        self.after_commit: list[Callable[[], None]] = []

    async def admit(self, records: Sequence[Record]) -> list[Record]:
        """Return the records that were not applied yet; their positions move when the transaction commits."""
        places = sorted({(r.topic, r.partition) for r in records})
        rows = await self.connection.fetch(SQL["lock_positions"], [p[0] for p in places], [p[1] for p in places])
        self._fence = Fence({(r["topic"], r["part"]): Position(r["next_offset"], r["origins"]) for r in rows})
        return self._fence.admit(records)[0]

    async def append(self, events: Sequence[Event]) -> None:
        """Append events to the log and the outbox. One that is there already (same id) is left as it is.

        Raises Rejected for an event that no topic would take.
        """
        for event in events:
            if await self.connection.fetchval(SQL["has_event"], event.envelope.id):
                continue
            message = encode(event)
            _check_size(event, message)
            await self.connection.execute(
                SQL["append_event"],
                event.envelope.id,
                f"{message.topic}:{event.fact.key}",
                message.topic,
                message.key,
                [[name, value.decode()] for name, value in message.headers],
                message.value,
            )
            self._appended = True

    async def recall(self, published: Record) -> None:
        """Take a record for an event that was appended here and published; those of one stream come in their order."""
        headers = [[name, (value or b"").decode()] for name, value in published.headers if name != _ORIGIN]
        key = published.key or b""
        await self.connection.execute(
            SQL["recall_event"],
            (header(published, "ce_id") or b"").decode(),
            f"{published.topic}:{key.decode()}",
            published.topic,
            key,
            headers,
            published.value or b"",
        )

    async def find(self, event_id: str) -> Event | None:
        """Return the event of this id if it was appended here, else None."""
        row = await self.connection.fetchrow(SQL["find_event"], event_id)
        if row is None:
            return None
        envelope = read_envelope(tuple((name, value.encode()) for name, value in row["headers"]))
        return Event(envelope, BY_TYPE[envelope.type].model_validate_json(row["payload"]))

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo what was written inside, and nothing else, when the block raises.

        What PostgreSQL cannot keep, a text with U+0000 or too long for its index, is raised as Rejected.
        """
        waiting = len(self.after_commit)
        try:
            async with self.connection.transaction():
                yield
        except BaseException as fault:  # of whatever kind, a cancellation too: raised again
            del self.after_commit[waiting:]
            if isinstance(fault, asyncpg.DataError | asyncpg.ProgramLimitExceededError):
                raise Rejected(f"PostgreSQL cannot keep this: {fault}") from fault
            raise

    async def park(self, record: Record, reason: str, taker: str = "") -> None:
        """Keep a record that cannot be taken, with the reason, and let the next ones pass.

        Where several read the same record, `taker` says which of them cannot: each keeps its reason, once.
        """
        pairs = ((name, (value or b"").decode(errors="replace")) for name, value in record.headers)
        headers = [[_storable(name), _storable(value)] for name, value in pairs]
        place = record.topic, record.partition, record.offset
        await self.connection.execute(SQL["park"], *place, _storable(reason), headers, record.value, taker)

    async def save_positions(
        self, positions: Mapping[tuple[str, int], Position], states: Mapping[tuple[str, int], bytes] | None = None
    ) -> bool:
        """Store how far partitions were applied, and with them the state that belongs to exactly there.

        Return False when all of it was there already: a commit that nobody heard of did happen.
        """
        places = sorted(positions)
        changed = await self.connection.fetch(
            SQL["save_positions"],
            [p[0] for p in places],
            [p[1] for p in places],
            [positions[p].next_offset for p in places],
            [json.dumps(positions[p].origins) for p in places],
            [(states or {}).get(p) for p in places],
        )
        return bool(changed)

    async def save_snapshot(self, name: str, state: bytes) -> bool:
        """Store a state under a name, in place of the one before; return False when it was there already."""
        return bool(await self.connection.fetch(SQL["save_snapshot"], name, state))

    async def fetch(self, query: LiteralString, *arguments: object) -> list[asyncpg.Record]:
        """Return the rows of a query."""
        return await self.connection.fetch(query, *arguments)

    async def execute(self, query: LiteralString, *arguments: object) -> None:
        """Run a statement."""
        await self.connection.execute(query, *arguments)

    async def finish(self) -> None:
        """Store the positions of what was admitted; called when the block ends well."""
        if self._fence is not None:
            await self.save_positions(self._fence.positions)
        if self._appended:
            await self.connection.execute("notify outbox")


def _check_size(event: Event, message: Message) -> None:
    size = len(message.value or b"") + sum(len(value) for _, value in message.headers)
    if size > MAX_EVENT_BYTES:
        raise Rejected(f"the event {event.envelope.type} has {size} bytes, at most {MAX_EVENT_BYTES}; say less")


def _storable(text: str) -> str:
    """Return the text without what PostgreSQL cannot keep in one."""
    return text.replace("\0", "\ufffd")
