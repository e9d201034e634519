"""The lineage graph of a log, from a copy or from the archive, and what it answers, as documents (ADR 15)."""

import io
import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mainstem.audit.entries import printable
from mainstem.audit.log import Log
from mainstem.cli.copies import NAME_NONE
from mainstem.cli.evidence.index import beside
from mainstem.cli.progress import bar
from mainstem.cli.replay import History, open_history
from mainstem.events.catalogue import decode
from mainstem.events.errors import Rejected, Undecodable
from mainstem.events.frames import Damaged, Entry
from mainstem.events.instants import parse, render
from mainstem.events.registry import ProjectApplied
from mainstem.events.training import DatasetBuilt
from mainstem.feature_engine import load
from mainstem.ledger_service.domain import Placed
from mainstem.lineage import Builder, Closure, Graph, Kind, Node, Sought, Step, questions
from mainstem.lineage.facts import ACCEPTED_TOPICS
from mainstem.lineage.given import extended, rows_in
from mainstem.lineage.nodes import place, version
from mainstem.project import ProjectDefinition
from mainstem.project import parse as parse_project
from mainstem.storage.artifacts import ArtifactCorrupt, ArtifactMissing, Artifacts

Facts = dict[str, Any]

_TOLD: Final = (DatasetBuilt.TOPIC, ProjectApplied.TOPIC)
_NUMBER: Final = re.compile(r"\d{1,18}", re.ASCII)
_PLACE: Final = re.compile(r"\d{1,9}/\d{1,18}", re.ASCII)
#: Kinds that are looked for by an id that may be of any of them.
_BY_ID: Final = (Kind.EVENT, Kind.RUN, Kind.ALERT, Kind.QUARANTINED)
#: Nodes of a kind that are listed by name.
_MOST_NAMED: Final = 20


class Dataset(msgspec.Struct, array_like=True):
    """What was built of what: the address of its table, the identity of its feature set, its model and its cut."""

    table: str
    feature_set: str
    model: str
    cut: str


class Told(msgspec.Struct):
    """What entries say that the graph does not hold."""

    #: By dataset.
    datasets: dict[str, "Dataset"] = {}
    #: The feature sets that were ever declared, by identity.
    sets: dict[str, dict[str, Any]] = {}
    #: Sources of the labels of models that read a set, by its identity.
    labels: dict[str, list[str]] = {}
    #: How labels are joined, as it was declared last, by model.
    models: dict[str, dict[str, Any]] = {}
    #: Leaves of definitions that cannot be read: what they declare is not known.
    unreadable: list[int] = []

    def sources(self, feature_set: str) -> list[str]:
        """Return the sources that rows of a set, and what is learnt from them, may rest on."""
        streams = load(self.sets[feature_set]).streams if feature_set in self.sets else ()
        return sorted({*streams, *self.labels.get(feature_set, ())})

    def take(self, placed: Sequence[Placed]) -> None:
        """Take entries."""
        for leaf, entry in placed:
            if entry.topic in _TOLD:
                try:
                    fact = decode(entry).fact
                except Undecodable:
                    continue  # the graph counts it as unread
                if isinstance(fact, DatasetBuilt):
                    self.datasets[fact.dataset] = Dataset(fact.table, fact.feature_set, fact.model, fact.cut)
                elif isinstance(fact, ProjectApplied):
                    try:
                        self._declare(parse_project(fact.definition))
                    except Rejected:
                        self.unreadable.append(leaf)

    def _declare(self, definition: ProjectDefinition) -> None:
        for label, part in definition.feature_sets.items():
            self.sets[part.id] = dict(part.spec)
            judged = {model.label.source for model in definition.models.values() if model.feature_set == label}
            self.labels[part.id] = sorted({*self.labels.get(part.id, ()), *judged})
        self.models |= {name: model.label.model_dump(mode="json") for name, model in definition.models.items()}


@dataclass(frozen=True, slots=True)
class Ancestry:
    """The graph, what is told besides, and the datasets whose rows are not all in it.

    Of these the table is not there, or the log lacks rows that it names.
    """

    graph: Graph
    told: Told
    closed: list[str]
    #: Feature sets whose windows could not be followed, and why.
    unfollowed: dict[str, str] = field(default_factory=dict)


async def read(copy: Path | None, artifacts: Path) -> Ancestry:
    """Build the graph of a copy, or without one of the platform's archive; one that is kept beside the copy is taken.

    `artifacts` is the store with the tables of datasets.
    """
    kept = None if copy is None else beside(Log(copy)).with_suffix(".lineage.npz")
    found = None if kept is None or not kept.exists() else _load(kept)
    if found is None:
        async with open_history(copy) as history:
            found = await _build(history)
        if kept is not None:
            _keep(kept, *found)
    return _with_datasets(*found, Artifacts(artifacts))


async def entries(copy: Path | None, leaves: Set[int] | None, *, many: bool) -> list[tuple[int, Entry]]:
    """Return entries with their leaves: those of some, or all.

    But for `many` only those of topics that do not grow with every record.
    Raises Damaged when they do not make the root of the checkpoint.
    """
    async with open_history(copy) as history:
        found: list[tuple[int, Entry]] = [
            placed
            async for some in history.entries(["*"], 0)
            for placed in some
            if (leaves is None or placed.leaf in leaves) and (many or not placed.entry.topic.startswith(NAME_NONE))
        ]
        await _require_root(history)
    return found


async def _build(history: History) -> tuple[Graph, Told]:
    builder, told = Builder(), Told()
    with bar("reading", history.size) as advance:
        async for placed in history.entries(["*"], 0):
            if placed:
                builder.take(placed[0].leaf, [entry for _, entry in placed])
                told.take(placed)
            advance(len(placed))
    await _require_root(history)
    return builder.graph(history.size), told


async def _require_root(history: History) -> None:
    """Raise Damaged when the entries, each of which was held against its hash, make another root than is said."""
    if (await history.tree()).root().hex() != history.root:
        raise Damaged(
            "the entries make another root than the checkpoint has, so they prove nothing; `mainstem audit verify` "
            "tells which of them were changed"
        )


def _load(kept: Path) -> tuple[Graph, Told] | None:
    """Return what was kept; None when it cannot be read: it is made anew then."""
    try:
        with np.load(kept) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        return Graph.from_arrays(found), msgspec.json.decode(found["told_besides"].tobytes(), type=Told)
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


def _keep(kept: Path, graph: Graph, told: Told) -> None:
    kept.parent.mkdir(exist_ok=True)
    partial = kept.with_name(f".{kept.name}.new.npz")
    besides = np.frombuffer(msgspec.json.encode(told), np.uint8)
    np.savez(partial, told_besides=besides, **graph.to_arrays())  # type: ignore[arg-type]
    partial.replace(kept)


def _with_datasets(graph: Graph, told: Told, artifacts: Artifacts) -> Ancestry:
    """Add the edges from rows to datasets, which their tables know."""
    edges, closed = [], list[str]()
    for dataset, built in told.datasets.items():
        table = table_of(artifacts, built, ["spine_id"])
        if table is None:
            closed.append(dataset)
            continue
        held = rows_in(graph, dataset, built.feature_set, table.column("spine_id").to_pylist())
        edges.append(held.edges)
        if held.missing:
            closed.append(f"{dataset} (the log lacks {len(held.missing)} of its rows, that of {held.missing[0]} first)")
    return Ancestry(extended(graph, edges) if edges else graph, told, closed)


def table_of(artifacts: Artifacts, built: Dataset, columns: list[str]) -> pa.Table | None:
    """Return columns of the table of a dataset; None when it is not there, or not the one that was built."""
    try:
        return pq.read_table(io.BytesIO(artifacts.get(built.table)), columns=columns)
    except (ArtifactMissing, ArtifactCorrupt):
        return None


def find(graph: Graph, name: str) -> int:
    """Return the row of what is called so.

    That is the leaf of an entry, a place of a source's topic, `model/version`, a content address, or an id of an event,
    run, alert or quarantined record. Raises Rejected, saying what may be named, when there is no such thing.
    """
    if _NUMBER.fullmatch(name):
        established = np.flatnonzero(graph.leaves == int(name))
        known = established[graph.known[established] < graph.size].tolist()
        if known:
            return int(known[0])
    candidates = [Node(kind, name) for kind in _BY_ID]
    topic, _, rest = name.partition("/")
    if name.startswith("sha256:"):
        candidates = [Node(Kind.ARTIFACT, name)]
    elif _PLACE.fullmatch(rest):
        candidates = [place(topic, *map(int, rest.split("/")))]
    elif _NUMBER.fullmatch(rest):
        candidates = [version(topic, int(rest))]
    for node in candidates:
        row = int(graph.rows(node.key)[0])
        if row >= 0:
            return row
    raise Rejected(
        f"no entry among the first {graph.size} speaks of {printable(name[:80])!r}; name a leaf, a place of a source "
        "(src.orders/0/17), a version (storm/3), a content address, or the whole id of an event, run, alert or "
        "quarantined record"
    )


def reached(ancestry: Ancestry, closure: Closure) -> Facts:
    """Return what was reached, by kind: how many, and the first by name."""
    graph = ancestry.graph
    kinds = {kind.name.lower(): _some(graph, closure.of(kind).tolist()) for kind in closure.by_kind()}
    return {
        "size": graph.size,
        "reached": len(closure),
        "kinds": kinds,
        "windows_not_followed": ancestry.unfollowed,
        **_gaps(ancestry),
    }


def windows_behind(ancestry: Ancestry, closure: Closure) -> list[str]:
    """Return the sources that rows behind something count in their windows, or take their labels from.

    Which of their records that are, row by row, is no edge of the graph: `impact` follows it from a record on.
    """
    sets = [ancestry.graph.names.get(row, "") for row in closure.of(Kind.DEFINITION).tolist()]
    return sorted({source for identity in sets for source in ancestry.told.sources(identity)})


def around(graph: Graph, names: Sequence[str]) -> Set[int]:
    """Return the leaves of what is called so, of what that was made of, and of what it went into."""
    rows = [find(graph, name) for name in names]
    both = [questions.backward(graph, rows).rows, questions.forward(graph, rows).rows, np.array(rows, np.int64)]
    return set(graph.leaves[np.concatenate(both)].tolist())


def _some(graph: Graph, rows: Sequence[int]) -> Facts:
    return {"count": len(rows), "first": [named(graph, row) for row in rows[:_MOST_NAMED]]}


def named(graph: Graph, row: int) -> str:
    """Return how people name a node: by its id where it has one of its own, else by its leaf."""
    found = graph.named(row)
    return found.id or (f"leaf {found.leaf}" if found.leaf is not None else "not in this log")


def _gaps(ancestry: Ancestry) -> Facts:
    graph = ancestry.graph
    unread = {
        f"{topic} {kind or 'without a type'}": found
        for (topic, kind), found in graph.unread.by_kind(graph.size).items()
    }
    return {
        "withheld": graph.size - graph.read,
        "unread": unread,
        "definitions_unread": [f"leaf {leaf}" for leaf in ancestry.told.unreadable],
        "datasets_without_rows": ancestry.closed,
    }


#: How what may be sought begins, whether or not the log has it.
_SOUGHT = ("src.", "evt.", "tel.", "state.", "sha256:")


def absent(ancestry: Ancestry, name: str, prefix: str) -> Facts:
    """Return whether nothing whose topic or name begins with a prefix is behind something.

    A source that a feature set behind it reads, or that its labels come from, counts as behind it.
    """
    graph = ancestry.graph
    if not prefix.startswith(_SOUGHT) and not any(each.startswith(prefix) for each in graph.names.values()):
        raise Rejected(
            f"nothing in the log is called {printable(prefix[:80])!r}, so that it is absent says nothing; name a topic "
            "(src.orders), an address (sha256:), or an id"
        )
    found = questions.absence(graph, [find(graph, name)], Sought(prefix=prefix))
    read_by = list(_read_by(ancestry, found.closure, prefix))
    return {
        "of": name,
        "sought": prefix,
        "proven": found.proven and not read_by and not ancestry.closed and not ancestry.told.unreadable,
        "absent": found.absent and not read_by,
        "behind": len(found.closure),
        "leaves_read": found.read,
        "found": len(found.found),
        "read_by": read_by,
        "path": [step(graph, one) for one in found.counterexample],
        "unestablished": [named(graph, row) for row in found.unestablished[:_MOST_NAMED].tolist()],
        **_gaps(ancestry),
    }


def _read_by(ancestry: Ancestry, closure: Closure, prefix: str) -> Iterator[str]:
    """Yield what feature sets of a closure read of what is sought."""
    for row in closure.of(Kind.DEFINITION).tolist():
        identity = ancestry.graph.names.get(row, "")
        for source in ancestry.told.sources(identity):
            topics = f"src.{source}", f"{ACCEPTED_TOPICS}{source}"
            if any(topic.startswith(prefix) or prefix.startswith(f"{topic}/") for topic in topics):
                yield f"{source} by feature set {identity}"


def step(graph: Graph, one: Step) -> Facts:
    """Return an edge of a path, with the leaf of the entry that establishes it."""
    ends = {"from": named(graph, one.source), "to": named(graph, one.target)}
    return {**ends, "relation": one.relation.name.lower(), "leaf": one.leaf}


def in_force(graph: Graph, at: str | None) -> Facts:
    """Return what is in force: at the end of what is known, or at a moment (RFC 3339)."""
    at_us = None if at is None else _moment(at)
    return {"size": graph.size, "at": None if at_us is None else render(at_us), **asdict(questions.state(graph, at_us))}


def _moment(at: str) -> int:
    try:
        return parse(at)
    except ValueError as fault:
        raise Rejected(f"{at!r} is no moment: give RFC 3339 in UTC, as 2024-03-01T00:00:00Z") from fault


def difference(graph: Graph, before: int, after: int) -> Facts:
    """Return what the leaves between two sizes brought; raise Rejected when the sizes do not rise."""
    try:
        found = questions.difference(graph, before, after)
    except ValueError as fault:
        raise Rejected(str(fault)) from fault
    return {
        "before": before,
        "after": after,
        "nodes": {kind.name.lower(): _some(graph, rows.tolist()) for kind, rows in found.nodes.items()},
        "edges": {relation.name.lower(): count for relation, count in found.edges.items()},
        "in_force_before": asdict(found.before),
        "in_force_after": asdict(found.after),
    }
