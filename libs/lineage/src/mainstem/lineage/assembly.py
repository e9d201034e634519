"""From collected columns to a graph: names become rows, double edges one, and edges are put in both orders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from mainstem.events.instants import NEVER
from mainstem.lineage.columns import Bytes, EdgeColumns, Ends, Flags, Longs, NodeColumns, Words, longs, octets
from mainstem.lineage.facts import ACCEPTED_TOPICS, SOURCE_TOPICS
from mainstem.lineage.graph import NO_TOPIC, Graph, Unread
from mainstem.lineage.matching import Matched, Matching
from mainstem.lineage.nodes import KEY_BYTES, Kind, Relation
from mainstem.lineage.state import Change

#: More than there are relations.
_RELATIONS: Final = 64
#: Behind every leaf.
_NEVER_KNOWN: Final = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Collected:
    """What a pass over a log brought together."""

    nodes: NodeColumns
    edges: EdgeColumns
    matching: Matching
    aliases: Mapping[bytes, bytes]  #: key of an event → key of the node that it stands for
    names: Mapping[bytes, str]
    places: Mapping[bytes, int]  #: number of the topic of a record that is named, by key
    topics: Sequence[str]
    changes: Sequence[Change]
    spans: Sequence[tuple[int, int]]
    unread: Unread


class _Edges(NamedTuple):
    """Edges by the keys of their ends."""

    sources: Words
    targets: Words
    source_kinds: Bytes
    target_kinds: Bytes
    relations: Bytes
    leaves: Longs

    def take(self, rows: Longs | Flags) -> "_Edges":
        ends = self.sources.take(rows), self.targets.take(rows)
        kinds = self.source_kinds[rows], self.target_kinds[rows]
        return _Edges(*ends, *kinds, self.relations[rows], self.leaves[rows])


class _Nodes(NamedTuple):
    """Nodes in the order of their keys."""

    keys: Words
    kinds: Bytes
    topics: "np.ndarray[tuple[int], np.dtype[np.uint16]]"
    leaves: Longs
    recorded_us: Longs


def assemble(told: Collected, size: int) -> Graph:
    """Return the graph of what was collected."""
    established = _established(told.nodes)
    edges = _caused(_resolved(_edges(told), told.aliases), established.keys)
    nodes, ends = _with_named(established, edges)
    bare = Graph(
        size=size,
        keys=nodes.keys,
        kinds=nodes.kinds,
        topics=_topics(nodes, ends, told),
        leaves=nodes.leaves,
        known=_known(nodes, ends),
        recorded_us=nodes.recorded_us,
        topic_names=told.topics,
        names=_names(nodes, told),
        changes=told.changes,
        spans=told.spans,
        unread=told.unread,
    )
    return linked(bare, ends)


def linked(graph: Graph, ends: Ends) -> Graph:
    """Return a graph with these edges in place of its own: of equal edges one, with the smallest leaf.

    Causation between two nodes is left out from where on another relation joins them; nothing is made of itself.
    """
    once = _once(ends, max(1, graph.nodes))
    back = np.argsort(once.targets, kind="stable")
    return replace(
        graph,
        starts=_starts(once.sources, graph.nodes),
        targets=once.targets.astype(np.int32),
        relations=once.relations,
        edge_leaves=once.leaves,
        back_starts=_starts(once.targets, graph.nodes),
        sources=once.sources[back].astype(np.int32),
        back_edges=back.astype(np.int32),
        last_leaf=int(once.leaves.max(initial=-1)),
    )


def _once(ends: Ends, nodes: int) -> Ends:
    """Return each edge once, in the order of sources, targets and relations."""
    pairs = ends.sources * nodes + ends.targets
    order = np.argsort(pairs * _RELATIONS + ends.relations)
    pairs, relations, leaves = pairs[order], ends.relations[order], ends.leaves[order]
    first = _firsts((pairs[1:] != pairs[:-1]) | (relations[1:] != relations[:-1]), len(pairs))
    pairs, relations, least = pairs[first], relations[first], _least(leaves, first)
    of_pair = _firsts(pairs[1:] != pairs[:-1], len(pairs))
    told = _least(np.where(relations == Relation.LED_TO, _NEVER_KNOWN, least), of_pair)
    told = np.repeat(told, np.diff(of_pair, append=len(pairs)))
    sources, targets = pairs // nodes, pairs % nodes
    keep = (sources != targets) & ((relations != Relation.LED_TO) | (told > least))
    return Ends(sources[keep], targets[keep], relations[keep], least[keep])


def _firsts(changes: Flags, rows: int) -> Longs:
    """Return the first row of each group, given where neighbours differ."""
    return np.concatenate([np.zeros(min(1, rows), np.int64), np.flatnonzero(changes) + 1])


def _least(leaves: Longs, first: Longs) -> Longs:
    """Return the smallest leaf of each group."""
    return np.minimum.reduceat(leaves, first) if len(first) else leaves


def _starts(ends: Longs, nodes: int) -> Longs:
    starts = np.zeros(nodes + 1, np.int64)
    np.cumsum(np.bincount(ends, minlength=nodes), out=starts[1:])
    return starts


def _established(nodes: NodeColumns) -> _Nodes:
    """Return each node that entries establish once: with the first leaf, and what that says of it."""
    keys = Words.of(nodes.keys)
    leaves = longs(nodes.leaves)
    order = keys.order()
    sorted_keys = keys.take(order)
    first = np.flatnonzero(_changes(sorted_keys))
    if len(first) and len(first) < len(order):
        order = _earliest_first(order, leaves, first)
    rows = order[first]
    topics = np.frombuffer(nodes.topics, np.uint16) if len(nodes.topics) else np.empty(0, np.uint16)
    kinds, recorded = octets(nodes.kinds)[rows], longs(nodes.recorded_us)[rows]
    return _Nodes(sorted_keys.take(first), kinds, topics[rows], leaves[rows], recorded)


def _changes(keys: Words) -> Flags:
    """Tell of each sorted key whether it is another than the one before."""
    new = np.ones(len(keys.high), np.bool_)
    new[1:] = (keys.high[1:] != keys.high[:-1]) | (keys.low[1:] != keys.low[:-1])
    return new


def _earliest_first(order: Longs, leaves: Longs, first: Longs) -> Longs:
    """Return the order with the smallest leaf of each key in front of the others of that key."""
    group = np.zeros(len(order), np.int64)
    group[first] = 1
    return order[np.lexsort((leaves[order], np.cumsum(group)))]


def _edges(told: Collected) -> _Edges:
    """Return the edges that entries say, and those that follow from two of them."""
    said = told.edges
    edges = _Edges(
        Words.of(said.sources),
        Words.of(said.targets),
        octets(said.source_kinds),
        octets(said.target_kinds),
        octets(said.relations),
        longs(said.leaves),
    )
    predictions = np.frombuffer(told.matching.predictions.keys, np.uint8).reshape(-1, KEY_BYTES)
    return _joined([edges, *(_matched(one, predictions) for one in told.matching.matched() if len(one.predictions))])


def _matched(one: Matched, predictions: Bytes) -> _Edges:
    count = len(one.predictions)
    ours = Words.of(np.ascontiguousarray(predictions[one.predictions]))
    other = Words.of(one.key)
    others = Words(np.repeat(other.high, count), np.repeat(other.low, count))
    answered = one.relation == Relation.ANSWERED
    kind = Kind.ACTIVATION if answered else Kind.WINDOW
    these, those = np.full(count, Kind.PREDICTION, np.uint8), np.full(count, kind, np.uint8)
    relations = np.full(count, one.relation, np.uint8)
    if answered:
        return _Edges(others, ours, those, these, relations, one.leaves)
    return _Edges(ours, others, these, those, relations, one.leaves)


def _joined(parts: Sequence[_Edges]) -> _Edges:
    if len(parts) == 1:
        return parts[0]
    sources = Words(*(np.concatenate([part.sources[word] for part in parts]) for word in (0, 1)))
    targets = Words(*(np.concatenate([part.targets[word] for part in parts]) for word in (0, 1)))
    columns = [np.concatenate([part[number] for part in parts]) for number in range(2, len(_Edges._fields))]
    return _Edges(sources, targets, *columns)


def _resolved(edges: _Edges, aliases: Mapping[bytes, bytes]) -> _Edges:
    """Return the edges with nodes in place of the events that stand for them."""
    if not aliases:
        return edges
    events = Words.of(b"".join(aliases))
    order = events.order()
    table, stands_for = events.take(order), Words.of(b"".join(aliases.values())).take(order)
    sources = _replaced(edges.sources, edges.source_kinds, table, stands_for)
    targets = _replaced(edges.targets, edges.target_kinds, table, stands_for)
    return edges._replace(sources=sources, targets=targets)


def _replaced(keys: Words, kinds: Bytes, table: Words, stands_for: Words) -> Words:
    """Replace keys of which only that they are events is known."""
    rows = np.flatnonzero(kinds == Kind.EVENT)
    found = table.find(keys.take(rows))
    rows, found = rows[found >= 0], found[found >= 0]
    high, low = keys.high.copy(), keys.low.copy()
    high[rows], low[rows] = stands_for.high[found], stands_for.low[found]
    return Words(high, low)


def _caused(edges: _Edges, established: Words) -> _Edges:
    """Leave out causes that are no event of the log: a command from outside, or a name that was made up."""
    rows = np.flatnonzero(edges.relations == Relation.LED_TO)
    gone = rows[established.find(edges.sources.take(rows)) < 0] if len(established.high) else rows
    keep = np.ones(len(edges.leaves), np.bool_)
    keep[gone] = False
    return edges.take(keep)


def _with_named(nodes: _Nodes, edges: _Edges) -> tuple[_Nodes, Ends]:
    """Return all nodes, those that are only named among them, and the edges by rows."""
    keys = edges.sources.join(edges.targets)
    kinds = np.concatenate([edges.source_kinds, edges.target_kinds])
    rows = nodes.keys.find(keys) if len(nodes.kinds) else np.full(len(kinds), -1, np.int64)
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        before = nodes.keys
        nodes = _enter(nodes, keys.take(missing), kinds[missing])
        moved = nodes.keys.find(before)
        rows = moved[rows] if len(moved) else rows
        rows[missing] = nodes.keys.find(keys.take(missing))
    half = len(edges.leaves)
    return nodes, Ends(rows[:half], rows[half:], edges.relations, edges.leaves)


def _enter(nodes: _Nodes, keys: Words, kinds: Bytes) -> _Nodes:
    """Return the nodes with those that are only named; each is of the highest kind that it is called."""
    order = keys.order()
    keys, kinds = keys.take(order), kinds[order]
    first = np.flatnonzero(_changes(keys))
    count = len(first)
    together = nodes.keys.join(keys.take(first))
    order = together.order()
    columns = (
        np.concatenate([nodes.kinds, np.maximum.reduceat(kinds, first)]),
        np.concatenate([nodes.topics, np.full(count, NO_TOPIC, np.uint16)]),
        np.concatenate([nodes.leaves, np.full(count, -1, np.int64)]),
        np.concatenate([nodes.recorded_us, np.full(count, NEVER, np.int64)]),
    )
    return _Nodes(together.take(order), *(column[order] for column in columns))


def _known(nodes: _Nodes, ends: Ends) -> Longs:
    known = np.where(nodes.leaves < 0, _NEVER_KNOWN, nodes.leaves)
    for rows in (ends.sources, ends.targets):
        np.minimum.at(known, rows, ends.leaves)
    return known


def _topics(nodes: _Nodes, ends: Ends, told: Collected) -> "np.ndarray[tuple[int], np.dtype[np.uint16]]":
    """Return the topics of the nodes; of a record that is only named, the one that its place says."""
    topics = nodes.topics.copy()
    if told.places:
        rows = nodes.keys.find(Words.of(b"".join(told.places)))
        topics[rows] = np.fromiter(told.places.values(), np.uint16, len(rows))
    numbers = {topic: number for number, topic in enumerate(told.topics)}
    source_of = np.full(NO_TOPIC + 1, NO_TOPIC, np.uint16)
    for topic, number in numbers.items():
        if topic.startswith(ACCEPTED_TOPICS):
            source_of[number] = numbers.get(SOURCE_TOPICS + topic.removeprefix(ACCEPTED_TOPICS), NO_TOPIC)
    accepted = ends.relations == Relation.ACCEPTED_AS
    sources, targets = ends.sources[accepted], ends.targets[accepted]
    unknown = topics[sources] == NO_TOPIC
    topics[sources[unknown]] = source_of[topics[targets[unknown]]]
    return topics


def _names(nodes: _Nodes, told: Collected) -> dict[int, str]:
    rows = nodes.keys.find(Words.of(b"".join(told.names))).tolist() if told.names else []
    return dict(zip(rows, told.names.values(), strict=True))
