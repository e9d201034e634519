"""Values read without an event: answered from the folds of this process, each answer on record before it is given."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import msgspec
import numpy as np

from mainstem.bus import Publisher, Subscription
from mainstem.events.catalogue import encode
from mainstem.events.envelope import Event, begin
from mainstem.events.errors import Unavailable
from mainstem.events.features import ValuesRead
from mainstem.events.instants import parse, render
from mainstem.events.topics import TOPICS
from mainstem.feature_engine import FIRST_INSTANT, LAST_INSTANT
from mainstem.feature_engine.batch import Values
from mainstem.features.ports import Partition
from mainstem.features.rows import SOURCE
from mainstem.fold.fold import Fold
from mainstem.project.columns import Column
from mainstem.project.contract import SourceContract
from mainstem.runtime import Problem

Entity = Mapping[str, object]

#: So long a batch may take, and so long the broker to acknowledge that something was read.
PATIENCE_S: Final = 10
#: What the topic takes, less what stands around the payload.
_LARGEST: Final = next(topic.max_message_bytes for topic in TOPICS if topic.pattern == ValuesRead.TOPIC) - 4_096


@dataclass(frozen=True, slots=True)
class _Live:
    """A feature set that this process computes."""

    fold: Fold
    spine: SourceContract
    subscription: Subscription
    between_batches: asyncio.Lock


@dataclass(frozen=True, slots=True)
class _Silent:
    """A feature set that no process answers: its identity, and why."""

    definition: str
    reason: str
    state: str = "stopped"
    #: How far it was when it came to stand still, as it was listed; nothing where that is not known.
    stood: Mapping[str, object] = field(default_factory=dict)


#: What is known of a set that is shared out, by whom.
_SHARED_OUT: Final = (
    "each process has a part of it: late records are logged, counted and parked, "
    "how many there were in all is not known, nor how many values out of range"
)


@dataclass(frozen=True, slots=True)
class Question:
    """Which values are asked for; `at_us` None is the newest arrival applied."""

    feature_set: str
    at_us: int | None
    entities: Sequence[Entity]
    asked_by: str


class Answers:
    """Answers reads of the feature sets that are computed here, from where each fold stands between two batches.

    Promise: an answer follows from the first `applied` records of the order in the journal, and was acknowledged by the
    log, as a ValuesRead, before it is given.
    """

    def __init__(self, publisher: Publisher, patience_s: float = PATIENCE_S) -> None:
        self._publisher = publisher
        self._patience_s = patience_s
        self._live: dict[str, _Live] = {}
        self._silent: dict[str, _Silent] = {}
        #: How far each set was when reads of it were answered last.
        self._stood: dict[str, dict[str, object]] = {}
        # A stream that no other process continues, so that it never begins again at zero (ADR 1).
        self._origin = f"features@{uuid4().hex}#read"
        self._number = 0
        self._one_at_a_time = asyncio.Lock()

    @contextmanager
    def of(
        self, fold: Fold, spine: SourceContract, subscription: Subscription, between_batches: asyncio.Lock
    ) -> Iterator[None]:
        """Answer reads of a feature set for as long as the block runs."""
        label = fold.compiled.label
        self._live[label] = _Live(fold, spine, subscription, between_batches)
        try:
            yield
        finally:
            self._stood[label] = _known(self._live.pop(label).fold)

    @contextmanager
    def none_of(self, label: str, definition: str) -> Iterator[None]:
        """Refuse reads of a set that is shared out for as long as the block runs: no process has all its values."""
        with self._not(label, _Silent(definition, _SHARED_OUT, "shared out")):
            yield

    @contextmanager
    def stopped(self, label: str, definition: str, reason: str) -> Iterator[None]:
        """Refuse reads of a set that stands still for as long as the block runs; say why, and how far it was."""
        stood = self._stood.get(label, {})
        known = stood if stood.get("definition") == definition else {}
        with self._not(label, _Silent(definition, reason, stood=known)):
            yield

    @contextmanager
    def _not(self, label: str, why: _Silent) -> Iterator[None]:
        self._silent[label] = why
        try:
            yield
        finally:
            del self._silent[label]

    def sets(self) -> list[dict[str, object]]:
        """Return how far each feature set is, what it left out, and why where that is not known.

        Of a set that stands still it is what was known when it stopped, but how far it is behind and what it waits for.
        `held` counts records read that wait for others which may come before them, from the partitions in `waits_for`.
        `late` counts records by stream, `out_of_range` values by `stream.column` where there were some, and
        `begins_at` has by partition the first offset where the records before were gone.
        """
        found = {label: _standing(live) for label, live in self._live.items()}
        found |= {label: _silent(label, why) for label, why in self._silent.items()}
        return [found[label] for label in sorted(found)]

    def identity(self, label: str) -> str:
        """Return the identity of the set of a label; raise Problem when there is none here."""
        if label in self._silent:
            return self._silent[label].definition
        return self._computed(label).fold.compiled.id

    async def read(self, question: Question) -> dict[str, object]:
        """Return the values with the position at which they were read, from which the log gives them again.

        Raises Problem for what cannot be answered, and Unavailable when the set is busy for long, or the log does not
        take the record of the answer.
        """
        live = self._computed(question.feature_set)
        try:
            async with asyncio.timeout(self._patience_s), live.between_batches:
                fact, position = _look(live, question), _position(live.fold)
                reached = live.fold.reached
        except TimeoutError as fault:
            raise Unavailable(f"{question.feature_set} has been busy with a batch for {self._patience_s} s") from fault
        await self._record(fact, parse(fact.at) if reached is None else reached)
        return {
            **fact.model_dump(include={"feature_set", "definition", "at"}),
            "position": position,
            "names": list(live.fold.compiled.names),
            "values": fact.values,
        }

    def _computed(self, label: str) -> _Live:
        """Return the set of a label; raise Problem, with the reason, when it is not computed here."""
        silent = self._silent.get(label)
        if silent is not None and silent.state == "stopped":
            raise Problem(503, "stopped", f"feature set {label!r} stands still: {silent.reason}")
        if silent is not None:
            detail = f"feature set {label!r} is shared out, so no process has all its values"
            raise Problem(501, "shared_out", f"{detail}; take its rows, or `mainstem feature backfill`")
        if label not in self._live:
            there = ", ".join(sorted(self._live)) or "none yet: a project must be applied, and its sets loaded"
            detail = f"no feature set {label!r} is computed here; there are: {there}"
            raise Problem(404, "unknown_feature_set", detail)
        return self._live[label]

    async def _record(self, fact: ValuesRead, recorded_us: int) -> None:
        """Publish that values were read; one after the other, so that their numbers rise in the log."""
        event = begin(fact, command_id=uuid4().hex, source=SOURCE, actor=fact.asked_by, recorded_us=recorded_us)
        try:
            async with asyncio.timeout(self._patience_s), self._one_at_a_time:
                await self._publish(event, entities=len(fact.values))
        except TimeoutError as fault:
            waited = f"Kafka did not acknowledge within {self._patience_s} s that values were read"
            raise Unavailable(f"{waited}, so they are not given") from fault

    async def _publish(self, event: Event, entities: int) -> None:
        message = encode(event.at_origin(f"{self._origin}/{self._number}"))
        if len(message.value or b"") > _LARGEST:
            asked = f"the values of {entities} entities take more than {_LARGEST} bytes"
            raise Problem(413, "too_large", f"{asked}, which no event can carry; ask for them in parts")
        self._number += 1
        await self._publisher.publish([message])


def _look(live: _Live, question: Question) -> ValuesRead:
    """Return what is read, as the event that tells of it."""
    fold, at_us = live.fold, _moment(live.fold, question.at_us)
    given = _given(live, question.entities)
    columns = _columns(live, given, len(question.entities))
    values = fold.read(columns, np.full(len(question.entities), at_us, np.int64))
    return ValuesRead(
        feature_set=fold.compiled.label,
        definition=fold.compiled.id,
        at=render(at_us),
        applied=fold.applied,
        columns=given,
        values=[[None if np.isnan(value) else float(value) for value in row] for row in values],
        asked_by=question.asked_by,
    )


def _standing(live: _Live) -> dict[str, object]:
    lag = live.subscription.lag()
    behind = sum(lag.values()) if len(lag) == len(live.fold.positions) else None
    waits_for = [f"{topic}/{part}" for topic, part in live.fold.waits_for()]
    standing = {"behind": behind, "held": live.fold.held, "waits_for": waits_for}
    return _known(live.fold) | standing | {"state": "live" if behind == 0 else "catching up"}


def _known(fold: Fold) -> dict[str, object]:
    """Return what a fold alone says of how far its set is."""
    return {
        "feature_set": fold.compiled.label,
        "definition": fold.compiled.id,
        "rows": fold.rows,
        "position": _position(fold),
        "late": fold.late,
        "out_of_range": fold.out_of_range,
        "begins_at": _by_place(fold.begins_at),
    }


def _silent(label: str, why: _Silent) -> dict[str, object]:
    unknown = ("rows", "behind", "held", "waits_for", "position", "late", "out_of_range", "begins_at")
    known = {"feature_set": label, "definition": why.definition, "state": why.state, "reason": why.reason}
    return dict.fromkeys(unknown) | dict(why.stood) | known


def _by_place(offsets: Mapping[Partition, int]) -> dict[str, int]:
    return {f"{topic}/{part}": offset for (topic, part), offset in sorted(offsets.items())}


def _position(fold: Fold) -> dict[str, object]:
    return {
        "applied": fold.applied,
        "reached": None if fold.reached is None else render(fold.reached),
        "partitions": _by_place({place: position.next_offset for place, position in fold.positions.items()}),
    }


def _moment(fold: Fold, at_us: int | None) -> int:
    """Return the moment that is asked for; raise Problem 422 for one that cannot be answered any more, or ever."""
    if at_us is None:
        if fold.reached is None:
            detail = f"{fold.compiled.label} has applied no record yet; say `at`, or wait until records came in"
            raise Problem(422, "nothing_applied", detail)
        return fold.reached
    reached = FIRST_INSTANT if fold.reached is None else fold.reached
    oldest = max(FIRST_INSTANT, reached - fold.compiled.definition.lateness)
    if at_us < oldest:
        detail = f"{render(at_us)} lies before {render(oldest)}, the oldest moment of which everything is kept"
        raise Problem(422, "too_old", f"{detail}; ask for a later one, or take `mainstem feature backfill`")
    if at_us > LAST_INSTANT:
        raise Problem(422, "bad_instant", f"{render(at_us)} lies after {render(LAST_INSTANT)}; ask for an earlier one")
    return at_us


def _given(live: _Live, entities: Sequence[Entity]) -> dict[str, list[Any]]:
    """Return what is said of the entities by column; raise Problem 422, naming entity and column, for what is no value.

    Columns are those that the set reads of its spine; what its contract would refuse is refused here, but for nulls.
    """
    read = live.fold.compiled.streams[live.spine.name]
    for number, entity in enumerate(entities):
        for name, value in entity.items():
            if name not in read:
                detail = f"entities[{number}]: {live.fold.compiled.label} reads no column {name!r} of {live.spine.name}"
                raise Problem(422, "unknown_column", f"{detail}; it reads: {', '.join(read)}")
            complaint = None if value is None else live.spine.columns[name].complaint(value)
            if complaint is not None:
                raise Problem(422, "bad_value", f"entities[{number}].{name}: {complaint[1]}")
    named = sorted({name for entity in entities for name in entity})
    return {name: [entity.get(name) for entity in entities] for name in named}


def _columns(live: _Live, given: Mapping[str, list[Any]], count: int) -> dict[str, Values]:
    """Return the columns as the engine takes them; one that nobody spoke of is null."""
    nothing: list[Any] = [None] * count
    names = live.fold.compiled.streams[live.spine.name]
    return {name: _gathered(live.spine.columns[name], given.get(name, nothing)) for name in names}


def _gathered(column: Column, values: list[Any]) -> Values:
    if column.kind == "time":
        return column.gather([None if value is None else msgspec.convert(value, datetime) for value in values])
    return column.gather(values)
