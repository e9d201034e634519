"""What ingestion remembers of a partition: the ids it has seen, and the block of offsets it is judging. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np

from mainstem.project.contract import BLOCK, BatchRules

_DAY_US = 86_400_000_000


class Seen:
    """Ids of the last `horizon_us` of recorded time, forgotten by the day; an id is kept as 56 bits of its digest.

    Two different ids are taken for one with a chance of n/2^56 for n remembered ids.
    """

    def __init__(self, horizon_us: int, days: Mapping[int, set[int]] | None = None) -> None:
        self._kept_days = max(1, -(-horizon_us // _DAY_US))
        self._days: dict[int, set[int]] = dict(days or {})

    def admit(self, fingerprint: int, recorded_us: int) -> bool:
        """Remember an id; return False when it was remembered already."""
        if any(fingerprint in ids for ids in self._days.values()):
            return False
        today = recorded_us // _DAY_US
        ids = self._days.get(today)
        if ids is None:
            ids = self._days[today] = set()
            newest = max(self._days)
            for day in [day for day in self._days if day < newest - self._kept_days]:
                del self._days[day]
        ids.add(fingerprint)
        return True

    def dump(self) -> list[tuple[int, bytes]]:
        """Return the state, the same bytes for the same ids."""
        return [
            (day, np.sort(np.fromiter(ids, np.uint64, len(ids))).tobytes()) for day, ids in sorted(self._days.items())
        ]

    @classmethod
    def load(cls, horizon_us: int, dumped: list[tuple[int, bytes]]) -> "Seen":
        """Return what `dump` gave."""
        return cls(horizon_us, {day: set(np.frombuffer(ids, np.uint64).tolist()) for day, ids in dumped})


@dataclass(slots=True)
class Block:
    """Counts over one block of offsets."""

    number: int
    records: int = 0
    quarantined: int = 0
    nulls: dict[str, int] = field(default_factory=dict)

    @property
    def first_offset(self) -> int:
        """Return the offset the block begins at."""
        return self.number * BLOCK

    def null_fractions(self) -> dict[str, float]:
        """Return the share of nulls among accepted records, by watched column."""
        accepted = max(1, self.records - self.quarantined)
        return {column: count / accepted for column, count in sorted(self.nulls.items())}

    def broken(self, rules: BatchRules) -> list[str]:
        """Return the rules that do not hold, each with figure and limit."""
        share = self.quarantined / max(1, self.records)
        found = []
        if share > rules.max_quarantined:
            found.append(f"quarantined {share:.3f} > {rules.max_quarantined}")
        for column, fraction in self.null_fractions().items():
            if fraction > rules.max_null[column]:
                found.append(f"null {column} {fraction:.3f} > {rules.max_null[column]}")
        return found


class PartitionState:
    """Everything that is remembered of one partition of one source."""

    def __init__(self, seen: Seen, block: Block | None = None) -> None:
        self.seen = seen
        self.block = block

    def enter(self, offset: int) -> Block | None:
        """Make the block of `offset` the current one; return the block that this closes, if any."""
        number = offset // BLOCK
        closed = self.block
        if closed is not None and closed.number == number:
            return None
        self.block = Block(number)
        return closed

    def dump(self) -> bytes:
        """Return the state as bytes."""
        block = None if self.block is None else [getattr(self.block, name) for name in Block.__slots__]
        return msgspec.msgpack.encode([self.seen.dump(), block])

    @classmethod
    def load(cls, horizon_us: int, state: bytes | None) -> "PartitionState":
        """Return what `dump` gave; a new state for None."""
        if state is None:
            return cls(Seen(horizon_us))
        dumped, block = msgspec.msgpack.decode(state)
        return cls(Seen.load(horizon_us, dumped), None if block is None else Block(*block))
