"""The sweep: everything that edges lead to, a layer at a time over whole columns."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from mainstem.lineage.columns import Flags, Longs
from mainstem.lineage.graph import Graph, Indexes
from mainstem.lineage.nodes import Kind, Relation

Direction = Literal["back", "forward"]


class Step(NamedTuple):
    """One edge of a path, as it stands in the graph: from what was there to what was made of it."""

    source: int
    relation: Relation
    target: int
    leaf: int  #: of the entry with which the edge is known


@dataclass(frozen=True, slots=True, eq=False)
class Closure:
    """What is behind some nodes (`back`) or what they went into (`forward`); they themselves are not part of it.

    A node from which the sweep began is part of it only where an edge leads from another to it.
    """

    graph: Graph
    direction: Direction
    starts: Longs
    rows: Longs  #: rows of the closure, rising
    _via: Longs = field(repr=False)  #: [nodes] the number of the edge that reached a node first; -1 for none
    _seen: Flags = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, row: object) -> bool:
        return isinstance(row, int | np.integer) and bool(self._seen[row])

    def of(self, kind: Kind) -> Longs:
        """Return the rows of a kind."""
        ours: Flags = self.graph.kinds[self.rows] == kind
        return self.rows[ours]

    def by_kind(self) -> dict[Kind, int]:
        """Return how many nodes there are of each kind."""
        counts = np.bincount(self.graph.kinds[self.rows], minlength=len(Kind)).tolist()
        return {kind: counts[kind] for kind in Kind if counts[kind]}

    def unestablished(self) -> Longs:
        """Return the rows that entries name and none that was read establishes: what is behind those is not known.

        What is known by the address of its content has no entry of its own, and is not among them.
        """
        leaves = self.graph.leaves[self.rows]
        addressed = np.isin(self.graph.kinds[self.rows], (Kind.ARTIFACT, Kind.DEFINITION))
        missing: Flags = ((leaves < 0) | (leaves >= self.graph.size)) & ~addressed
        return self.rows[missing]

    def path(self, row: int) -> list[Step]:
        """Return a shortest path between a start and a node of the closure, in the order of time.

        Raises KeyError for a node that is not in the closure.
        """
        if row not in self:
            raise KeyError(f"row {row} is not in this closure of {len(self)} nodes; ask for one that is")
        steps: list[Step] = []
        starts = set(self.starts.tolist())
        while not steps or row not in starts:
            edge = int(self._via[row])
            step = _step(self.graph, edge)
            steps.append(step)
            row = step.source if self.direction == "forward" else step.target
        return steps if self.direction == "back" else steps[::-1]


def closure(
    graph: Graph, starts: Longs, direction: Direction, relations: Collection[Relation] | None = None
) -> Closure:
    """Return all that is reached from some rows over edges known at the graph's size, by `relations` if given.

    The time is that of the edges that are met, and some µs a layer.
    """
    allowed = _allowed(graph, relations)
    seen = np.zeros(graph.nodes, np.bool_)
    entered = np.zeros(graph.nodes, np.bool_)
    via = np.full(graph.nodes, -1, np.int64)
    mark = np.empty(graph.nodes, np.int64)
    entered[starts] = True
    starts = frontier = np.flatnonzero(entered)
    while len(frontier):
        edges, reached = _next(graph, frontier, direction)
        if allowed is not None:
            keep = allowed[edges]
            edges, reached = edges[keep], reached[keep]
        fresh = ~seen[reached]
        edges, reached = edges[fresh], reached[fresh]
        mark[reached] = np.arange(len(reached))
        first = mark[reached] == np.arange(len(reached))
        edges, reached = edges[first], reached[first]
        seen[reached] = True
        via[reached] = edges
        frontier = reached[~entered[reached]]
        entered[frontier] = True
    return Closure(graph, direction, starts, np.flatnonzero(seen), via, seen)


def _next(graph: Graph, frontier: Longs, direction: Direction) -> tuple[Longs, Indexes]:
    """Return the edges from (or to) the nodes of a frontier, by number, and their other ends."""
    starts = graph.starts if direction == "forward" else graph.back_starts
    low = starts[frontier]
    counts = starts[frontier + 1] - low
    ends = np.cumsum(counts)
    places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(low - ends + counts, counts)
    if direction == "forward":
        return places, graph.targets[places]
    return graph.back_edges[places].astype(np.int64), graph.sources[places]


def _allowed(graph: Graph, relations: Collection[Relation] | None) -> Flags | None:
    """Tell of each edge whether it may be followed; None when all may."""
    whole = not len(graph.edge_leaves) or graph.size > graph.last_leaf
    if whole and relations is None:
        return None
    allowed = graph.edge_leaves < graph.size
    return allowed if relations is None else allowed & np.isin(graph.relations, [int(one) for one in relations])


def _step(graph: Graph, edge: int) -> Step:
    source = int(np.searchsorted(graph.starts, edge, side="right")) - 1
    return Step(source, graph.relation(edge), int(graph.targets[edge]), int(graph.edge_leaves[edge]))
