"""The lineage graph of a log, from a copy or from the archive, and what it answers, as documents (ADR 15)."""

import io
import re
from collections.abc import Sequence, Set
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
from mainstem.events.errors import Rejected
from mainstem.events.frames import Damaged, Entry
from mainstem.events.instants import parse, render
from mainstem.ledger_service.domain import Placed
from mainstem.lineage import Builder, Closure, Graph, Kind, Node, Sought, Step, questions
from mainstem.lineage.declared import Dataset, Declared, sources_behind
from mainstem.lineage.facts import ACCEPTED_TOPICS
from mainstem.lineage.given import extended, rows_in
from mainstem.lineage.nodes import place, version
from mainstem.storage.artifacts import ArtifactCorrupt, ArtifactMissing, Artifacts

Facts = dict[str, Any]

_NUMBER: Final = re.compile(r"\d{1,18}", re.ASCII)
_PLACE: Final = re.compile(r"\d{1,9}/\d{1,18}", re.ASCII)
#: Kinds that are looked for by an id that may be of any of them.
_BY_ID: Final = (Kind.EVENT, Kind.RUN, Kind.ALERT, Kind.QUARANTINED)
#: Nodes of a kind that are listed by name.
_MOST_NAMED: Final = 20


@dataclass(frozen=True, slots=True)
class Ancestry:
    """The graph, what is told besides, and the datasets whose rows are not all in it.

    Of these the table is not there, or the log lacks rows that it names.
    """

    graph: Graph
    declared: Declared
    closed: list[str]
    #: Feature sets whose windows could not be followed, and why.
    unfollowed: dict[str, str] = field(default_factory=dict)


async def read(copy: Path | None, artifacts: Path, size: int | None = None) -> Ancestry:
    """Build the graph of a copy, or without one of the platform's archive; one that is kept beside the copy is taken.

    `artifacts` is the store with the tables of datasets. With `size` it is what the first so many leaves say. Raises
    Rejected when there are fewer.
    """
    kept = None if copy is None else beside(Log(copy)).with_suffix(".lineage.npz")
    found = None if kept is None or not kept.exists() else _load(kept)
    if found is None:
        async with open_history(copy) as history:
            found = await _build(history)
        if kept is not None:
            _keep(kept, *found)
    graph, declared = found
    try:
        known = graph if size is None else graph.as_of(size)
    except ValueError as fault:
        raise Rejected(str(fault)) from fault
    return _with_datasets(known, declared.as_of(known.size), Artifacts(artifacts))


async def entries(copy: Path | None, leaves: Set[int] | None, *, many: bool) -> list[tuple[int, Entry]]:
    """Return entries with their leaves: all of topics that do not grow with every record, and for `many` the others.

    Of these others, with `leaves`, those of some. Raises Damaged when all do not make the root of the checkpoint.
    """

    def wanted(placed: Placed) -> bool:
        if placed.entry.topic.startswith(NAME_NONE):
            return many and (leaves is None or placed.leaf in leaves)
        return True

    async with open_history(copy) as history:
        found: list[tuple[int, Entry]] = [
            placed async for some in history.entries(["*"], 0) for placed in some if wanted(placed)
        ]
        await _require_root(history)
    return found


async def _build(history: History) -> tuple[Graph, Declared]:
    builder, declared = Builder(), Declared.none()
    with bar("reading", history.size) as advance:
        async for placed in history.entries(["*"], 0):
            if placed:
                builder.take(placed[0].leaf, [entry for _, entry in placed])
                declared.take(placed)
            advance(len(placed))
    await _require_root(history)
    return builder.graph(history.size), declared


async def _require_root(history: History) -> None:
    """Raise Damaged when the entries, each of which was held against its hash, make another root than is said."""
    if (await history.tree()).root().hex() != history.root:
        raise Damaged(
            "the entries make another root than the checkpoint has, so they prove nothing; `mainstem audit verify` "
            "tells which of them were changed"
        )


def _load(kept: Path) -> tuple[Graph, Declared] | None:
    """Return what was kept; None when it cannot be read: it is made anew then."""
    try:
        with np.load(kept) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        return Graph.from_arrays(found), msgspec.json.decode(found["declared"].tobytes(), type=Declared)
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


def _keep(kept: Path, graph: Graph, declared: Declared) -> None:
    kept.parent.mkdir(exist_ok=True)
    partial = kept.with_name(f".{kept.name}.new.npz")
    told = np.frombuffer(msgspec.json.encode(declared), np.uint8)
    np.savez(partial, declared=told, **graph.to_arrays())  # type: ignore[arg-type]
    partial.replace(kept)


def _with_datasets(graph: Graph, declared: Declared, artifacts: Artifacts) -> Ancestry:
    """Add the edges from rows to datasets, which their tables know."""
    edges, closed = [], list[str]()
    for dataset, built in declared.datasets().items():
        table = table_of(artifacts, built, ["spine_id"])
        if table is None:
            closed.append(dataset)
            continue
        held = rows_in(graph, dataset, built.feature_set, table.column("spine_id").to_pylist())
        edges.append(held.edges)
        if held.missing:
            closed.append(f"{dataset} (the log lacks {len(held.missing)} of its rows, that of {held.missing[0]} first)")
    return Ancestry(extended(graph, edges) if edges else graph, declared, closed)


def table_of(artifacts: Artifacts, built: Dataset, columns: list[str]) -> pa.Table | None:
    """Return columns of the table of a dataset; None when it is not there, or not the one that was built."""
    if built.table is None:
        return None
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


def windows_behind(ancestry: Ancestry, rows: Sequence[int]) -> list[str]:
    """Return the sources that rows behind something count in their windows, or that its labels come from.

    Which of their records that are, row by row, is no edge of the graph: `impact` follows it from a record on.
    """
    return sorted({source for source, _ in sources_behind(ancestry.graph, ancestry.declared, rows)})


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
        "definitions_unread": [f"leaf {leaf}" for leaf in ancestry.declared.unreadable],
        "labels_unknown": ancestry.declared.unjoined(),
        "datasets_without_rows": ancestry.closed,
    }


#: How what may be sought begins, whether or not the log has it.
_SOUGHT = ("src.", "evt.", "tel.", "state.", "sha256:")


def absent(ancestry: Ancestry, name: str, prefix: str) -> Facts:
    """Return whether nothing whose topic or name begins with a prefix is behind something.

    A source that a feature set behind it reads, or that its labels come from, counts as behind it.
    """
    graph = ancestry.graph
    called = (row for row, each in graph.names.items() if each.startswith(prefix))
    if not prefix.startswith(_SOUGHT) and not any(graph.known[row] < graph.size for row in called):
        raise Rejected(
            f"nothing in the log is called {printable(prefix[:80])!r}, so that it is absent says nothing; name a topic "
            "(src.orders), an address (sha256:), or an id"
        )
    rows = [find(graph, name)]
    found = questions.absence(graph, rows, Sought(prefix=prefix))
    declared = ancestry.declared
    behind = sources_behind(graph, declared, rows)
    read_by = [f"{source} by {reader}" for source, reader in behind if _is_of(source, prefix)]
    unknown = bool(ancestry.closed or declared.unreadable or declared.unjoined())
    return {
        "of": name,
        "sought": prefix,
        "proven": found.proven and not read_by and not unknown,
        "absent": found.absent and not read_by,
        "behind": len(found.closure),
        "leaves_read": found.read,
        "found": len(found.found),
        "read_by": read_by,
        "path": [step(graph, one) for one in found.counterexample],
        "unestablished": [named(graph, row) for row in found.unestablished[:_MOST_NAMED].tolist()],
        **_gaps(ancestry),
    }


def _is_of(source: str, prefix: str) -> bool:
    """Tell whether records of a source are among what is sought."""
    topics = f"src.{source}", f"{ACCEPTED_TOPICS}{source}"
    return any(topic.startswith(prefix) or prefix.startswith(f"{topic}/") for topic in topics)


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
