"""Records of a copy, followed to where the graph of entries alone does not lead: into windows, and through labels."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final

import pyarrow as pa

from mainstem.audit.log import Log
from mainstem.cli.evidence.ancestry import Ancestry, table_of
from mainstem.cli.evidence.index import Index
from mainstem.cli.evidence.influence import Influence
from mainstem.events.errors import Rejected
from mainstem.events.instants import parse
from mainstem.events.serving import Predicted
from mainstem.feature_engine import load
from mainstem.lineage import Graph, Kind, Node, Relation, questions
from mainstem.lineage.columns import Ends
from mainstem.lineage.facts import ACCEPTED_TOPICS
from mainstem.lineage.given import Labels, counted_in, extended
from mainstem.project import Label
from mainstem.storage.artifacts import Artifacts

_ACCEPTING: Final = (Relation.ACCEPTED_AS, Relation.QUARANTINED_AS, Relation.CORRECTED_AS)
_BATCH: Final = 10_000


def followed(ancestry: Ancestry, copy: Path, artifacts: Artifacts, rows: Sequence[int]) -> Ancestry:
    """Add the edges from some records to the rows that count them in their windows, and to what they are labels of."""
    graph, index = ancestry.graph, Index(Log(copy))
    found = [(row, _stream(graph, row)) for asked in rows for row in _accepted(graph, asked)]
    edges, unfollowed = list(_labelled(ancestry, index, artifacts, {stream for _, stream in found})), dict[str, str]()
    for identity, spec in ancestry.told.sets.items():
        compiled = load(spec)
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
    graph = ancestry.graph
    for model, declared in ancestry.told.models.items():
        label = Label.model_validate(declared)
        if label.source not in streams:
            continue
        labels = Labels(model, label)
        topics = [f"{ACCEPTED_TOPICS}{label.source}", Predicted.TOPIC.format(model=model)]
        entries = index.entries(index.leaves(topics).tolist())
        while batch := list(islice(entries, _BATCH)):
            labels.take([entry for _, entry in batch])
        yield labels.behind_windows(graph)
        for dataset, built in ancestry.told.datasets.items():
            table = table_of(artifacts, built, ["entity", "event_time"]) if built.model == model else None
            if table is not None:
                times = table.column("event_time").cast(pa.int64()).to_pylist()
                asked = zip(table.column("entity").to_pylist(), times, strict=True)
                yield labels.behind_dataset(graph, dataset, asked, parse(built.cut))


def _accepted(graph: Graph, row: int) -> list[int]:
    """Return the rows of the accepted records that a node is, or led to."""
    if graph.kinds[row] == Kind.ACCEPTED:
        return [row]
    reached = questions.forward(graph, [row], _ACCEPTING).rows
    return [each for each in reached.tolist() if graph.kinds[each] == Kind.ACCEPTED]


def _stream(graph: Graph, row: int) -> str:
    topic: str = graph.topic_names[graph.topics[row]]
    return topic.removeprefix(ACCEPTED_TOPICS)
