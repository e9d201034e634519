"""What a pass over the log collects: nodes and edges as columns of bytes, an object for none of them."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mainstem.lineage.nodes import Kind, Relation

Longs = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Flags = NDArray[np.bool_]

_WORD: Final = np.dtype(">u8")


class Words(NamedTuple):
    """Keys as two columns of 64 bits, so that they are compared and sorted as numbers."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]

    @classmethod
    def of(cls, keys: bytes | bytearray | Bytes) -> "Words":
        """Return keys that stand one behind the other, 16 bytes each."""
        pairs = np.frombuffer(keys, _WORD).reshape(-1, 2).astype(np.uint64)
        return cls(np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1]))

    def take(self, rows: Longs | Flags) -> "Words":
        """Return some of them."""
        return Words(self.high[rows], self.low[rows])

    def join(self, others: "Words") -> "Words":
        """Return these and the others behind them."""
        return Words(np.concatenate([self.high, others.high]), np.concatenate([self.low, others.low]))

    def order(self) -> Longs:
        """Return the rows in the order of their keys; rows of one key stay in their order."""
        order = np.argsort(self.high, kind="stable")
        high, low = self.high[order], self.low[order]
        if ((high[1:] == high[:-1]) & (low[1:] != low[:-1])).any():  # never seen of digests, but nothing forbids it
            return np.lexsort((self.low, self.high))
        return order

    def find(self, wanted: "Words") -> Longs:
        """Return the row of each wanted key among these, which are sorted and unique; -1 where there is none."""
        order = np.argsort(wanted.high)  # sorted, they are looked up side by side: several times as fast
        rows = np.empty(len(order), np.int64)
        rows[order] = np.searchsorted(self.high, wanted.high[order])
        while True:
            last = np.minimum(rows, len(self.high) - 1)
            inside = (rows < len(self.high)) & (self.high[last] == wanted.high)
            beside = inside & (self.low[last] != wanted.low)
            if not beside.any():
                return np.where(inside, rows, -1)
            rows = rows + beside


class Ends(NamedTuple):
    """Edges by the rows of their ends."""

    sources: Longs
    targets: Longs
    relations: Bytes
    leaves: Longs


@dataclass(slots=True)
class NodeColumns:
    """Nodes that entries establish, in the order of reading: 35 bytes each."""

    keys: bytearray = field(default_factory=bytearray)
    kinds: bytearray = field(default_factory=bytearray)
    topics: "array[int]" = field(default_factory=lambda: array("H"))
    leaves: "array[int]" = field(default_factory=lambda: array("q"))
    recorded_us: "array[int]" = field(default_factory=lambda: array("q"))

    def extend(
        self,
        keys: Sequence[bytes],
        kind: Kind,
        topics: Iterable[int],
        leaves: Iterable[int],
        recorded_us: Iterable[int],
    ) -> None:
        """Append nodes of one kind; `topics` are numbers of the topics of their entries."""
        self.keys += b"".join(keys)
        self.kinds += bytes((kind,)) * len(keys)
        self.topics.extend(topics)
        self.leaves.extend(leaves)
        self.recorded_us.extend(recorded_us)


@dataclass(slots=True)
class EdgeColumns:
    """Edges by the keys of their ends, in the order of reading: 43 bytes each."""

    sources: bytearray = field(default_factory=bytearray)
    targets: bytearray = field(default_factory=bytearray)
    source_kinds: bytearray = field(default_factory=bytearray)
    target_kinds: bytearray = field(default_factory=bytearray)
    relations: bytearray = field(default_factory=bytearray)
    leaves: "array[int]" = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.relations)

    def extend(
        self,
        sources: Sequence[bytes],
        targets: Sequence[bytes],
        kinds: tuple[Kind, Kind],
        relation: Relation,
        leaves: Iterable[int],
    ) -> None:
        """Append edges of one relation between nodes of two kinds."""
        count = len(sources)
        self.sources += b"".join(sources)
        self.targets += b"".join(targets)
        self.source_kinds += bytes((kinds[0],)) * count
        self.target_kinds += bytes((kinds[1],)) * count
        self.relations += bytes((relation,)) * count
        self.leaves.extend(leaves)


def longs(column: "array[int]") -> Longs:
    """Return a column of 64-bit numbers as an array."""
    return np.frombuffer(column, np.int64) if len(column) else np.empty(0, np.int64)


def octets(column: bytes | bytearray) -> Bytes:
    """Return a column of bytes as an array."""
    return np.frombuffer(column, np.uint8) if len(column) else np.empty(0, np.uint8)
