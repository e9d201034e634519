"""What can be asked of a graph. Every question is of what was known at its size: ask `graph.as_of(size)` for earlier.

Nodes are given by name, or by their rows.

Answers hold rows; `graph.named(row)` says what stands there, and at which leaf.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mainstem.lineage.columns import Flags, Longs
from mainstem.lineage.graph import NO_TOPIC, Graph
from mainstem.lineage.nodes import Kind, Node, Relation
from mainstem.lineage.state import InForce, in_force
from mainstem.lineage.sweep import Closure, Step, closure


@dataclass(frozen=True, slots=True)
class Sought:
    """What an absence is of: nodes of all the conditions that are given."""

    kind: Kind | None = None
    #: What the name of the node begins with, or that of the topic of the entry that established it.
    prefix: str | None = None
    nodes: Collection[Node] | None = None


@dataclass(frozen=True, slots=True)
class Absence:
    """Whether nothing of what was sought is behind some nodes, and how much that says."""

    #: Nothing was found.
    absent: bool
    #: Nothing was found, every leaf below the size was read and understood, and all that is behind the nodes is there.
    proven: bool
    closure: Closure
    #: What was found, rising.
    found: Longs
    #: A shortest path from one that was found to one of the nodes, when something was found.
    counterexample: list[Step]
    #: Leaves below the size that were read, that were not given, and that were read and are no events of a known type.
    read: int
    withheld: int
    unread: int
    #: Nodes behind the nodes that no entry read establishes: what is behind them is not known.
    unestablished: Longs


class Difference(NamedTuple):
    """What came between two sizes of a log."""

    nodes: dict[Kind, Longs]  #: rows of what became known, by kind
    edges: dict[Relation, int]  #: how many edges became known, by relation
    before: InForce
    after: InForce


#: Nodes, or rows of a graph.
Nodes = Iterable[Node | int] | Longs


def backward(graph: Graph, nodes: Nodes, relations: Collection[Relation] | None = None) -> Closure:
    """Return what some nodes are made of; raise KeyError for a node that no entry read speaks of."""
    return closure(graph, _rows(graph, nodes), "back", relations)


def forward(graph: Graph, nodes: Nodes, relations: Collection[Relation] | None = None) -> Closure:
    """Return what some nodes went into; raise KeyError for a node that no entry read speaks of."""
    return closure(graph, _rows(graph, nodes), "forward", relations)


def absence(graph: Graph, nodes: Iterable[Node | int], sought: Sought) -> Absence:
    """Return whether nothing of what is sought is behind some nodes; they themselves count as behind them.

    Raises KeyError for one of the nodes that no entry read speaks of, and ValueError when nothing is sought.
    """
    starts = _rows(graph, nodes)
    behind = closure(graph, starts, "back")
    all_rows = np.union1d(behind.rows, starts)
    found = all_rows[_matches(graph, all_rows, sought)]
    unread, withheld = graph.unread.below(graph.size), graph.size - graph.read
    unestablished = behind.unestablished()
    reached = found[np.isin(found, behind.rows)][:1].tolist()
    return Absence(
        absent=not len(found),
        proven=not (len(found) or unread or withheld or len(unestablished)),
        closure=behind,
        found=found,
        counterexample=behind.path(reached[0]) if reached else [],
        read=graph.read,
        withheld=withheld,
        unread=unread,
        unestablished=unestablished,
    )


def difference(graph: Graph, before: int, after: int) -> Difference:
    """Return what the leaves from `before` on and below `after` brought.

    Raises ValueError when the sizes do not rise, or the graph does not go that far.
    """
    if not 0 <= before <= after <= graph.size:
        raise ValueError(f"sizes {before} and {after} do not rise up to {graph.size}; give the earlier one first")
    new = np.flatnonzero((graph.known >= before) & (graph.known < after))
    kinds = graph.kinds[new]
    edges = graph.relations[(graph.edge_leaves >= before) & (graph.edge_leaves < after)]
    counts = np.bincount(edges, minlength=max(Relation) + 1).tolist()
    return Difference(
        {kind: new[kinds == kind] for kind in Kind if (kinds == kind).any()},
        {relation: counts[relation] for relation in Relation if counts[relation]},
        in_force(graph.changes, before),
        in_force(graph.changes, after),
    )


def state(graph: Graph, at_us: int | None = None) -> InForce:
    """Return what is in force by what is known: now, or at an instant (µs since 1970)."""
    return in_force(graph.changes, graph.size, at_us)


def _rows(graph: Graph, nodes: Nodes) -> Longs:
    if isinstance(nodes, np.ndarray):
        return nodes
    return np.array([one if isinstance(one, int) else graph.row(one) for one in nodes], np.int64)


def _matches(graph: Graph, rows: Longs, sought: Sought) -> Flags:
    """Tell which rows are what is sought."""
    if sought.kind is None and sought.prefix is None and sought.nodes is None:
        raise ValueError("nothing is sought; give a kind, a prefix, or nodes")
    fits = np.ones(len(rows), np.bool_)
    if sought.kind is not None:
        fits &= graph.kinds[rows] == sought.kind
    if sought.nodes is not None:
        wanted = graph.rows(b"".join(one.key for one in sought.nodes))
        fits &= np.isin(rows, wanted[wanted >= 0])
    if sought.prefix is not None:
        fits &= _begins(graph, rows, sought.prefix)
    return fits


def _begins(graph: Graph, rows: Longs, prefix: str) -> Flags:
    topics = np.zeros(NO_TOPIC + 1, np.bool_)
    topics[[number for number, name in enumerate(graph.topic_names) if name.startswith(prefix)]] = True
    named = [row for row, name in graph.names.items() if name.startswith(prefix)]
    return topics[graph.topics[rows]] | np.isin(rows, named)
