"""The label of a row: whether a number in a later record of the same key lies above a threshold, if it came in time."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mainstem.cli.expressions import duration
from mainstem.events.data import ProgressReached, RecordAccepted
from mainstem.events.errors import Rejected
from mainstem.events.instant_columns import parse_all
from mainstem.events.instants import NEVER
from mainstem.events.record import Record, header
from mainstem.project import Label, ProjectDefinition
from mainstem.project.records import UNREADABLE

_PROGRESS = ProgressReached.TYPE.encode()
_ACCEPTED_TYPE = RecordAccepted.TYPE.encode()


def declared_labels(definition: ProjectDefinition, feature_set: str) -> list[Label]:
    """Return how rows of a set are labelled: its own target if it declares one, else the labels of its models."""
    target = definition.feature_sets[feature_set].compiled.target
    if target is not None:
        above = target.above.value / target.above.scale
        rule = {"source": target.stream, "key": target.on, "column": target.column, "above": above}
        return [Label.model_validate({**rule, "wait": target.wait})]
    models = (model for model in definition.models.values() if model.feature_set == feature_set)
    return list(dict.fromkeys(model.label for model in models))


def worded(label: Label) -> str:
    """Return a label in words: `paid.days > 15 within 30d, joined by order`."""
    above = f"{label.source}.{label.column} > {label.above:.15g}"
    return f"{above} within {duration(label.wait)}, joined by {label.key}"


class _Accepted(msgspec.Struct):
    record: dict[str, Any]


class _Until(msgspec.Struct):
    until: str


_ACCEPTED = msgspec.json.Decoder(_Accepted)
_UNTIL = msgspec.json.Decoder(_Until)


@dataclass(slots=True)
class _Truths:
    """What was said of one entity, in the order in which it became known, then of partition and offset."""

    known_us: list[int] = field(default_factory=list)
    said: list[tuple[int, int, bool]] = field(default_factory=list)  #: partition, offset, and the truth

    def add(self, recorded_us: int, truth: tuple[int, int, bool]) -> None:
        low, high = bisect_left(self.known_us, recorded_us), bisect_right(self.known_us, recorded_us)
        place = bisect_right(self.said, truth, low, high)
        self.known_us.insert(place, recorded_us)
        self.said.insert(place, truth)


class Labels:
    """The labels in the log.

    A record is the label of a row if it became known after the row's event happened, and at most the wait later; of
    several it is the last. One with a null decides nothing. All labels that were read are kept, since a row that comes
    later may still ask for any; to find one costs the logarithm of what is known of its entity.
    """

    def __init__(self, rule: Label, definition: ProjectDefinition, feature_set: str) -> None:
        """Raise Rejected when the rows of the set cannot be joined with what brings the truth."""
        fault = definition.misjoined(f"the label of {feature_set!r}", rule.source, rule.key, feature_set)
        if fault is not None:
            found, fix = fault
            raise Rejected(f"{found}; {fix}, and apply the project again")
        self.rule = rule
        self.topic = f"evt.data.{rule.source}"
        #: Records that are neither labels as ingestion accepts them nor markers: passed over.
        self.unreadable = 0
        contract = definition.sources[rule.source]
        self._through = dict.fromkeys(range(contract.partitions), NEVER)
        self._known: dict[str, _Truths] = {}

    @property
    def through(self) -> int:
        """Return the recorded time up to which no label is still to be read; NEVER if nothing is announced."""
        return min(self._through.values())

    def take(self, records: Sequence[Record]) -> None:
        """Take records of `topic`, each partition's in order."""
        known = parse_all([header(record, "ce_recordedtime") or b"" for record in records]).tolist()
        for record, recorded_us in zip(records, known, strict=True):
            if header(record, "ce_type") == _PROGRESS:
                self._pass(record)
            else:
                self._keep(record, recorded_us)

    def of(self, entity: str, time_us: int) -> bool | None:
        """Return the label of a row by its entity and event time, as far as the log was read; None when there is none.

        A row is known by the key of its spine, and a label's source is asked for a column of that name: see `Label`.
        """
        truths = self._known.get(entity)
        place = None if truths is None else self.rule.last_in_time(truths.known_us, time_us)
        return None if truths is None or place is None else truths.said[place][2]

    def _pass(self, marker: Record) -> None:
        try:
            (until,) = parse_all([_UNTIL.decode(marker.value or b"").until.encode()]).tolist()
        except UNREADABLE:
            self.unreadable += 1
            return
        self._through[marker.partition] = max(until, self._through.get(marker.partition, NEVER))

    def _keep(self, record: Record, recorded_us: int) -> None:
        match _fields(record, self.rule):
            case str(), None if recorded_us != NEVER:
                pass
            case str(key), int() | float() as value if recorded_us != NEVER:
                truth = (record.partition, record.offset, value > self.rule.above)
                self._known.setdefault(key, _Truths()).add(recorded_us, truth)
            case _:
                self.unreadable += 1


def _fields(record: Record, rule: Label) -> tuple[object, object] | None:
    """Return key and value of a label as they stand in it; None when it is no accepted record."""
    if header(record, "ce_type") != _ACCEPTED_TYPE:
        return None
    try:
        found = _ACCEPTED.decode(record.value or b"").record
    except UNREADABLE:
        return None
    return found.get(rule.key), found.get(rule.column)
