"""What entries say that the graph does not hold: feature sets, and by which rule labels were joined with what.

Whatever is told has its leaf: a dataset goes by the definition that it names and a window by the one in force for it,
however a project is declared later, and an earlier size knows no more than the entries below it say.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from mainstem.events.catalogue import decode
from mainstem.events.errors import MainstemError, Undecodable
from mainstem.events.fact import Fact
from mainstem.events.frames import Entry
from mainstem.events.monitoring import WindowJudged
from mainstem.events.registry import ProjectApplied
from mainstem.events.training import DatasetBuilt, RunCompleted
from mainstem.feature_engine import load
from mainstem.lineage import questions
from mainstem.lineage.graph import Graph
from mainstem.lineage.nodes import Kind, Relation
from mainstem.project import Label, parse

_TOPICS: Final = (ProjectApplied.TOPIC, DatasetBuilt.TOPIC, WindowJudged.TOPIC)
#: All edges but those between the definition of a project and its parts.
_READING: Final = frozenset(Relation) - {Relation.DECLARES, Relation.PART_OF}


class Spec(msgspec.Struct, array_like=True, frozen=True):
    """What a feature set is, and the leaf of the first definition that says so."""

    leaf: int
    spec: dict[str, Any]


class Rule(msgspec.Struct, array_like=True, frozen=True):
    """How a definition lets the labels of a model be joined, from a leaf on."""

    leaf: int
    definition: str
    model: str
    label: dict[str, Any]


class Dataset(msgspec.Struct, array_like=True, frozen=True):
    """What a dataset was built of; of one that a run alone names the table is not known."""

    leaf: int
    id: str
    definition: str
    model: str
    feature_set: str
    table: str | None = None
    cut: str | None = None


class Judged(msgspec.Struct, array_like=True, frozen=True):
    """A window of a model in which a version was judged; in one without there are no predictions to label."""

    leaf: int
    model: str


class Joined(NamedTuple):
    """What the labels of a model were joined with by one rule."""

    model: str
    label: Label
    datasets: list[Dataset]
    windows: list[int]  #: the leaves of their events


class Declared(msgspec.Struct):
    """What was declared, built and judged, in the order of the leaves."""

    rules: list[Rule]
    built: list[Dataset]
    judged: list[Judged]
    #: Leaves of definitions that cannot be read: what they declare is not known.
    unreadable: list[int]
    #: Feature sets by identity, which is the address of their content.
    sets: dict[str, Spec]

    @classmethod
    def none(cls) -> "Declared":
        """Return what no entry says."""
        return cls([], [], [], [], {})

    def take(self, placed: Sequence[tuple[int, Entry]]) -> None:
        """Take entries with their leaves, in the order of these; what is no event is left to the graph to count."""
        for leaf, entry in placed:
            if entry.topic in _TOPICS:
                try:
                    self._tell(leaf, decode(entry).fact)
                except Undecodable:
                    continue

    def _tell(self, leaf: int, fact: Fact) -> None:
        match fact:
            case ProjectApplied():
                self._declare(leaf, fact)
            case DatasetBuilt():
                named = (fact.dataset, fact.definition, fact.model, fact.feature_set)
                self.built.append(Dataset(leaf, *named, fact.table, fact.cut))
            case RunCompleted():
                self.built.append(Dataset(leaf, fact.dataset, fact.definition, fact.model, fact.feature_set))
            case WindowJudged(version=int()):
                self.judged.append(Judged(leaf, fact.model))
            case _:
                pass

    def _declare(self, leaf: int, fact: ProjectApplied) -> None:
        try:
            definition = parse(fact.definition)
        except (MainstemError, ValueError):
            self.unreadable.append(leaf)
            return
        for part in definition.feature_sets.values():
            self.sets.setdefault(part.id, Spec(leaf, dict(part.spec)))
        for name, model in definition.models.items():
            self.rules.append(Rule(leaf, fact.definition_id, name, model.label.model_dump(mode="json")))

    def as_of(self, size: int) -> "Declared":
        """Return what the first `size` leaves say."""
        return Declared(
            [one for one in self.rules if one.leaf < size],
            [one for one in self.built if one.leaf < size],
            [one for one in self.judged if one.leaf < size],
            [leaf for leaf in self.unreadable if leaf < size],
            {identity: one for identity, one in self.sets.items() if one.leaf < size},
        )

    def streams(self, feature_set: str) -> list[str]:
        """Return the sources that a feature set reads; none when no definition read declares it."""
        found = self.sets.get(feature_set)
        return [] if found is None else list(load(found.spec).streams)

    def datasets(self) -> dict[str, Dataset]:
        """Return the datasets by identity, each as it was told last with the most."""
        found: dict[str, Dataset] = {}
        for one in self.built:
            if one.table is not None or one.id not in found:
                found[one.id] = one
        return found

    def rule_of(self, dataset: Dataset) -> Label | None:
        """Return how the labels of a dataset were joined: as the definition says that it names, if that is known."""
        wanted = dataset.definition, dataset.model
        return next((_label(one) for one in self.rules if (one.definition, one.model) == wanted), None)

    def rule_at(self, model: str, leaf: int) -> Label | None:
        """Return how the labels of a model were joined when an entry was written: as the last definition before says.

        Where none before it declares the model the first one says it: one topic may come to the log before another.
        """
        ours = [one for one in self.rules if one.model == model]
        before = [one for one in ours if one.leaf < leaf]
        chosen = before[-1:] or ours[:1]
        return _label(chosen[0]) if chosen else None

    def joined(self) -> list[Joined]:
        """Return what labels were joined with, by rule; what is not known by which is left out."""
        found: dict[tuple[str, Label], Joined] = {}
        for dataset in self.datasets().values():
            if (label := self.rule_of(dataset)) is not None:
                of = found.setdefault((dataset.model, label), Joined(dataset.model, label, [], []))
                of.datasets.append(dataset)
        for leaf, model in ((one.leaf, one.model) for one in self.judged):
            if (label := self.rule_at(model, leaf)) is not None:
                found.setdefault((model, label), Joined(model, label, [], [])).windows.append(leaf)
        return list(found.values())

    def unjoined(self) -> list[str]:
        """Return the datasets, by identity, and the windows, by leaf, of which no definition read says the rule."""
        datasets = [one.id for one in self.datasets().values() if self.rule_of(one) is None]
        return datasets + [f"leaf {one.leaf}" for one in self.judged if self.rule_at(one.model, one.leaf) is None]


def sources_behind(graph: Graph, declared: Declared, rows: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Yield the sources that some nodes, and what is behind them, read or take labels from, each with what does so.

    What else a project declares is read by nothing, so its edges to its parts are not followed.
    """
    starts = np.array(rows, np.int64)
    behind = np.union1d(starts, questions.backward(graph, starts, _READING).rows)
    behind = behind[np.isin(graph.kinds[behind], (Kind.DEFINITION, Kind.DATASET, Kind.WINDOW))]
    names = {graph.names.get(row, "") for row in behind.tolist()}
    datasets = [one for one in declared.datasets().values() if one.id in names]
    read = {one.feature_set for one in datasets} | (names & declared.sets.keys())
    for identity in sorted(read):
        yield from ((source, f"feature set {identity}") for source in declared.streams(identity))
    for one in datasets:
        if (label := declared.rule_of(one)) is not None:
            yield label.source, f"the labels of dataset {one.id}"
    leaves = set(graph.leaves[behind].tolist())
    for window in declared.judged:
        if window.leaf in leaves and (label := declared.rule_at(window.model, window.leaf)) is not None:
            yield label.source, f"the labels of the window at leaf {window.leaf}"


def _label(rule: Rule) -> Label:
    return Label.model_validate(rule.label)
