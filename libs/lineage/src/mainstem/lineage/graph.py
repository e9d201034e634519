"""The graph as columns: nodes in the order of their keys, edges in both directions."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainstem.lineage.columns import Bytes, Longs, Words, longs
from mainstem.lineage.nodes import KEY_BYTES, Kind, Node, Relation
from mainstem.lineage.state import Change

Indexes = NDArray[np.int32]
Arrays = dict[str, NDArray[np.generic]]

#: How many unread entries of a kind are named.
_NAMED: Final = 5
_ARRAYS: Final = ("kinds", "topics", "leaves", "known", "recorded_us")
_EDGES: Final = ("starts", "targets", "relations", "edge_leaves", "back_starts", "sources", "back_edges")


def _none() -> Longs:
    return np.zeros(1, np.int64)


def _no_index() -> Indexes:
    return np.zeros(0, np.int32)


def _no_relation() -> Bytes:
    return np.zeros(0, np.uint8)


class Named(NamedTuple):
    """A node as answers name it."""

    kind: Kind
    id: str | None  #: None for kinds of which there are as many as records: read the entry at the leaf
    leaf: int | None  #: of the entry that established it; None when none did that was read
    recorded_us: int | None  #: µs since 1970


@dataclass(frozen=True)
class Unread:
    """Entries that are no events of ours, or of a type that is not known: leaves, each with the number of a kind."""

    kinds: Sequence[tuple[str, str]] = ()  #: topic and type; the type is empty where the entry has none
    leaves: "array[int]" = field(default_factory=lambda: array("q"))
    codes: "array[int]" = field(default_factory=lambda: array("q"))

    def below(self, size: int) -> int:
        """Return how many there are among the first `size` leaves."""
        return int((longs(self.leaves) < size).sum())

    def by_kind(self, size: int) -> dict[tuple[str, str], tuple[int, list[int]]]:
        """Return, by topic and type, how many there are among the first `size` leaves, and the first five leaves."""
        leaves, codes = longs(self.leaves), longs(self.codes)
        found = {kind: np.sort(leaves[(codes == code) & (leaves < size)]) for code, kind in enumerate(self.kinds)}
        return {kind: (len(at), at[:_NAMED].tolist()) for kind, at in found.items() if len(at)}


class _Told(msgspec.Struct):
    """What of a graph is no column."""

    size: int
    topics: list[str]
    names: dict[int, str]
    changes: list[Change]
    spans: list[tuple[int, int]]
    unread: list[tuple[str, str]]


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """What the first `size` leaves of a log say of what was made of what.

    A node is known by its row: its place in the order of keys. All columns of nodes have a cell a row; those of edges
    have one an edge, in the order of their sources, and of their targets in the order back.
    """

    size: int
    keys: Words
    kinds: Bytes
    topics: NDArray[np.uint16]  #: number of the topic of the entry that established it; `NO_TOPIC` for none
    leaves: Longs  #: of the entry that established it; -1 for none
    known: Longs  #: leaf of the first entry that establishes or names it
    recorded_us: Longs  #: µs since 1970, of the entry that established it; NEVER for none
    starts: Longs = field(default_factory=_none)  #: [nodes + 1], where the edges from each node begin
    targets: Indexes = field(default_factory=_no_index)
    relations: Bytes = field(default_factory=_no_relation)
    edge_leaves: Longs = field(default_factory=_none)  #: leaf of the entry with which the edge is known
    back_starts: Longs = field(
        default_factory=_none
    )  #: [nodes + 1], where the edges to each node begin, in the order back
    sources: Indexes = field(default_factory=_no_index)  #: in the order back
    back_edges: Indexes = field(default_factory=_no_index)  #: the number of each edge of the order back
    topic_names: Sequence[str] = ()
    names: Mapping[int, str] = field(default_factory=dict)  #: ids, by row
    changes: Sequence[Change] = ()
    spans: Sequence[tuple[int, int]] = ()  #: leaves that were read: first, and one behind the last
    unread: Unread = field(default_factory=Unread)
    last_leaf: int = -1  #: the highest of all edges

    @property
    def nodes(self) -> int:
        """The number of nodes, whenever they became known."""
        return len(self.kinds)

    @property
    def edges(self) -> int:
        """The number of edges, whenever they became known."""
        return len(self.targets)

    @property
    def read(self) -> int:
        """How many of the first `size` leaves were read; the others were not given."""
        return sum(min(end, self.size) - first for first, end in self.spans if first < self.size)

    def as_of(self, size: int) -> "Graph":
        """Return what was known when the log had `size` leaves: the same columns, of which questions see that much.

        Raises ValueError when this graph does not go that far.
        """
        if not 0 <= size <= self.size:
            raise ValueError(f"the graph covers {self.size} leaves, not {size}; build it from more entries")
        return replace(self, size=size)

    def row(self, node: Node) -> int:
        """Return the row of a node; raise KeyError when no entry read up to the size speaks of it."""
        row = int(self.rows(node.key)[0])
        if row < 0:
            about = f"{node.kind.name.lower()} {node.id!r}"
            raise KeyError(f"no entry among the first {self.size} leaves speaks of {about}; list what there is by kind")
        return row

    def rows(self, keys: bytes) -> Longs:
        """Return the row of each key, which stand one behind the other; -1 for those that no entry read speaks of."""
        if not self.nodes:
            return np.full(len(keys) // KEY_BYTES, -1, np.int64)
        rows = self.keys.find(Words.of(keys))
        return np.where((rows >= 0) & (self.known[rows] < self.size), rows, -1)

    def of(self, kind: Kind) -> Longs:
        """Return the rows of a kind that are known at the size."""
        return np.flatnonzero((self.kinds == kind) & (self.known < self.size))

    def named(self, row: int) -> Named:
        """Return how a node is named."""
        leaf = int(self.leaves[row])
        there = 0 <= leaf < self.size
        recorded = int(self.recorded_us[row]) if there else None
        return Named(Kind(self.kinds[row]), self.names.get(row), leaf if there else None, recorded)

    def relation(self, edge: int) -> Relation:
        """Return the relation of an edge, by its number."""
        return Relation(self.relations[edge])

    def to_arrays(self) -> Arrays:
        """Return all of it as arrays by name, as `numpy.savez` takes them; `from_arrays` reads them."""
        names = {int(row): name for row, name in self.names.items()}
        kinds = list(self.unread.kinds)
        told = _Told(self.size, list(self.topic_names), names, list(self.changes), list(self.spans), kinds)
        return {
            "keys": np.stack(self.keys, axis=1),
            **{name: getattr(self, name) for name in (*_ARRAYS, *_EDGES)},
            "unread_leaves": longs(self.unread.leaves),
            "unread_codes": longs(self.unread.codes),
            "told": np.frombuffer(msgspec.msgpack.encode(told), np.uint8),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> "Graph":
        """Return the graph of arrays; raise ValueError naming what is missing or wrong."""
        try:
            told = msgspec.msgpack.decode(arrays["told"].tobytes(), type=_Told)
            columns = {name: arrays[name] for name in (*_ARRAYS, *_EDGES)}
            keys = Words(*(np.ascontiguousarray(arrays["keys"][:, part]) for part in (0, 1)))
            unread = [array("q", arrays[name].tobytes()) for name in ("unread_leaves", "unread_codes")]
        except (KeyError, IndexError, msgspec.MsgspecError) as fault:
            raise ValueError(f"these arrays are no lineage graph: {fault!r}; build it anew from the log") from fault
        return cls(
            told.size,
            keys,
            **columns,  # type: ignore[arg-type]
            topic_names=told.topics,
            names=told.names,
            changes=told.changes,
            spans=told.spans,
            unread=Unread(told.unread, *unread),
            last_leaf=int(arrays["edge_leaves"].max(initial=-1)),
        )


#: Stands for no topic.
NO_TOPIC: Final = np.iinfo(np.uint16).max
