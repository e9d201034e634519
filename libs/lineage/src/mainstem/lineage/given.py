"""Edges that take knowledge from outside the entries: the table of a dataset, and the rule by which labels are joined.

Whoever asks brings what the edges follow from, and adds them to a graph with `extended`. Like all edges they name the
leaf with which they are known.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

import msgspec
import numpy as np

from mainstem.events.data import RecordAccepted
from mainstem.events.frames import Entry
from mainstem.events.instant_columns import parse_all
from mainstem.events.instants import NEVER, parse
from mainstem.events.serving import Predicted
from mainstem.lineage.assembly import linked
from mainstem.lineage.columns import Ends, Flags, Longs
from mainstem.lineage.declared import Dataset, Joined
from mainstem.lineage.facts import ACCEPTED_TOPICS
from mainstem.lineage.graph import Graph
from mainstem.lineage.nodes import EVENT_PREFIX, Kind, Node, Relation, digest
from mainstem.project import Label
from mainstem.project.records import UNREADABLE

_ACCEPTED: Final = RecordAccepted.TYPE.encode()
_PREDICTED: Final = Predicted.TYPE.encode()
_BATCH: Final = 10_000

#: Returns the entity and the event time (µs) of each row of a dataset; None when its table is not there.
Asked = Callable[[Dataset], Iterable[tuple[str, int]] | None]


class Held(NamedTuple):
    """The rows of a dataset as edges, and the spine records whose rows the log does not have."""

    edges: Ends
    missing: list[str]


class _Truth(msgspec.Struct):
    record: dict[str, msgspec.Raw]


class _Question(msgspec.Struct):
    channel: str
    entity: str | None = None


class _Known(NamedTuple):
    """A truth that became known."""

    recorded_us: int
    key: bytes


_truth_of = msgspec.json.Decoder(_Truth).decode
_question_of = msgspec.json.Decoder(_Question).decode
_text_of = msgspec.json.Decoder(str).decode


def extended(graph: Graph, edges: Iterable[Ends]) -> Graph:
    """Return a graph with more edges between its nodes."""
    sources = np.repeat(np.arange(graph.nodes), np.diff(graph.starts))
    there = Ends(sources, graph.targets.astype(np.int64), graph.relations, graph.edge_leaves)
    parts = [there, *edges]
    columns = [np.concatenate([part[number] for part in parts]) for number in range(len(there))]
    return linked(graph, Ends(*columns))


def rows_in(graph: Graph, dataset: str, feature_set: str, spine_ids: Sequence[str]) -> Held:
    """Return edges from the rows of a dataset to it, given the spine records that its table names.

    `feature_set` is the identity of the set whose rows they are. Raises KeyError for a dataset or a feature set that no
    entry read speaks of.
    """
    into, ours = graph.row(Node(Kind.DATASET, dataset)), _rows_of(graph, feature_set)
    spines = graph.rows(b"".join(digest(EVENT_PREFIX + spine.encode()) for spine in spine_ids))
    found = np.flatnonzero(spines >= 0)
    which, rows = _targets(graph, spines[found], Relation.COMPUTED_INTO)
    which, rows = found[which][ours[rows]], rows[ours[rows]]
    lacking = np.ones(len(spine_ids), np.bool_)
    lacking[which] = False
    edges = _edges(graph, rows, np.full(len(rows), into), Relation.HELD_IN)
    return Held(edges, [spine_ids[place] for place in np.flatnonzero(lacking).tolist()])


def counted_in(graph: Graph, accepted: int, feature_set: str, spine_leaves: Longs) -> Ends:
    """Return edges from an accepted record, by its row, to the rows of a feature set that count it.

    These rows are given by the leaves of their spine records, rising. Raises KeyError for a feature set that no entry
    read speaks of.
    """
    ours = _rows_of(graph, feature_set)
    spines = np.flatnonzero((graph.kinds == Kind.ACCEPTED) & np.isin(graph.leaves, spine_leaves))
    _, rows = _targets(graph, spines, Relation.COMPUTED_INTO)
    rows = rows[ours[rows]]
    return _edges(graph, np.full(len(rows), accepted), rows, Relation.COMPUTED_INTO)


def _rows_of(graph: Graph, feature_set: str) -> Flags:
    """Tell which nodes are rows of a feature set."""
    ours = np.zeros(graph.nodes, np.bool_)
    definition = graph.row(Node(Kind.DEFINITION, feature_set))
    ours[_targets(graph, np.array([definition]), Relation.DEFINES)[1]] = True
    ours &= graph.kinds == Kind.ROW
    return ours


def labelled(graph: Graph, joined: Joined, entries: Iterable[tuple[int, Entry]], asked: Asked) -> Iterator[Ends]:
    """Yield the edges from truths to the datasets and windows that they were joined with by one rule.

    `entries` are those of `Labels.topics`, with their leaves; what stands at the graph's size or behind it does not
    count.
    """
    labels, known = Labels(joined.model, joined.label), (entry for leaf, entry in entries if leaf < graph.size)
    while batch := list(islice(known, _BATCH)):
        labels.take(batch)
    yield labels.behind_windows(graph, joined.windows)
    for dataset in joined.datasets:
        rows = asked(dataset)
        if rows is not None and dataset.cut is not None:
            yield labels.behind_dataset(graph, dataset.id, rows, parse(dataset.cut))


class Labels:
    """Truths as they became known, by what they are joined by, and the predictions of a model that they are about.

    The rule is `mainstem.project.Label.last_in_time`; a record that cannot be read brings no truth.
    """

    def __init__(self, model: str, label: Label) -> None:
        self._label = label
        self._truths_topic = f"{ACCEPTED_TOPICS}{label.source}"
        self._questions_topic = Predicted.TOPIC.format(model=model)
        self._truths: dict[str, list[_Known]] = {}
        self._questions: list[tuple[str, int, bytes]] = []

    @property
    def topics(self) -> tuple[str, str]:
        """The topics of the entries to take."""
        return self._truths_topic, self._questions_topic

    def take(self, entries: Sequence[Entry]) -> None:
        """Take entries of the log; those of other topics are passed over."""
        for topic, type_, keep in (
            (self._truths_topic, _ACCEPTED, self._keep_truth),
            (self._questions_topic, _PREDICTED, self._keep_question),
        ):
            chosen = [(entry, dict(entry.headers)) for entry in entries if entry.topic == topic]
            chosen = [(entry, headers) for entry, headers in chosen if headers.get("ce_type") == type_]
            clock = "ce_recordedtime" if type_ == _ACCEPTED else "ce_time"
            times = parse_all([headers.get(clock) or b"" for _, headers in chosen]).tolist()
            for (entry, headers), time_us in zip(chosen, times, strict=True):
                if time_us != NEVER:
                    keep(entry, digest(EVENT_PREFIX + (headers.get("ce_id") or b"")), time_us)

    def _keep_truth(self, entry: Entry, key: bytes, recorded_us: int) -> None:
        try:
            record = _truth_of(entry.value or b"").record
            entity = _text_of(record[self._label.key])
        except (KeyError, *UNREADABLE):
            return
        if bytes(record.get(self._label.column, b"null")) != b"null":
            self._truths.setdefault(entity, []).append(_Known(recorded_us, key))

    def _keep_question(self, entry: Entry, key: bytes, time_us: int) -> None:
        try:
            question = _question_of(entry.value or b"")
        except UNREADABLE:
            return
        if question.channel == "stream" and question.entity is not None:
            self._questions.append((question.entity, time_us, key))

    def behind_windows(self, graph: Graph, judged: Sequence[int]) -> Ends:
        """Return edges from truths to the windows in which they judge predictions, given the leaves of the windows."""
        pairs = [(self._truth(entity, time_us), key) for entity, time_us, key in self._questions]
        found = [(truth, key) for truth, key in pairs if truth is not None]
        truths = graph.rows(b"".join(truth.key for truth, _ in found))
        predictions = graph.rows(b"".join(key for _, key in found))
        there = (truths >= 0) & (predictions >= 0)
        truths, predictions = truths[there], predictions[there]
        which, windows = _targets(graph, predictions, Relation.JUDGED_IN)
        edges = _edges(graph, truths[which], windows, Relation.LABELS)
        keep = graph.recorded_us[edges.sources] <= graph.recorded_us[edges.targets]
        keep &= np.isin(graph.leaves[edges.targets], judged)
        return Ends(edges.sources[keep], edges.targets[keep], edges.relations[keep], edges.leaves[keep])

    def behind_dataset(self, graph: Graph, dataset: str, asked: Iterable[tuple[str, int]], cut_us: int) -> Ends:
        """Return edges from truths to a dataset, given the entity and event time of each of its rows, and its cut (µs).

        Raises KeyError for a dataset that no entry read speaks of.
        """
        into = graph.row(Node(Kind.DATASET, dataset))
        found = {truth.key for entity, time_us in asked if (truth := self._truth(entity, time_us, cut_us)) is not None}
        rows = graph.rows(b"".join(sorted(found)))
        rows = rows[rows >= 0]
        return _edges(graph, rows, np.full(len(rows), into), Relation.LABELS)

    def _truth(self, entity: str, time_us: int, before_us: int | None = None) -> _Known | None:
        """Return the truth about what happened to an entity, of those known before an instant if that is given."""
        known = sorted(self._truths.get(entity, []))
        if before_us is not None:
            known = [truth for truth in known if truth.recorded_us < before_us]
        place = self._label.last_in_time([truth.recorded_us for truth in known], time_us)
        return None if place is None else known[place]


def _targets(graph: Graph, rows: Longs, relation: Relation) -> tuple[Longs, Longs]:
    """Return the targets of some rows by one relation that is known at the size.

    These are the place of the row among the given ones, and the target.
    """
    low = graph.starts[rows]
    counts = graph.starts[rows + 1] - low
    which = np.repeat(np.arange(len(rows)), counts)
    edges = np.arange(len(which)) + np.repeat(low - np.cumsum(counts) + counts, counts)
    ours = (graph.relations[edges] == relation) & (graph.edge_leaves[edges] < graph.size)
    return which[ours], graph.targets[edges[ours]].astype(np.int64)


def _edges(graph: Graph, sources: Longs, targets: Longs, relation: Relation) -> Ends:
    """Return edges that are known with the later one of their ends."""
    leaves = np.maximum(graph.leaves[sources], graph.leaves[targets])
    return Ends(sources, targets, np.full(len(sources), relation, np.uint8), leaves)
