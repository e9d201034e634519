"""The label of a row: whether a number in a later record of the same key lies above a threshold, if it came in time."""

from bisect import insort
from collections.abc import Sequence
from typing import Any

import msgspec

from mainstem.cli.expressions import duration
from mainstem.events.catalogue import Record, header
from mainstem.events.data import ProgressReached
from mainstem.events.errors import Rejected
from mainstem.events.instants import NEVER, parse_all
from mainstem.project import Label, ProjectDefinition

_PROGRESS = ProgressReached.TYPE.encode()


def declared_labels(definition: ProjectDefinition, feature_set: str) -> list[Label]:
    """Return how rows of a set are labelled: its own target if it declares one, else the labels of its models."""
    target = definition.feature_sets[feature_set].compiled.target
    if target is not None:
        above = target.above.value / target.above.scale
        return [Label(source=target.stream, key=target.on, column=target.column, above=above, wait=target.wait)]
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


class Labels:
    """The labels in the log.

    A record is the label of a row if it became known after the row's event happened, and at most the wait later; of
    several it is the last. One with a null decides nothing.
    """

    def __init__(self, rule: Label, definition: ProjectDefinition, spine: str) -> None:
        """Raise Rejected when the rows cannot be joined with what brings the truth."""
        if rule.source not in definition.sources:
            raise Rejected(f"the label comes from {rule.source!r}, which is no source of the project; declare it")
        if rule.key not in definition.sources[spine].columns:
            raise Rejected(f"the label is joined by {rule.key!r}, which is no column of {spine}; join by one that is")
        self.rule = rule
        self.topic = f"evt.data.{rule.source}"
        contract = definition.sources[rule.source]
        self._through = dict.fromkeys(range(contract.partitions), NEVER)
        #: By key: when it became known, partition, offset, and the truth; sorted.
        self._known: dict[str, list[tuple[int, int, int, bool]]] = {}

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
            elif recorded_us != NEVER:
                self._keep(record, recorded_us)

    def of(self, key: str | None, time_us: int) -> bool | None:
        """Return the label of a row by its key and event time, as far as the log was read; None when there is none."""
        known = [] if key is None else self._known.get(key, [])
        place = self.rule.last_in_time([truth[0] for truth in known], time_us)
        return None if place is None else known[place][3]

    def key_of(self, record: Record) -> str | None:
        """Return what a record of the spine, or of the label's source, is joined by."""
        key = _fields(record).get(self.rule.key)
        return key if isinstance(key, str) else None

    def _pass(self, marker: Record) -> None:
        try:
            (until,) = parse_all([_UNTIL.decode(marker.value or b"").until.encode()]).tolist()
        except msgspec.MsgspecError:
            return
        self._through[marker.partition] = max(until, self._through.get(marker.partition, NEVER))

    def _keep(self, record: Record, recorded_us: int) -> None:
        key, value = self.key_of(record), _fields(record).get(self.rule.column)
        if key is not None and isinstance(value, int | float):
            truth = (recorded_us, record.partition, record.offset, value > self.rule.above)
            insort(self._known.setdefault(key, []), truth)


def _fields(record: Record) -> dict[str, Any]:
    try:
        return _ACCEPTED.decode(record.value or b"").record
    except msgspec.MsgspecError:
        return {}
