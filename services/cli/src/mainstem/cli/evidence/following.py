"""Records of a copy, followed to where the graph of entries alone does not lead: into windows, and through labels."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from mainstem.audit.log import Log
from mainstem.cli.evidence.ancestry import Ancestry, table_of
from mainstem.cli.evidence.index import Index
from mainstem.cli.evidence.influence import Influence
from mainstem.events.errors import Rejected
from mainstem.feature_engine import load
from mainstem.lineage import Graph, Kind, Node, Relation, questions
from mainstem.lineage.columns import Ends
from mainstem.lineage.declared import Dataset
from mainstem.lineage.facts import ACCEPTED_TOPICS
from mainstem.lineage.given import Labels, counted_in, extended, labelled
from mainstem.storage.artifacts import Artifacts

_ACCEPTING: Final = (Relation.ACCEPTED_AS, Relation.QUARANTINED_AS, Relation.CORRECTED_AS)


def followed(ancestry: Ancestry, copy: Path, artifacts: Artifacts, rows: Sequence[int]) -> Ancestry:
    """Add the edges from some records to the rows that count them in their windows, and to what they are labels of."""
    graph, index = ancestry.graph, Index(Log(copy))
    found = [(row, _stream(graph, row)) for asked in rows for row in _accepted(graph, asked)]
    edges, unfollowed = list(_labelled(ancestry, index, artifacts, {stream for _, stream in found})), dict[str, str]()
    for identity, declared in ancestry.declared.sets.items():
        compiled = load(declared.spec)
        read = [(row, stream) for row, stream in found if stream in compiled.streams]
        if not read or graph.rows(Node(Kind.DEFINITION, identity).key)[0] < 0:
            continue
        try:
            influence = Influence(compiled, index.columns(compiled))
        except Rejected as fault:
            unfollowed[identity] = str(fault)
            continue
        for row, stream in read:
            leaves = influence.leaves(stream, int(graph.leaves[row]))
            edges.append(counted_in(graph, row, identity, leaves))
    return replace(ancestry, graph=extended(graph, edges) if edges else graph, unfollowed=unfollowed)


def _labelled(ancestry: Ancestry, index: Index, artifacts: Artifacts, streams: set[str]) -> Iterator[Ends]:
    """Yield the edges from the records of streams to the datasets and windows that they are labels of."""

    def asked(dataset: Dataset) -> Iterator[tuple[str, int]] | None:
        table = table_of(artifacts, dataset, ["entity", "event_time"])
        if table is None:
            return None
        times = table.column("event_time").cast(pa.int64()).to_pylist()
        return zip(table.column("entity").to_pylist(), times, strict=True)

    for joined in ancestry.declared.joined():
        if joined.label.source in streams:
            entries = index.entries(index.leaves(Labels(joined.model, joined.label).topics).tolist())
            yield from labelled(ancestry.graph, joined, entries, asked)


def _accepted(graph: Graph, row: int) -> list[int]:
    """Return the rows of the accepted records that a node is, or led to."""
    if graph.kinds[row] == Kind.ACCEPTED:
        return [row]
    reached = questions.forward(graph, [row], _ACCEPTING).rows
    return [each for each in reached.tolist() if graph.kinds[each] == Kind.ACCEPTED]


def _stream(graph: Graph, row: int) -> str:
    topic: str = graph.topic_names[graph.topics[row]]
    return topic.removeprefix(ACCEPTED_TOPICS)
