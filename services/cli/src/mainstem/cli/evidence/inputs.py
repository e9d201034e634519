"""What the features of an answer are, and which records each value rests on."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mainstem.cli.evidence.columns import Columns, Ints, Place
from mainstem.cli.expressions import expressions
from mainstem.events.errors import Rejected
from mainstem.feature_engine import CompiledSet
from mainstem.feature_engine.definition import Aggregate
from mainstem.feature_engine.reference import Applied, Contribution, Reference

_DOUBLE: Final = struct.Struct("<d")

Said = dict[str, object]


def same_bits(one: float | None, other: float | None) -> bool:
    """Tell whether two values have the same bits."""
    if one is None or other is None:
        return one is other
    return _DOUBLE.pack(one) == _DOUBLE.pack(other)


def described(compiled: CompiledSet, values: Sequence[float | None]) -> list[Said]:
    """Return each feature with the expression that it is computed by and its value, in the order of the vector."""
    written = expressions(compiled)
    return [
        {"name": name, "expression": written[name], "value": value}
        for name, value in zip(compiled.names, values, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Recomputed:
    """A value as the records give it again, and these records by what they are counted in."""

    name: str
    served: float | None
    value: float | None
    records: Mapping[str, Sequence[Said]]
    leaves: Sequence[int]  #: of the records; one that counts twice is there twice

    @property
    def document(self) -> Said:
        """Return it as a document."""
        return {
            "name": self.name,
            "recomputed": self.value,
            "equal": same_bits(self.served, self.value),
            "count": sum(map(len, self.records.values())),
            "records": self.records,
        }


class Behind:
    """Finds the records behind the values of one feature set."""

    def __init__(self, compiled: CompiledSet, columns: Columns) -> None:
        self._compiled = compiled
        self._columns = columns

    def recompute(self, leaf: int, served: Sequence[float | None]) -> list[Recomputed]:
        """Return each value of the row of the spine record at a leaf again, with the records that it rests on.

        Raises Rejected when the record was not applied as far as the log tells.
        """
        name = self._compiled.spine
        row = self._columns.streams[name].row_of(leaf)
        if row is None:
            raise Rejected(f"the accepted record at leaf {leaf} is not among those that {self._compiled.label} applied")
        ((position, spine),) = self._columns.streams[name].records(name, np.array([row]))
        reference = Reference(self._compiled.spec)
        for _, record in sorted(self._reached(spine, position), key=lambda each: each[0]):
            reference.apply(record)
        values = reference.row(spine)
        return [
            _recomputed(feature, given, value, reference.behind(spine, feature))
            for feature, given, value in zip(self._compiled.names, served, values, strict=True)
        ]

    def _reached(self, spine: Applied, position: int) -> Iterator[tuple[int, Applied]]:
        """Yield the records that any aggregate can reach, each once, behind their positions."""
        rows: dict[str, list[Ints]] = {}
        for aggregate in self._compiled.definition.aggregates:
            rows.setdefault(aggregate.stream, []).append(self._rows(aggregate, spine, position))
        for name, found in rows.items():
            yield from self._columns.streams[name].records(name, np.unique(np.concatenate(found)))

    def _rows(self, aggregate: Aggregate, spine: Applied, position: int) -> Ints:
        stream = self._columns.streams[aggregate.stream]
        rows = stream.before(aggregate.by, spine.columns.get(aggregate.at), position)
        if aggregate.span is None:
            return rows
        begins = spine.event_time_us - aggregate.span - aggregate.hop
        times = stream.places["time_us"][rows]
        return rows[(times >= begins) & (times < spine.event_time_us)]


def _recomputed(
    feature: str, served: float | None, value: float | None, contributions: Sequence[Contribution]
) -> Recomputed:
    groups: dict[str, list[Said]] = {}
    leaves: list[int] = []
    for one in contributions:
        assert isinstance(one.place, Place)  # noqa: S101  # `Stream.records` gives no other
        leaves.append(one.place.leaf)
        groups.setdefault(one.of, []).append({**one.place._asdict(), "value": one.value})
    return Recomputed(feature, served, value, groups, leaves)
