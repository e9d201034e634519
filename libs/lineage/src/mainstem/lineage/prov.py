"""PROV-JSON: what events say as entities, activities and agents, each statement with its leaf and event id.

https://www.w3.org/submissions/prov-json/; the relations are those of PROV-DM. Any entries of a log make a document:
all of it, or those that a closure leads to.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from mainstem.events.catalogue import decode
from mainstem.events.envelope import Envelope, Event
from mainstem.events.errors import Undecodable
from mainstem.events.fact import Fact
from mainstem.events.frames import Entry
from mainstem.events.instants import render
from mainstem.events.serving import Predicted
from mainstem.lineage.facts import SOURCE_TOPICS, Known, Said, read
from mainstem.lineage.matching import Matching
from mainstem.lineage.nodes import Edge, Kind, Node, Relation, place

Json = dict[str, object]

PREFIX: Final = "mainstem"
NAMESPACE: Final = "urn:mainstem:lineage:"
#: What takes its time or is somebody's act; all else is a thing.
ACTIVITIES: Final = frozenset((Kind.RUN, Kind.APPROVAL, Kind.PROMOTION, Kind.ACTIVATION, Kind.RESPONSE))

_SERVICES: Final = "/mainstem/"
#: The relation of two nodes by whether they are activities, source first: its name, and what it calls the two.
_RELATIONS: Final = {
    (False, False): ("wasDerivedFrom", "prov:usedEntity", "prov:generatedEntity"),
    (False, True): ("used", "prov:entity", "prov:activity"),
    (True, False): ("wasGeneratedBy", "prov:activity", "prov:entity"),
    (True, True): ("wasInformedBy", "prov:informant", "prov:informed"),
}
_TIMED: Final = ("used", "wasGeneratedBy")


class Written(NamedTuple):
    """A document, and the leaves of the entries that are no events of a known type and so have no part in it."""

    document: Json
    unread: list[int]


class _Statement(NamedTuple):
    """An entry that was read."""

    leaf: int
    event: Event
    said: Said


def write(placed: Iterable[tuple[int, Entry]], only: Collection[int] | None = None) -> Written:
    """Return what entries say, given with their leaves in the order of these; with `only`, what those of some say.

    What the others declare, approve, produce and activate still counts: a part that was there is not declared anew.

    Causes that were not given are left out; what is named and not stated is an entity, or an activity, of which only
    the name is known.
    """
    writer, known, statements, unread = _Writer(), Known(), dict[int, _Statement](), list[int]()
    for leaf, entry in placed:
        chosen = only is None or leaf in only
        if entry.topic.startswith(SOURCE_TOPICS):
            if chosen:
                writer.record(leaf, entry)
            continue
        try:
            event = decode(entry)
        except Undecodable:
            unread += [leaf] if chosen else []
            continue
        said = read(event, known)
        if said is not None:
            statements[leaf] = _Statement(leaf, event, said)
    stands_for = {event.envelope.id: said.subject for _, event, said in statements.values()}
    told = {leaf: one for leaf, one in statements.items() if only is None or leaf in only}
    for statement in told.values():
        writer.state(statement, stands_for)
    for edge, leaf in _matched(list(statements.values())):
        if leaf in told:
            writer.edge(edge, stands_for, told[leaf])
    return Written(writer.document(), unread)


@dataclass(slots=True)
class _Writer:
    """Gathers statements by their kind."""

    _parts: dict[str, dict[str, Json]] = field(default_factory=dict)
    _count: int = 0

    def document(self) -> Json:
        """Return all of it."""
        return {"prefix": {PREFIX: NAMESPACE}, **self._parts}

    def record(self, leaf: int, entry: Entry) -> None:
        """State that a record of a source is there."""
        said: Json = {f"{PREFIX}:leaf": leaf}
        with suppress(OverflowError):  # an instant that no calendar has is left out
            said[f"{PREFIX}:appended"] = render(entry.timestamp * 1000)
        self._node(place(entry.topic, entry.partition, entry.offset), said)

    def state(self, statement: _Statement, stands_for: dict[str, Node]) -> None:
        """State what an event says."""
        leaf, event, said = statement
        proof = _proof(leaf, event.envelope)
        self._node(said.subject, {**proof, f"{PREFIX}:recorded": render(event.envelope.recorded_us)})
        for edge in said.edges:
            self.edge(edge, stands_for, statement)
        self._agents(said.subject, event, proof)

    def edge(self, edge: Edge, stands_for: dict[str, Node], statement: _Statement) -> None:
        """State an edge, by the entry with which it is known."""
        envelope = statement.event.envelope
        source, target = (_resolved(one, stands_for) for one in (edge.source, edge.target))
        caused_outside = edge.relation is Relation.LED_TO and source.kind is Kind.EVENT and source.id not in stands_for
        if caused_outside or source == target:
            return
        for one in (source, target):
            self._node(one, {})
        name, of_source, of_target = _RELATIONS[source.kind in ACTIVITIES, target.kind in ACTIVITIES]
        ends: Json = {of_source: _id(source), of_target: _id(target)}
        when: Json = {"prov:time": render(envelope.recorded_us)} if name in _TIMED else {}
        self._relate(
            name, {**ends, **when, f"{PREFIX}:relation": edge.relation.name.lower(), **_proof(statement.leaf, envelope)}
        )

    def _agents(self, subject: Node, event: Event, proof: Json) -> None:
        """State who acted, and for whom a service did."""
        actor = self._agent(event.envelope.actor)
        if subject.kind in ACTIVITIES:
            ends: Json = {"prov:activity": _id(subject), "prov:agent": actor}
            self._relate("wasAssociatedWith", {**ends, **proof})
        else:
            self._relate("wasAttributedTo", {"prov:entity": _id(subject), "prov:agent": actor, **proof})
        asked_by = _asked_by(event.fact)
        if asked_by and asked_by != event.envelope.actor and event.envelope.actor.startswith(_SERVICES):
            ends = {"prov:delegate": actor, "prov:responsible": self._agent(asked_by)}
            during: Json = {"prov:activity": _id(subject)} if subject.kind in ACTIVITIES else {}
            self._relate("actedOnBehalfOf", {**ends, **during, **proof})

    def _agent(self, name: str) -> str:
        kind = "prov:SoftwareAgent" if name.startswith(_SERVICES) else "prov:Person"
        identity = f"{PREFIX}:agent/{name}"
        type_ = {"$": kind, "type": "prov:QUALIFIED_NAME"}
        self._parts.setdefault("agent", {}).setdefault(identity, {"prov:type": type_})
        return identity

    def _node(self, one: Node, said: Json) -> None:
        """Enter a node; the first entry that says more of it than its name is kept."""
        part = self._parts.setdefault("activity" if one.kind in ACTIVITIES else "entity", {})
        there = part.setdefault(_id(one), {f"{PREFIX}:kind": one.kind.name.lower()})
        if f"{PREFIX}:leaf" not in there:
            there.update(said)

    def _relate(self, name: str, said: Json) -> None:
        self._count += 1
        self._parts.setdefault(name, {})[f"_:{self._count}"] = said


def _matched(statements: Sequence[_Statement]) -> Iterator[tuple[Edge, int]]:
    """Yield the edges that two entries say together, each with the leaf of the later one."""
    matching, nodes, predictions = Matching(), dict[bytes, Node](), list[Node]()
    for leaf, event, said in statements:
        matching.take(event.fact, event.envelope, leaf)
        nodes[said.subject.key] = said.subject
        if isinstance(event.fact, Predicted):
            predictions.append(said.subject)
    for found in matching.matched():
        other = nodes[found.key]
        for number, leaf in zip(found.predictions.tolist(), found.leaves.tolist(), strict=True):
            ends = (other, predictions[number])
            source, target = ends if found.relation is Relation.ANSWERED else ends[::-1]
            yield Edge(source, found.relation, target), leaf


def _proof(leaf: int, envelope: Envelope) -> Json:
    return {f"{PREFIX}:leaf": leaf, f"{PREFIX}:event": envelope.id}


def _resolved(one: Node, stands_for: dict[str, Node]) -> Node:
    """Return what an event stands for, where only that it is an event is known."""
    return stands_for.get(one.id, one) if one.kind is Kind.EVENT else one


def _id(one: Node) -> str:
    return f"{PREFIX}:{one.kind.name.lower()}/{one.id}"


def _asked_by(fact: Fact) -> str | None:
    """Return who asked for what a fact tells."""
    name = getattr(fact, "requested_by", None)
    return name if isinstance(name, str) else None
