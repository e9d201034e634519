"""The lineage graph of a log, from a copy or from the archive, and what it answers, as documents (ADR 15)."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq

from mainstem.audit.log import Log
from mainstem.cli.copies import ARTIFACTS, NAME_NONE
from mainstem.cli.progress import bar
from mainstem.cli.replay import History, open_history
from mainstem.events.catalogue import decode, header
from mainstem.events.errors import Rejected, Undecodable
from mainstem.events.frames import Entry
from mainstem.events.instants import parse, render
from mainstem.events.training import DatasetBuilt
from mainstem.ledger_service.domain import Placed
from mainstem.lineage import Builder, Closure, Graph, Kind, Node, Sought, Step, questions
from mainstem.lineage.given import extended, rows_in
from mainstem.lineage.nodes import place, version
from mainstem.storage.artifacts import ArtifactCorrupt, ArtifactMissing, Artifacts

Facts = dict[str, Any]

#: Where what was built of a copy is kept beside it; it may be deleted.
_INDEX: Final = "index"
_DATASET: Final = DatasetBuilt.TYPE.encode()
#: Kinds that are looked for by an id that may be of any of them.
_BY_ID: Final = (Kind.EVENT, Kind.RUN, Kind.ALERT, Kind.QUARANTINED)
#: Nodes of a kind that are listed by name.
_MOST_NAMED: Final = 20


@dataclass(frozen=True, slots=True)
class Ancestry:
    """The graph, and the datasets whose rows are not in it because their table is not there."""

    graph: Graph
    closed: list[str]


async def read(copy: Path | None, artifacts: Path) -> Ancestry:
    """Build the graph of a copy, or without one of the platform's archive; one that is kept beside the copy is taken.

    `artifacts` is the store with the tables of datasets; a copy that has artifacts is its own.
    """
    kept = None if copy is None else copy / _INDEX / f"lineage-{Log(copy).checkpoint.root.hex()[:16]}.npz"
    graph, built = _load(kept)
    if graph is None:
        async with open_history(copy) as history:
            graph, built = await _build(history)
        if kept is not None:
            _keep(kept, graph, built)
    own = None if copy is None else copy / ARTIFACTS
    return _with_datasets(graph, built, Artifacts(own if own is not None and own.is_dir() else artifacts))


async def entries(copy: Path | None, *, many: bool) -> list[tuple[int, Entry]]:
    """Return entries with their leaves; but for `many` only those of topics that do not grow with every record."""
    async with open_history(copy) as history:
        return [
            placed
            async for some in history.entries(["*"], 0)
            for placed in some
            if many or not placed.entry.topic.startswith(NAME_NONE)
        ]


async def _build(history: History) -> tuple[Graph, list[DatasetBuilt]]:
    builder, datasets = Builder(), list[DatasetBuilt]()
    with bar("reading", history.size) as advance:
        async for placed in history.entries(["*"], 0):
            if placed:
                builder.take(placed[0].leaf, [entry for _, entry in placed])
                datasets += _datasets(placed)
            advance(len(placed))
    return builder.graph(history.size), datasets


def _datasets(placed: Sequence[Placed]) -> Iterator[DatasetBuilt]:
    for _, entry in placed:
        if entry.topic == DatasetBuilt.TOPIC and header(entry, "ce_type") == _DATASET:
            try:
                fact = decode(entry).fact
            except Undecodable:
                continue  # the graph counts it as unread
            if isinstance(fact, DatasetBuilt):
                yield fact


def _load(kept: Path | None) -> tuple[Graph | None, list[DatasetBuilt]]:
    if kept is None or not kept.exists():
        return None, []
    with np.load(kept) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    built = [DatasetBuilt.model_validate_json(line) for line in found.pop("datasets").tobytes().splitlines()]
    return Graph.from_arrays(found), built


def _keep(kept: Path, graph: Graph, built: Sequence[DatasetBuilt]) -> None:
    lines = b"\n".join(fact.model_dump_json().encode() for fact in built)
    kept.parent.mkdir(exist_ok=True)
    partial = kept.with_name(f".{kept.name}.new.npz")
    np.savez(partial, datasets=np.frombuffer(lines, np.uint8), **graph.to_arrays())  # type: ignore[arg-type]
    partial.replace(kept)


def _with_datasets(graph: Graph, built: Sequence[DatasetBuilt], artifacts: Artifacts) -> Ancestry:
    """Add the edges from rows to datasets, which their tables know."""
    edges, closed = [], list[str]()
    for fact in {fact.dataset: fact for fact in built}.values():
        try:
            table = pq.read_table(io.BytesIO(artifacts.get(fact.table)), columns=["spine_id"])
        except (ArtifactMissing, ArtifactCorrupt):
            closed.append(fact.dataset)
            continue
        spines = table.column("spine_id").to_pylist()
        edges.append(rows_in(graph, fact.dataset, fact.feature_set, spines).edges)
    return Ancestry(extended(graph, edges) if edges else graph, closed)


def find(graph: Graph, name: str) -> Node:
    """Return what is called so.

    That is `topic/partition/offset`, `model/version`, a content address, or an id of an event, run, alert or
    quarantined record. Raises Rejected, saying what may be named, when there is no such thing.
    """
    candidates = [Node(kind, name) for kind in _BY_ID]
    topic, _, rest = name.partition("/")
    if name.startswith("sha256:"):
        candidates = [Node(Kind.ARTIFACT, name)]
    elif rest.count("/") == 1 and rest.replace("/", "").isdecimal():
        candidates = [place(topic, *map(int, rest.split("/")))]
    elif rest.isdecimal():
        candidates = [version(topic, int(rest))]
    for node in candidates:
        if graph.rows(node.key)[0] >= 0:
            return node
    raise Rejected(
        f"no entry among the first {graph.size} speaks of {name!r}; name a place (src.orders/0/17), a version "
        "(storm/3), a content address, or the whole id of an event, run, alert or quarantined record"
    )


def reached(ancestry: Ancestry, closure: Closure) -> Facts:
    """Return what was reached, by kind: how many, and the first by name."""
    graph = ancestry.graph
    kinds = {kind.name.lower(): _some(graph, closure.of(kind).tolist()) for kind in closure.by_kind()}
    return {"size": graph.size, "reached": len(closure), "kinds": kinds, **_gaps(ancestry)}


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
    return {"withheld": graph.size - graph.read, "unread": unread, "datasets_without_rows": ancestry.closed}


def absent(ancestry: Ancestry, name: str, prefix: str) -> Facts:
    """Return whether nothing whose topic or name begins with a prefix is behind something."""
    graph = ancestry.graph
    found = questions.absence(graph, [find(graph, name)], Sought(prefix=prefix))
    return {
        "of": name,
        "sought": prefix,
        "absent": found.absent,
        "proven": found.proven and not ancestry.closed,
        "behind": len(found.closure),
        "leaves_read": found.read,
        "found": len(found.found),
        "path": [step(graph, one) for one in found.counterexample],
        "unestablished": [named(graph, row) for row in found.unestablished[:_MOST_NAMED].tolist()],
        **_gaps(ancestry),
    }


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
