"""One pass over the entries of a log, and the graph that they give."""

from array import array
from collections.abc import Sequence
from typing import Final

from mainstem.events.catalogue import decode
from mainstem.events.envelope import Event
from mainstem.events.errors import Undecodable
from mainstem.events.frames import Entry
from mainstem.events.instants import parse
from mainstem.lineage.assembly import Collected, assemble
from mainstem.lineage.columns import EdgeColumns, NodeColumns
from mainstem.lineage.facts import ACCEPTED_TOPICS, LEFT_OUT, SOURCE_TOPICS, Known, Said, read
from mainstem.lineage.graph import Graph, Unread
from mainstem.lineage.matching import Matching
from mainstem.lineage.nodes import EVENT_PREFIX, NAMELESS, Edge, Kind, Node, Relation, digest
from mainstem.lineage.state import Change, change
from mainstem.lineage.streams import Placed, Streams, taken_us

_LEFT_OUT: Final = frozenset(fact.TYPE.encode() for fact in LEFT_OUT)


class Builder:
    """Takes the entries of a log in the order of their leaves. Entries that cannot be read are counted, never raised.

    What comes of it depends on the entries alone and not on how they were dealt out to `take`, as long as each call
    has entries with consecutive leaves and the leaves of later calls are higher; what lies between was not read.
    """

    def __init__(self) -> None:
        self._nodes = NodeColumns()
        self._edges = EdgeColumns()
        self._matching = Matching()
        self._known = Known()
        self._topics: dict[str, int] = {}
        self._aliases: dict[bytes, bytes] = {}
        self._names: dict[bytes, str] = {}
        self._places: dict[bytes, int] = {}
        self._streams = Streams((self._nodes, self._edges), self._matching, self._topics, self._names)
        self._changes: list[Change] = []
        self._spans: list[tuple[int, int]] = []
        self._unread_leaves: array[int] = array("q")
        self._unread_codes: array[int] = array("q")
        self._unread: dict[tuple[str, str], int] = {}

    def take(self, first_leaf: int, entries: Sequence[Entry]) -> None:
        """Take entries; the first stands at `first_leaf`. Raises ValueError when that lies before what was taken."""
        self._span(first_leaf, len(entries))
        records: list[tuple[int, Entry]] = []
        batches: dict[bytes, list[Placed]] = {}
        for leaf, entry in enumerate(entries, first_leaf):
            topic = entry.topic
            if topic not in self._topics:
                self._enter(topic)
            if topic.startswith(SOURCE_TOPICS):
                records.append((leaf, entry))
                continue
            headers = dict(entry.headers)
            type_ = headers.get("ce_type") or b""
            if type_ in self._streams.readers:
                batches.setdefault(type_, []).append(Placed(leaf, entry, headers))
            elif type_ not in _LEFT_OUT:
                self._tell(Placed(leaf, entry, headers))
        if records:
            self._streams.records(records)
        for type_, batch in batches.items():
            for unread in self._streams.readers[type_](batch):
                self._pass_over(unread)

    def graph(self, size: int | None = None) -> Graph:
        """Return the graph of what was taken, as that of a log of `size` leaves: by default, up to the last one taken.

        Raises ValueError when more was taken than that.
        """
        end = self._spans[-1][1] if self._spans else 0
        if size is not None and size < end:
            raise ValueError(f"leaves up to {end} were taken, which a log of {size} has not; ask graph.as_of({size})")
        told = Collected(
            nodes=self._nodes,
            edges=self._edges,
            matching=self._matching,
            aliases=self._aliases,
            names=self._names,
            places=self._places,
            topics=list(self._topics),
            changes=tuple(self._changes),
            spans=tuple(self._spans),
            unread=Unread(list(self._unread), array("q", self._unread_leaves), array("q", self._unread_codes)),
        )
        return assemble(told, end if size is None else size)

    def _span(self, first: int, count: int) -> None:
        end = self._spans[-1][1] if self._spans else 0
        if first < end:
            raise ValueError(f"leaf {first} comes after leaf {end - 1}; take the entries in the order of their leaves")
        if self._spans and first == end:
            self._spans[-1] = (self._spans[-1][0], first + count)
        elif count:
            self._spans.append((first, first + count))

    def _enter(self, topic: str) -> None:
        """Give a topic its number, and the one that its records are accepted from: they may be named, and not there."""
        if topic.startswith(ACCEPTED_TOPICS):
            self._topics.setdefault(SOURCE_TOPICS + topic.removeprefix(ACCEPTED_TOPICS), len(self._topics))
        self._topics.setdefault(topic, len(self._topics))

    def _tell(self, placed: Placed) -> None:
        """Take an event that is not one of very many."""
        try:
            event = decode(placed.entry)
        except Undecodable:
            self._pass_over(placed)
            return
        said = read(event, self._known)
        if said is not None:
            self._keep(placed, event, said)

    def _keep(self, placed: Placed, event: Event, said: Said) -> None:
        leaf, envelope = placed.leaf, event.envelope
        self._matching.take(event.fact, envelope, leaf)
        self._aliases[digest(EVENT_PREFIX + envelope.id.encode())] = said.subject.key
        made = dict.fromkeys([said.subject, *(edge.target for edge in said.edges)])
        for one in made:
            self._establish(one, placed, envelope.recorded_us)
        for edge in said.edges:
            self._link(edge, leaf)
        try:
            changed = change(event, leaf)
        except ValueError:
            self._count(placed)
            return
        if changed is not None:
            self._changes.append(changed)

    def _establish(self, one: Node, placed: Placed, recorded_us: int) -> None:
        self._nodes.extend([one.key], one.kind, [self._topics[placed.entry.topic]], [placed.leaf], [recorded_us])
        self._name(one)

    def _link(self, edge: Edge, leaf: int) -> None:
        kinds = edge.source.kind, edge.target.kind
        self._edges.extend([edge.source.key], [edge.target.key], kinds, edge.relation, [leaf])
        self._name(edge.source)

    def _name(self, one: Node) -> None:
        if one.kind not in NAMELESS:
            self._names[one.key] = one.id
        elif one.kind is Kind.RECORD:
            topic = one.id.rsplit("/", 2)[0]
            self._places[one.key] = self._topics.setdefault(topic, len(self._topics))

    def _pass_over(self, placed: Placed) -> None:
        """Count what cannot be read; if it is an event at all, it still has its cause."""
        self._count(placed)
        id_, cause = placed.headers.get("ce_id"), placed.headers.get("ce_causationid")
        if id_:
            key, topic = digest(EVENT_PREFIX + id_), self._topics[placed.entry.topic]
            self._nodes.extend([key], Kind.EVENT, [topic], [placed.leaf], [_recorded_us(placed)])
            if cause:
                kinds = Kind.EVENT, Kind.EVENT
                self._edges.extend([digest(EVENT_PREFIX + cause)], [key], kinds, Relation.LED_TO, [placed.leaf])

    def _count(self, placed: Placed) -> None:
        type_ = (placed.headers.get("ce_type") or b"").decode(errors="replace")
        code = self._unread.setdefault((placed.entry.topic, type_), len(self._unread))
        self._unread_leaves.append(placed.leaf)
        self._unread_codes.append(code)


def _recorded_us(placed: Placed) -> int:
    try:
        return parse((placed.headers.get("ce_recordedtime") or b"").decode())
    except ValueError:
        return taken_us(placed.entry)
