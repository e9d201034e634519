"""Proof that a decision is in the log: the ledger's receipt, checked with the keys of log and witness (ADR 13)."""

import asyncio
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Final

from mainstem.events.catalogue import encode
from mainstem.events.envelope import Event
from mainstem.events.errors import Rejected
from mainstem.events.frames import Damaged, unframe
from mainstem.events.ledger import ReceiptIssued
from mainstem.events.record import header
from mainstem.ledger import leaf_hash
from mainstem.ledger.keys import LogKey, WitnessKey
from mainstem.ledger.note import NoteError
from mainstem.ledger.receipt import Receipt
from mainstem.registry.ports import Proved, Store
from mainstem.runtime import Problem
from mainstem.telemetry import logger

#: How long an answer waits for its receipt.
PATIENCE_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.05

_log = logger(__name__)


class Evidence:
    """Waits for receipts of events and checks them."""

    def __init__(self, store: Store, log: LogKey, witness: WitnessKey, patience_s: float = PATIENCE_S) -> None:
        self._store = store
        self._log = log
        self._witness = witness
        self._patience_s = patience_s

    async def prove(self, events: Sequence[Event]) -> list[Proved]:
        """Return proof that all these events are in the log, as soon as there is; see `Prove`."""
        by_id = {event.envelope.id: event for event in events}
        try:
            async with asyncio.timeout(self._patience_s):
                while len(found := await self._found(by_id)) < len(by_id):  # noqa: ASYNC110  # the log knows
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError as fault:
            raise Problem(503, "not_evidenced", self._late(by_id)) from fault
        return [found[event_id] for event_id in by_id]

    async def _found(self, by_id: Mapping[str, Event]) -> dict[str, Proved]:
        async with self._store.transaction() as book:
            receipts = await book.receipts(list(by_id))
        found: dict[str, Proved] = {}
        for fact in receipts:
            try:
                found[fact.event_id] = self.check(fact, by_id[fact.event_id])
            except Rejected as fault:
                _log.error("%s", fault, extra={"action": "receipt_refused", "event_id": fact.event_id})
        return found

    def check(self, fact: ReceiptIssued, event: Event) -> Proved:
        """Return what a receipt proves of an event; raise Rejected when that is nothing."""
        try:
            entry = b64decode(fact.entry, validate=True)
            record, receipt = unframe(entry), Receipt.parse(fact.receipt.encode())
            signed = receipt.verify(leaf_hash(entry), self._log, [self._witness], needed=1)
        except (ValueError, Damaged, NoteError) as fault:
            raise Rejected(f"a receipt of event {fact.event_id} proves nothing: {fault}; see the ledger") from fault
        message = encode(event)
        place = (record.topic, header(record, "ce_id"), record.value)
        if place != (message.topic, event.envelope.id.encode(), message.value):
            raise Rejected(f"a receipt of event {fact.event_id} is of another record; see the ledger")
        return Proved(fact.event_id, receipt.index, signed.size)

    def _late(self, by_id: Mapping[str, Event]) -> str:
        waited = f"no cosigned checkpoint covers it after {self._patience_s:g} s"
        return (
            f"the decision stands as {', '.join(by_id)}, but {waited}: give the same command again, with the same "
            "command_id, to have it acknowledged; `mainstem status` says whether ledger and witness run"
        )
