"""Projects that are applied again and again: labels and sources by what each thing names, against plain Python."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from hypothesis import example as also
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.events.catalogue import encode
from mainstem.events.data import RecordAccepted
from mainstem.events.envelope import Envelope, Event
from mainstem.events.fact import Fact
from mainstem.events.frames import Entry
from mainstem.events.ids import content_id
from mainstem.events.instants import parse, render
from mainstem.events.monitoring import WindowJudged
from mainstem.events.registry import ProjectApplied, VersionRegistered
from mainstem.events.serving import Predicted
from mainstem.events.training import DatasetBuilt, RunCompleted
from mainstem.feature_engine import feature_set
from mainstem.lineage import Builder, Graph, Relation
from mainstem.lineage.declared import Dataset, Declared, sources_behind
from mainstem.lineage.given import extended, labelled
from mainstem.project import FeatureSetDefinition, ProjectDefinition
from mainstem.testkit.examples import example
from mainstem.testkit.projects import storms

MODEL, HOUR, WAITS = "storm", 3_600_000_000, 3
BEGIN = parse("2013-05-01T00:00:00.000000Z")


def declare(source: str, *, more: bool = False, **label: object) -> ProjectDefinition:
    """Return a project whose labels come from a source; one with `more` has a feature set that no model reads."""
    definition = storms()
    model, outcome = definition.models[MODEL], definition.sources["outcome"]
    rule = model.label.model_copy(update={"source": source, **label})
    report = outcome.model_copy(update={"name": "report"})
    spine = report.stream()
    unread = feature_set("unread", spine=spine, lateness="1h")(type("Unread", (), {"loss": spine.loss})).compile()
    sets = {"unread": FeatureSetDefinition(id=unread.id, spec=unread.spec)} if more else {}
    update = {
        "models": {MODEL: model.model_copy(update={"label": rule})},
        "sources": {**definition.sources, "report": report},
        "feature_sets": {**definition.feature_sets, **sets},
    }
    return definition.model_copy(update=update)


#: Definitions that differ in how labels are joined; all have the feature set that the model reads.
DECLARED = [
    declare("outcome", wait=WAITS * HOUR),
    declare("outcome", wait=HOUR),
    declare("report", wait=WAITS * HOUR),
    declare("outcome", wait=WAITS * HOUR, more=True),
    declare("outcome", wait=2 * HOUR, more=True, above=500.0),
]
FEATURES = DECLARED[0].feature_sets["gusts"].id


class Applied(NamedTuple):
    definition: int


class Truth(NamedTuple):
    source: str
    entity: str
    hour: int
    known: bool


class Prediction(NamedTuple):
    entity: str
    hour: int


class Window(NamedTuple):
    start: int
    hours: int


class Built(NamedTuple):
    definition: int
    cut: int
    rows: tuple[tuple[str, int], ...]


class Learnt(NamedTuple):
    """A run that names a dataset of which no table is told."""

    definition: int


class Registered(NamedTuple):
    """The one version; it was trained on a dataset by its number."""

    dataset: int


Happening = Applied | Truth | Prediction | Window | Built | Learnt | Registered
#: Few entities and hours, so that much comes together.
ENTITIES, HOURS, DEFINITIONS = st.sampled_from("aaab"), st.integers(0, 3), st.integers(0, len(DECLARED) - 1)
APPLIED = st.builds(Applied, DEFINITIONS)
TRUTHS = st.builds(Truth, st.sampled_from(("outcome", "report")), ENTITIES, HOURS, st.sampled_from((True, True, False)))
PREDICTIONS = st.builds(Prediction, ENTITIES, HOURS)
WINDOWS = st.builds(Window, HOURS, st.integers(1, 4))
BUILT = st.builds(Built, DEFINITIONS, HOURS, st.lists(st.tuples(ENTITIES, HOURS), max_size=4).map(tuple))
OTHERS = st.builds(Learnt, DEFINITIONS) | st.builds(Registered, st.integers(0, 20))
HAPPENINGS = st.one_of(APPLIED, TRUTHS, TRUTHS, PREDICTIONS, WINDOWS, WINDOWS, BUILT, OTHERS)
#: A question stands in front, so that what follows has something to be about, and most often a definition, too.
LOGS = st.builds(
    lambda *first: [*first[0], first[1], *first[2]],
    st.lists(APPLIED, max_size=1),
    PREDICTIONS,
    st.lists(HAPPENINGS, max_size=20),
)
REDEFINED: list[Happening] = [
    Applied(0),
    Prediction("a", 0),
    Truth("outcome", "a", 2, True),
    Window(0, 1),
    Built(0, 5, (("a", 0),)),
    Registered(4),
    Applied(3),
    Applied(4),
    Built(4, 5, (("a", 0),)),
    Applied(2),
]


def instant(hour: int, leaf: int) -> int:
    """Return an instant of an hour that no other entry has."""
    return BEGIN + hour * HOUR + leaf


def named(leaf: int) -> str:
    """Return the dataset that is told of at a leaf."""
    return content_id(f"dataset {leaf}".encode())


def fact_of(leaf: int, one: Happening) -> Fact:
    """Return what is told of a happening."""
    made: dict[str, object] = {"model": MODEL, "project": "weather", "feature_set": FEATURES, "dataset": named(leaf)}
    files: dict[str, object] = {
        "onnx": content_id(f"onnx {leaf}".encode()),
        "profile": content_id(f"profile {leaf}".encode()),
        "evidence": {},
    }
    fact: Fact
    match one:
        case Applied():
            document, identity = DECLARED[one.definition].model_dump(mode="json"), DECLARED[one.definition].id
            fact = example(ProjectApplied, project="weather", definition_id=identity, definition=document)
        case Truth():
            record = {"sensor": one.entity, "loss": 20.0 if one.known else None}
            fact = RecordAccepted(source=one.source, contract="c", record=record)
        case Prediction():
            asked = {"model": MODEL, "version": 1, "entity": one.entity, "channel": "stream", "row": None}
            fact = example(Predicted, **asked, feature_definition=FEATURES)
        case Window():
            ends = {"start": render(instant(one.start, 0)), "end": render(instant(one.start + one.hours, 0))}
            fact = example(WindowJudged, model=MODEL, version=1, **ends, figures={})
        case Built():
            made |= {"definition": DECLARED[one.definition].id, "cut": render(instant(one.cut, 0))}
            fact = example(DatasetBuilt, **made)
        case Learnt():
            made |= {"definition": DECLARED[one.definition].id, "run": f"run {leaf}"}
            fact = example(RunCompleted, **made, **files)
        case Registered():
            made |= {"dataset": named(one.dataset), "definition": content_id(b"other"), "run": f"version {leaf}"}
            fact = example(VersionRegistered, **made, **files, version=1)
    return fact


def recorded(leaf: int, one: Happening) -> int:
    """Return when a happening was recorded: a window is judged when no label of it can come any more."""
    match one:
        case Truth() | Prediction():
            return instant(one.hour, leaf)
        case Window():
            return instant(one.start + one.hours + WAITS + 1, leaf)
        case _:
            return instant(0, leaf)


def written(log: Sequence[Happening]) -> list[Entry]:
    entries = []
    for leaf, one in enumerate(log):
        fact, at_us = fact_of(leaf, one), recorded(leaf, one)
        envelope = Envelope(f"{leaf:032x}", fact.TYPE, "/t", "k", at_us, at_us, "story", "nobody", "/t")
        message = encode(Event(envelope, fact))
        entries.append(Entry(message.topic, 0, leaf, 0, message.key, message.value, message.headers))
    return entries


def read(entries: Sequence[Entry]) -> tuple[Graph, Declared]:
    builder, declared = Builder(), Declared.none()
    builder.take(0, entries)
    declared.take(list(enumerate(entries)))
    return builder.graph(len(entries)), declared


def joined(
    log: Sequence[Happening], entries: Sequence[Entry], graph: Graph, declared: Declared
) -> set[tuple[int, int]]:
    """Return the leaves of truths and of what they are labels of."""

    def asked(dataset: Dataset) -> list[tuple[str, int]] | None:
        one = log[dataset.leaf]
        return [(entity, instant(hour, 0)) for entity, hour in one.rows] if isinstance(one, Built) else None

    edges = [each for one in declared.joined() for each in labelled(graph, one, enumerate(entries), asked)]
    whole = extended(graph, edges)
    chosen = (whole.relations == Relation.LABELS) & (whole.edge_leaves < whole.size)
    sources = np.repeat(whole.leaves, np.diff(whole.starts))[chosen]
    return set(zip(sources.tolist(), whole.leaves[whole.targets[chosen]].tolist(), strict=True))


class Plain:
    """The same by plain loops over what happened below a size."""

    def __init__(self, log: Sequence[Happening]) -> None:
        self.log = log

    def rule(self, leaf: int) -> ProjectDefinition | None:
        """Return the definition that a dataset names, or the last before a window, else the first."""
        one, applied = self.log[leaf], [each.definition for each in self.log if isinstance(each, Applied)]
        if isinstance(one, Built | Learnt):
            return DECLARED[one.definition] if one.definition in applied else None
        before = [each.definition for each in self.log[:leaf] if isinstance(each, Applied)]
        chosen = before[-1:] or applied[:1]
        return DECLARED[chosen[0]] if chosen else None

    def truth(self, leaf: int, entity: str, event_us: int, before_us: int) -> int | None:
        """Return the leaf of the last truth in time by the rule that goes for a dataset or a window."""
        definition = self.rule(leaf)
        if definition is None:
            return None
        label, found = definition.models[MODEL].label, list[tuple[int, int]]()
        for at, one in enumerate(self.log):
            if isinstance(one, Truth) and (one.source, one.entity, one.known) == (label.source, entity, True):
                known_us = instant(one.hour, at)
                if event_us < known_us <= event_us + label.wait and known_us < before_us:
                    found.append((known_us, at))
        return max(found)[1] if found else None

    def joined(self) -> Iterator[tuple[int, int]]:
        for leaf, one in enumerate(self.log):
            questions = list[tuple[str, int]]()
            end_us = instant(0, 0)
            if isinstance(one, Built):
                questions, end_us = [(entity, instant(hour, 0)) for entity, hour in one.rows], instant(one.cut, 0)
            elif isinstance(one, Window):
                questions, end_us = list(self.judged(one)), recorded(leaf, one)
            truths = {self.truth(leaf, entity, event_us, end_us) for entity, event_us in questions}
            yield from ((truth, leaf) for truth in truths - {None} if truth is not None)

    def judged(self, window: Window) -> Iterator[tuple[str, int]]:
        for leaf, one in enumerate(self.log):
            if isinstance(one, Prediction):
                event_us = instant(one.hour, leaf)
                if instant(window.start, 0) <= event_us < instant(window.start + window.hours, 0):
                    yield one.entity, event_us

    def sources(self, leaf: int) -> set[str]:
        """Return the sources that a dataset, or a window and the version that it judges, rest on."""
        definition = self.rule(leaf)
        found = set() if definition is None else {definition.models[MODEL].label.source}
        if any(isinstance(one, Applied) for one in self.log):
            reads = isinstance(self.log[leaf], Built | Learnt) or any(self.judged_by(leaf))
            found |= {"reading"} if reads else set()
        if isinstance(self.log[leaf], Window):
            for one in self.log:
                if isinstance(one, Registered):
                    there = one.dataset < len(self.log) and isinstance(self.log[one.dataset], Built | Learnt)
                    found |= self.sources(one.dataset) if there else set()
        return found

    def judged_by(self, leaf: int) -> Iterator[bool]:
        """Yield something when a version or a prediction stands behind a window."""
        one = self.log[leaf]
        yield from (True for each in self.log if isinstance(each, Registered))
        yield from (True for _ in (self.judged(one) if isinstance(one, Window) else ()))

    def unjoined(self) -> set[int]:
        told = [leaf for leaf, one in enumerate(self.log) if isinstance(one, Built | Learnt | Window)]
        return {leaf for leaf in told if self.rule(leaf) is None}


@settings(max_examples=300, deadline=None)
@given(LOGS, st.integers(0, 22))
@also(REDEFINED, len(REDEFINED))
@also(REDEFINED, 7)
def test_labels_are_joined_by_the_rule_that_a_dataset_names_or_that_a_window_was_judged_by(
    log: list[Happening], size: int
) -> None:
    entries, size = written(log), min(size, len(log))
    graph, declared = read(entries)
    expected = set(Plain(log[:size]).joined())
    assert joined(log, entries, graph.as_of(size), declared.as_of(size)) == expected
    assert joined(log, entries[:size], *read(entries[:size])) == expected


@settings(max_examples=300, deadline=None)
@given(LOGS, st.integers(0, 22))
@also(REDEFINED, len(REDEFINED))
@also(REDEFINED, 7)
def test_the_sources_behind_a_thing_are_those_that_it_read_and_no_others(log: list[Happening], size: int) -> None:
    entries, size = written(log), min(size, len(log))
    graph, declared = read(entries)
    graph, declared, plain = graph.as_of(size), declared.as_of(size), Plain(log[:size])
    assert declared == read(entries[:size])[1]
    asked = [leaf for leaf, one in enumerate(log[:size]) if isinstance(one, Built | Learnt | Window)]
    for leaf in asked:
        node = named(leaf) if isinstance(log[leaf], Built | Learnt) else f"{leaf:032x}"
        row = next(row for row, name in graph.names.items() if name == node)
        assert {source for source, _ in sources_behind(graph, declared, [row])} == plain.sources(leaf)
    names = {named(leaf): leaf for leaf in asked} | {f"leaf {leaf}": leaf for leaf in asked}
    assert {names[one] for one in declared.unjoined()} == plain.unjoined()
