"""A small log for the standing check: who paid and who ordered, the order in which it was applied, and the rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from mainstem.events.data import ProgressReached, RecordAccepted
from mainstem.events.envelope import Envelope, Event
from mainstem.events.fact import Fact
from mainstem.events.features import OrderJournalled, RowComputed, VectorsChecked
from mainstem.events.instants import parse, render
from mainstem.features.check.checker import Checker, Subject
from mainstem.features.check.log import Choice
from mainstem.features.ports import Since
from mainstem.testkit.clock import MINUTE
from mainstem.testkit.projects import shop
from mainstem.testkit.records import Taken

SECOND = 1_000_000
SET = shop().feature_sets["buying"]
SUBJECT = Subject("buying", SET.id, SET.spec, 1, Choice(1.0))
ROWS, JOURNAL = "evt.feature.buying", "evt.feature.journal"
ORDERS, PAYMENTS = "evt.data.orders", "evt.data.payments"

Values = Sequence[float | None]


def event(fact: Fact, name: str, origin: str, at_us: int, happened_us: int | None = None) -> Event:
    """Return an event of the story."""
    time_us = at_us if happened_us is None else happened_us
    envelope = Envelope(name, fact.TYPE, "/test", fact.key, time_us, at_us, "story", "cause", "/test", origin=origin)
    return Event(envelope, fact)


@dataclass
class Story:
    """A log that grows: say what happens, close an entry of the journal, and let a checker read it."""

    partition: int = 0
    records: list[Taken] = field(default_factory=list)
    definition: str = SET.id
    _ends: dict[str, int] = field(default_factory=dict)
    _runs: list[tuple[str, int]] = field(default_factory=list)
    _applied: int = 0
    _entries: int = 0

    @property
    def origin(self) -> str:
        """Return what the origins of the set's events begin with."""
        return f"features@{self.definition[7:19]}"

    def paid(self, at_us: int, paid: float | None, shop: str = "s") -> Taken:
        """Say that a shop was paid; it is known a second later."""
        return self._accepted("payments", at_us, {"shop": shop, "paid": paid})

    def ordered(self, at_us: int, amount: float, values: Values | None, shop: str = "s") -> Taken:
        """Say that something was ordered, and publish its row unless there are no values."""
        record = self._accepted("orders", at_us, {"shop": shop, "amount": amount})
        if values is not None:
            self.row(record, values)
        return record

    def row(self, record: Taken, values: Values, **of: object) -> Taken:
        """Publish a row of an order."""
        headers = dict(record.headers)
        fact = RowComputed(
            feature_set="buying",
            definition=self.definition,
            entity="s",
            spine_id=headers["ce_id"].decode(),
            values=list(values),
        )
        return self.add(
            ROWS, event(fact.model_copy(update=of), "row", f"{self.origin}/{headers['ce_origin'].decode()}", 0)
        )

    def close(self, until_us: int, **of: object) -> Taken:
        """Close an entry of the journal, and announce it behind the rows."""
        topics = sorted({topic for topic, _ in self._runs})
        fact = OrderJournalled(
            feature_set="buying",
            definition=self.definition,
            number=self._entries,
            until=render(until_us),
            applied=self._applied,
            topics=topics,
            runs=[(topics.index(topic), self.partition, number, number) for topic, number in self._runs],
        )
        fact = fact.model_copy(update=of)
        origin = self.origin
        entry = self.add(JOURNAL, event(fact, f"entry {self._entries}", f"{origin}/{self._entries}", until_us))
        marker = event(ProgressReached(until=render(until_us)), "m", f"{origin}#progress/{self._entries}", until_us)
        if fact.complete:
            self.add(ROWS, marker)
        self._entries, self._runs = self._entries + 1, []
        return entry

    def again(self, record: Taken, **other: object) -> Taken:
        """Append a second copy of a record, with something about it changed."""
        copy = replace(record, offset=self._end(record.topic), **other)  # type: ignore[arg-type]
        self.records.append(copy)
        return copy

    def add(self, topic: str, said: Event) -> Taken:
        """Append an event to a topic."""
        value = said.fact.model_dump_json(exclude={"replaces"}).encode()
        taken = Taken(topic, 0, self._end(topic), value, b"s", said.envelope.headers())
        self.records.append(taken)
        return taken

    def of(self, topic: str) -> list[Taken]:
        """Return the records of a topic."""
        return [record for record in self.records if record.topic == topic]

    def _accepted(self, source: str, at_us: int, said: dict[str, object]) -> Taken:
        topic = f"evt.data.{source}"
        number = self._ends.get(topic, 0)
        self._runs.append((f"src.{source}", number))
        self._applied += 1
        fact = RecordAccepted(source=source, contract="c", record=said)
        origin = f"src.{source}/{self.partition}/{number}"
        return self.add(topic, event(fact, f"{source}-{number}", origin, at_us + SECOND, at_us))

    def _end(self, topic: str) -> int:
        end = self._ends.get(topic, 0)
        self._ends[topic] = end + 1
        return end


def shopping(wrong: Values | None = None) -> Story:
    """Tell of two payments and two orders of one shop; `wrong` takes the place of the second order's row."""
    story = Story()
    story.paid(1 * MINUTE, 10.0)
    story.ordered(2 * MINUTE, 5.0, [5.0, 0.0, 10.0, 10.0])
    story.paid(3 * MINUTE, 2.5)
    story.ordered(4 * MINUTE, 7.0, wrong or [7.0, 1.0, 12.5, 2.5])
    story.close(5 * MINUTE)
    return story


def checked(records: Iterable[Taken], subject: Subject = SUBJECT) -> tuple[Checker, list[VectorsChecked]]:
    """Let a checker read everything at once; return it and what it told."""
    checker = Checker(subject)
    checker.take(list(records))
    return checker, told(checker)


def told(checker: Checker) -> list[VectorsChecked]:
    """Do the work that is there, and return what was told."""
    facts = [event.fact for event in checker.work() if event is not None]
    return [fact for fact in facts if isinstance(fact, VectorsChecked)]


class Kept:
    """Checks in memory."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def last_check(self, definition: str) -> Since:
        """Return how far the last one tells."""
        facts = [event.fact for event in self.events if isinstance(event.fact, VectorsChecked)]
        return Since(facts[-1].number, facts[-1].entry, parse(facts[-1].until)) if facts else Since()

    async def add_check(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)
