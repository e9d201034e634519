"""What each fact says: every type of the catalogue, and the two ways of reading the ones that a log is full of."""

from typing import Any

import numpy as np
import pytest
from libs.lineage.tests.lineage_story import Story, dealt, told

from mainstem.events.catalogue import FACTS
from mainstem.events.envelope import Envelope, Event
from mainstem.events.fact import Fact
from mainstem.events.frames import Entry
from mainstem.lineage import Builder, Graph, Relation
from mainstem.lineage.facts import LEFT_OUT, READERS, Known, read
from mainstem.testkit.examples import example

#: Of each type the node that its event stands for, and what leads where: all edges but causation.
SAYS = {
    "data.record_accepted.v1": "accepted: definition judges, quarantined corrected_as, record accepted_as",
    "data.record_quarantined.v1": "quarantined: definition judges, record quarantined_as",
    "data.record_redriven.v1": "event: accepted told_in, quarantined told_in",
    "data.batch_judged.v1": "event: record judges",
    "feature.row_computed.v1": "row: accepted computed_into, definition defines",
    "feature.order_journalled.v1": "event: definition defines",
    "feature.vectors_checked.v1": "event: accepted told_in, definition defines",
    "feature.fold_stopped.v1": "event: definition defines",
    "feature.values_read.v1": "event: definition defines",
    "training.requested.v1": "run: artifact imported_by",
    "training.step_completed.v1": "run: artifact ran, artifact ran, artifact trained_on, run produced artifact",
    "training.run_completed.v1": "run: dataset trained_on, definition defines, definition defines,"
    " run produced artifact, run produced artifact",
    "training.run_failed.v1": "run:",
    "training.dataset_requested.v1": "run: definition defines",
    "training.dataset_built.v1": "run: artifact held_in dataset, dataset trained_on,"
    " definition defines dataset, definition defines dataset",
    "training.dataset_failed.v1": "run:",
    "registry.project_applied.v1": "definition:",
    "registry.version_registered.v1": "version: artifact registered_as, artifact registered_as, dataset registered_as,"
    " definition defines, definition defines, run registered_as",
    "registry.version_approved.v1": "approval: artifact approved_as, version approved_as",
    "registry.change_refused.v1": "event: definition told_in, version told_in",
    "registry.version_promoted.v1": "promotion: version promoted_as",
    "registry.deployment_set.v1": "deployment: artifact deployed_as, artifact deployed_as, artifact deployed_as,"
    " artifact deployed_as, definition defines, version deployed_as, version deployed_as",
    "serving.deployment_activated.v1": "activation: artifact activated_as, version activated_as",
    "serving.deployment_refused.v1": "event: version told_in",
    "serving.deployment_lost.v1": "event: artifact told_in, version told_in",
    "serving.predicted.v1": "prediction: artifact answered, definition defines, row scored_into, version answered",
    "serving.shadow_scored.v1": "event: artifact told_in, version told_in",
    "monitoring.window_judged.v1": "window: version judged_in",
    "monitoring.alert_opened.v1": "alert: version alerted",
    "monitoring.feature_alert_opened.v1": "alert: accepted alerted, definition alerted, version alerted",
    "monitoring.feature_set_alert_opened.v1": "alert: accepted alerted, definition alerted",
    "monitoring.retraining_asked.v1": "response: alert asked",
    "monitoring.alert_closed.v1": "event: alert told_in",
    "monitoring.feature_set_alert_closed.v1": "event: alert told_in",
    "ledger.checkpoint_published.v1": "event:",
    "ledger.receipt_issued.v1": "event: event told_in",
    "ledger.range_sealed.v1": "event: artifact told_in",
}


def event(fact: Fact) -> Event:
    return Event(Envelope("e", fact.TYPE, "/t", "k", 0, 0, "story", "cause", "ann", origin="src.text/0/7"), fact)


def said(fact: Fact) -> str:
    """Return what a fact says as the table has it; a target is named where it is not the subject."""
    found = read(event(fact), Known())
    assert found is not None
    edges = [edge for edge in found.edges if edge.source.id != "cause"]
    lines = sorted(
        f"{edge.source.kind.name} {edge.relation.name}"
        + (f" {edge.target.kind.name}" if edge.target != found.subject else "")
        for edge in edges
    )
    return f"{found.subject.kind.name}: {', '.join(lines)}".strip().lower()


@pytest.mark.parametrize("fact", sorted(FACTS, key=lambda fact: fact.TYPE), ids=lambda fact: fact.TYPE)
def test_every_type_of_fact_says_what_the_table_has_or_is_left_out_with_a_reason(fact: type[Fact]) -> None:
    if fact in LEFT_OUT:
        assert fact not in READERS
        assert len(LEFT_OUT[fact].split()) > 3
    else:
        assert said(example(fact)) == SAYS[fact.TYPE.removeprefix("mainstem.")]


def test_the_table_has_no_line_for_a_fact_that_is_gone() -> None:
    assert {f"mainstem.{name}" for name in SAYS} == {fact.TYPE for fact in FACTS if fact not in LEFT_OUT}


@pytest.mark.parametrize("fact", sorted(READERS, key=lambda fact: fact.TYPE), ids=lambda fact: fact.TYPE)
def test_the_cause_of_an_envelope_is_an_edge_unless_a_source_gave_it(fact: type[Fact]) -> None:
    found = read(event(example(fact)), Known())
    assert found is not None
    causes = [edge for edge in found.edges if edge.source.id == "cause"]
    assert len(causes) == (0 if fact.TYPE.startswith("mainstem.data.") else 1)


def test_rows_and_predictions_say_the_same_a_batch_at_a_time_and_one_by_one() -> None:
    story = told()
    for number in range(20):
        story.record(f"x{number}", "reading", {"sensor": f"x{number}", "wind": 1.0}, 30 + number)
        story.row(f"y{number}", f"x{number}")
        story.predict(f"z{number}", f"y{number}", version=1 + number % 3)
    otherwise = [caused_by(entry, story.ids["promoted"].encode()) for entry in story.entries[-3:]]
    story.entries += otherwise
    read = graph(story, size=7)
    assert Relation.LED_TO in read.relations[read.edge_leaves >= len(story.entries) - 2]
    assert same(graph(story, size=7), graph(story, size=len(story.entries), singly=True))


def caused_by(entry: Entry, cause: bytes) -> Entry:
    """Return an event like the one in an entry that has another id and says another cause."""
    headers = dict(entry.headers)
    headers |= {"ce_id": (headers["ce_id"] or b"")[::-1], "ce_causationid": cause}
    return entry._replace(headers=tuple(headers.items()))


def graph(story: Story, size: int, *, singly: bool = False) -> Graph:
    """Return the graph of a story; `singly` reads every event with its model, none in columns."""
    builder = Builder()
    if singly:
        builder._streams.readers.clear()
    for first, entries in dealt(story.entries, size):
        builder.take(first, entries)
    return builder.graph()


def same(one: Graph, other: Graph) -> bool:
    ours, theirs = one.to_arrays(), other.to_arrays()
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if name != "told" and not np.array_equal(ours[name], theirs[name])]
    named: list[Any] = [
        (graph.names, graph.changes, graph.spans, graph.size, graph.topic_names) for graph in (one, other)
    ]
    assert different == []
    return bool(named[0] == named[1])


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_how_entries_are_dealt_out_changes_nothing(size: int) -> None:
    assert same(graph(told(), size), graph(told(), 13))
