"""How the tables of each service come from the log, by the code of the service itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

from mainstem.audit.entries import named
from mainstem.cli.local import graph
from mainstem.events.catalogue import decode
from mainstem.events.envelope import Event
from mainstem.events.errors import Rejected, Undecodable
from mainstem.ledger_service.domain import Placed
from mainstem.storage import Transaction


class LeftOut(NamedTuple):
    """An entry that a service's tables do not depend on, though its topic does: it was parked when it came."""

    service: str
    where: str
    why: str


@dataclass(frozen=True, slots=True)
class Folding:
    """How the tables of one service come from the log: what its `store` module exports."""

    service: str
    package: str
    store: ModuleType

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that are folds of the log."""
        return tuple(self.store.PROJECTIONS)

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics they fold; `prefix*` is a family."""
        return tuple(self.store.TOPICS)

    def reads(self, topic: str) -> bool:
        """Tell whether the tables depend on a topic."""
        return reads(self.topics, topic)

    async def fold(self, tx: Transaction, entries: Sequence[Placed]) -> list[LeftOut]:
        """Fold entries in their order; what is no event was parked by the service and is left out here too."""
        if hasattr(self.store, "apply_records"):
            try:
                async with tx.savepoint():
                    await self.store.apply_records(tx, [placed.entry for placed in entries])
            except Rejected:
                pass  # one after the other, then
            else:
                return []
        left_out: list[LeftOut] = []
        for placed, event in self._events(entries, left_out):
            try:
                async with tx.savepoint():
                    await self._apply(tx, placed, event)
            except Rejected as fault:
                left_out.append(LeftOut(self.service, named(*placed), str(fault)))
        return left_out

    async def _apply(self, tx: Transaction, placed: Placed, event: Event) -> None:
        if hasattr(self.store, "apply_records"):
            await self.store.apply_records(tx, [placed.entry])
        else:
            await self.store.apply(tx, event)

    def _events(self, entries: Sequence[Placed], left_out: list[LeftOut]) -> Iterator[tuple[Placed, Event]]:
        """Yield the events among entries; note the others."""
        for placed in entries:
            try:
                event = decode(placed.entry)
            except Undecodable as fault:
                left_out.append(LeftOut(self.service, named(*placed), str(fault)))
            else:
                yield placed, event


def reads(topics: Sequence[str], topic: str) -> bool:
    """Tell whether a topic is one of these; `prefix*` is a family."""
    return any(topic.startswith(each[:-1]) if each.endswith("*") else topic == each for each in topics)


def foldings() -> Iterator[Folding]:
    """Yield every service whose tables are folds of the log."""
    for service in graph.SERVICES.values():
        name = f"mainstem.{service.package}.store"
        store = import_module(name) if find_spec(name) else None
        if store is not None and hasattr(store, "PROJECTIONS"):
            yield Folding(service.name, f"mainstem.{service.package}", store)
