"""The chain through a log that the services' own writers wrote: from a source's record to the response to an alert."""

import io

import numpy as np
import pytest
from libs.lineage.tests.lineage_story import (
    DATASET,
    MODEL,
    ONNX,
    TABLE,
    Story,
    at,
    dealt,
    deploy,
    told,
)

from mainstem.events.ids import child_id, content_id
from mainstem.lineage import Builder, Graph, Kind, Node, Relation, Sought, given, node, questions
from mainstem.lineage.given import Labels
from mainstem.testkit.projects import applied, storms, watched

STORY = told()
RECORD = Node(Kind.RECORD, "src.reading/0/5")  # of r5


def build(story: Story) -> Graph:
    builder = Builder()
    for first, entries in dealt(story.entries, 10):
        builder.take(first, entries)
    return builder.graph()


GRAPH = build(STORY)


def of(kind: Kind, name: str) -> Node:
    return Node(kind, STORY.ids[name])


def path(graph: Graph, start: Node, end: Node) -> list[str]:
    """Return a shortest path in words."""
    steps = questions.forward(graph, [start]).path(graph.row(end))
    words = [f"{step.relation.name} {graph.named(step.target).kind.name}" for step in steps]
    return [word.lower() for word in words]


def test_a_record_leads_through_rows_and_predictions_to_the_run_that_an_alert_asks_for() -> None:
    assert path(GRAPH, RECORD, Node(Kind.RUN, "run2")) == [
        "accepted_as accepted",
        "computed_into row",
        "scored_into prediction",
        "judged_in window",
        "led_to alert",
        "asked response",
        "led_to run",
    ]


def test_behind_a_prediction_stand_its_activation_its_approval_its_run_and_its_data() -> None:
    behind = questions.backward(GRAPH, [of(Kind.PREDICTION, "p5")])
    wanted = [
        *(of(kind, name) for kind, name in ((Kind.ACTIVATION, "activated"), (Kind.DEPLOYMENT, "deployed"))),
        *(of(kind, name) for kind, name in ((Kind.PROMOTION, "promoted"), (Kind.APPROVAL, "approved"))),
        Node(Kind.VERSION, f"{MODEL}/1"),
        Node(Kind.RUN, "run1"),
        Node(Kind.DATASET, DATASET),
        Node(Kind.ARTIFACT, ONNX),
        Node(Kind.ARTIFACT, TABLE),
        Node(Kind.DEFINITION, STORY.definition.id),
        of(Kind.ROW, "w5"),
        of(Kind.ACCEPTED, "r5"),
        RECORD,
    ]
    assert [one for one in wanted if GRAPH.row(one) not in behind] == []
    assert GRAPH.row(Node(Kind.ALERT, "alert1")) not in behind


def test_a_correction_leads_back_to_the_record_that_broke_its_contract() -> None:
    behind = questions.backward(GRAPH, [of(Kind.ACCEPTED, "mended")])
    assert GRAPH.row(of(Kind.QUARANTINED, "broken")) in behind
    assert [GRAPH.named(row).leaf for row in behind.of(Kind.RECORD).tolist()] == [10, 12] or behind.of(
        Kind.RECORD
    ).size == 2


def test_every_edge_and_node_names_the_leaf_that_says_so() -> None:
    for row in range(GRAPH.nodes):
        named = GRAPH.named(row)
        if named.leaf is not None and named.kind in {Kind.ACCEPTED, Kind.ROW, Kind.PREDICTION, Kind.APPROVAL}:
            headers = dict(STORY.entries[named.leaf].headers)
            assert GRAPH.row(Node(named.kind, (headers["ce_id"] or b"").decode())) == row
    assert GRAPH.edge_leaves.min() >= 0
    assert GRAPH.edge_leaves.max() < len(STORY.entries)


def test_what_low_rates_have_is_named_by_its_id_and_what_flows_by_its_leaf() -> None:
    assert GRAPH.named(GRAPH.row(Node(Kind.VERSION, f"{MODEL}/1"))).id == f"{MODEL}/1"
    assert GRAPH.named(GRAPH.row(of(Kind.PREDICTION, "p5")))[1:3] == (None, 32)
    assert GRAPH.named(GRAPH.row(of(Kind.ACCEPTED, "r5"))).recorded_us == at(30)


def test_a_request_for_a_dataset_makes_it_and_a_run_takes_it() -> None:
    request, run = Node(Kind.RUN, "request1"), Node(Kind.RUN, "run1")
    assert GRAPH.row(Node(Kind.DATASET, DATASET)) in questions.forward(GRAPH, [request])
    assert GRAPH.row(Node(Kind.DATASET, DATASET)) in questions.backward(GRAPH, [run])
    assert GRAPH.row(Node(Kind.DATASET, DATASET)) not in questions.forward(GRAPH, [run])


def test_two_versions_of_a_definition_share_their_parts_without_having_made_each_other() -> None:
    story = Story()
    later = storms(monitoring=watched(cooldown=1))
    for number, definition in enumerate((story.definition, later, story.definition)):
        story.say(f"applied{number}", applied(definition, f"apply{number}"))
    graph = build(story)
    first, second = Node(Kind.DEFINITION, story.definition.id), Node(Kind.DEFINITION, later.id)
    part = graph.row(Node(Kind.DEFINITION, story.feature_set.id))
    assert graph.row(second) in questions.forward(graph, [first])
    assert part in questions.backward(graph, [second])
    assert len(questions.backward(graph, [first])) == 0


def test_a_version_that_comes_back_answers_by_its_second_activation() -> None:
    story = told()
    before = story.ids["activated"]
    deploy(story, 70)
    for name, hours in (("early", 60.0), ("late", 80.0)):
        story.record(name, "reading", {"sensor": name, "wind": 1.0}, hours)
        story.row(f"row of {name}", name)
        story.predict(f"on {name}", f"row of {name}")
    graph = build(story)
    expected = {"on early": before, "on late": story.ids["activated"]}
    for name, activation in expected.items():
        behind = questions.backward(graph, [Node(Kind.PREDICTION, story.ids[name])], [Relation.ANSWERED])
        assert behind.of(Kind.ACTIVATION).tolist() == [graph.row(Node(Kind.ACTIVATION, activation))]


def test_the_rows_of_a_dataset_are_added_by_the_spine_records_that_its_table_names() -> None:
    spines = [STORY.ids["r0"], STORY.ids["r1"], child_id("nobody", "x")]
    held = given.rows_in(GRAPH, DATASET, STORY.feature_set.id, spines)
    graph = given.extended(GRAPH, [held.edges])
    assert held.missing == spines[2:]
    assert path(graph, Node(Kind.RECORD, "src.reading/0/0"), Node(Kind.VERSION, f"{MODEL}/1")) == [
        "accepted_as accepted",
        "computed_into row",
        "held_in dataset",
        "registered_as version",
    ]
    assert graph.edges == GRAPH.edges + 2


def test_rows_that_became_known_later_are_missing_from_a_dataset_as_of_an_earlier_size() -> None:
    dataset = int(GRAPH.leaves[GRAPH.row(Node(Kind.DATASET, DATASET))])
    late = int(GRAPH.leaves[GRAPH.row(of(Kind.ROW, "w5"))])
    for size, missing in ((late, [STORY.ids["r5"]]), (late + 1, [])):
        assert dataset < size
        held = given.rows_in(GRAPH.as_of(size), DATASET, STORY.feature_set.id, [STORY.ids["r0"], STORY.ids["r5"]])
        assert held.missing == missing


def test_labels_lead_to_the_windows_and_the_datasets_in_which_they_count() -> None:
    labels = Labels(MODEL, STORY.definition.models[MODEL].label)
    labels.take(STORY.entries)
    judged, learnt = Node(Kind.RECORD, "src.outcome/0/1"), Node(Kind.RECORD, "src.outcome/0/0")
    dataset = labels.behind_dataset(GRAPH, DATASET, [("s0", at(0)), ("s1", at(1))], at(24))
    graph = given.extended(GRAPH, [labels.behind_windows(GRAPH, GRAPH.leaves[GRAPH.of(Kind.WINDOW)].tolist()), dataset])
    assert path(graph, judged, of(Kind.WINDOW, "window"))[-1] == "labels window"
    assert graph.row(of(Kind.WINDOW, "window")) not in questions.forward(graph.as_of(35), [judged])
    assert path(graph, learnt, Node(Kind.DATASET, DATASET)) == ["accepted_as accepted", "labels dataset"]
    assert graph.row(of(Kind.PREDICTION, "p5")) not in questions.forward(graph, [judged])
    early = labels.behind_dataset(GRAPH, DATASET, [("s0", at(0))], at(2))
    assert len(early.sources) == 0


@pytest.mark.parametrize("size", range(len(STORY.entries) + 1))
def test_as_of_a_size_is_the_graph_of_that_many_entries(size: int) -> None:
    builder = Builder()
    builder.take(0, STORY.entries[:size])
    alone, seen = builder.graph(size), GRAPH.as_of(size)
    assert sorted(edges(alone)) == sorted(edges(seen))
    assert {kind: len(alone.of(kind)) for kind in Kind} == {kind: len(seen.of(kind)) for kind in Kind}
    assert questions.state(alone) == questions.state(seen)


def edges(graph: Graph) -> list[tuple[int, ...]]:
    """Return the edges known at the size, by keys."""
    known = np.flatnonzero(graph.edge_leaves < graph.size)
    sources = np.repeat(np.arange(graph.nodes), np.diff(graph.starts))[known]
    ends = [column[rows] for rows in (sources, graph.targets[known]) for column in graph.keys]
    return list(
        zip(*(column.tolist() for column in (*ends, graph.relations[known], graph.edge_leaves[known])), strict=True)
    )


def test_a_graph_is_saved_as_arrays_and_read_back() -> None:
    file = io.BytesIO()
    np.savez_compressed(file, **GRAPH.to_arrays())
    read = Graph.from_arrays(dict(np.load(io.BytesIO(file.getvalue()))))
    assert (read.size, read.names, read.read) == (GRAPH.size, GRAPH.names, GRAPH.read)
    assert edges(read) == edges(GRAPH)
    ours, theirs = (questions.backward(one, [Node(Kind.RUN, "run2")]).rows.tolist() for one in (GRAPH, read))
    assert ours == theirs
    assert questions.difference(read, 10, 40).after == questions.difference(GRAPH, 10, 40).after


def test_what_is_no_graph_is_told() -> None:
    with pytest.raises(ValueError, match="are no lineage graph: KeyError"):
        Graph.from_arrays({})


def test_what_many_nodes_went_into_is_asked_at_once() -> None:
    rows = GRAPH.rows(b"".join(node(Kind.RECORD, f"src.reading/0/{offset}") for offset in range(6)))
    affected = questions.forward(GRAPH, rows[rows >= 0]).by_kind()
    assert {kind: affected[kind] for kind in (Kind.ACCEPTED, Kind.ROW, Kind.PREDICTION, Kind.ALERT)} == {
        Kind.ACCEPTED: 5,
        Kind.ROW: 4,
        Kind.PREDICTION: 1,
        Kind.ALERT: 1,
    }


def test_nothing_of_one_source_is_behind_a_prediction_and_of_another_there_is_with_the_path() -> None:
    prediction = [of(Kind.PREDICTION, "p5")]
    none = questions.absence(GRAPH, prediction, Sought(kind=Kind.RECORD, prefix="src.outcome"))
    assert (none.absent, none.proven, none.read, none.unread, none.withheld) == (True, True, 48, 0, 0)
    some = questions.absence(GRAPH, prediction, Sought(prefix="src.reading"))
    assert (some.absent, some.proven) == (False, False)
    assert [step.relation for step in some.counterexample] == [
        Relation.ACCEPTED_AS,
        Relation.COMPUTED_INTO,
        Relation.SCORED_INTO,
    ]


def test_absence_is_not_proven_where_leaves_were_withheld_or_not_understood_or_records_are_not_there() -> None:
    builder = Builder()
    builder.take(2, STORY.entries[2:])
    answer = questions.absence(builder.graph(), [of(Kind.ROW, "w0")], Sought(prefix="src.outcome"))
    assert (answer.absent, answer.proven, answer.withheld) == (True, False, 2)
    assert len(answer.unestablished) == 1
    found = questions.absence(builder.graph(), [of(Kind.ROW, "w0")], Sought(prefix="src.reading"))
    assert not found.absent  # the place of a record says its topic, even where the record was not given


def test_questions_about_what_no_entry_speaks_of_say_so() -> None:
    with pytest.raises(KeyError, match="no entry among the first 48 leaves speaks of version 'storm/9'"):
        questions.backward(GRAPH, [Node(Kind.VERSION, "storm/9")])
    with pytest.raises(KeyError, match="among the first 20 leaves"):
        questions.backward(GRAPH.as_of(20), [Node(Kind.VERSION, "storm/1")])
    with pytest.raises(ValueError, match="covers 48 leaves, not 49"):
        GRAPH.as_of(49)
    with pytest.raises(ValueError, match="nothing is sought"):
        questions.absence(GRAPH, [RECORD], Sought())
    with pytest.raises(ValueError, match="sizes 5 and 4 do not rise"):
        questions.difference(GRAPH, 5, 4)


def test_a_difference_names_what_came_and_what_was_in_force_before_and_after() -> None:
    found = questions.difference(GRAPH, 20, 40)
    assert {GRAPH.named(row).id for row in found.nodes[Kind.ALERT].tolist()} == {"alert1"}
    assert found.edges[Relation.SCORED_INTO] == 1
    assert (found.before.production, found.after.production) == ({}, {MODEL: "1"})
    assert found.after.definitions == {"weather": STORY.definition.id}
    assert found.after.alerts == {"alert1": "performance_loss"}
    assert questions.state(GRAPH).alerts == {}


def test_what_was_in_force_at_an_instant_depends_on_when_that_is_asked() -> None:
    closed = questions.state(GRAPH, at(57))
    assert closed.alerts == {"alert1": "performance_loss"}
    assert questions.state(GRAPH, at(61)).alerts == {}
    assert questions.state(GRAPH.as_of(40), at(61)).alerts == {"alert1": "performance_loss"}
    assert questions.state(GRAPH, at(24.5)).production == {}
    assert questions.state(GRAPH, at(25)).activations == {MODEL: STORY.ids["activated"]}
    assert questions.state(GRAPH, at(25)).deployments == {MODEL: STORY.ids["deployed"]}


def test_what_two_entries_say_together_is_known_with_the_later_one() -> None:
    entries = list(STORY.entries)
    entries.insert(33, entries.pop(28))  # the activation is read after the prediction that it answered
    builder = Builder()
    builder.take(0, entries)
    graph = builder.graph()
    activation, prediction = of(Kind.ACTIVATION, "activated"), of(Kind.PREDICTION, "p5")
    for size, expected in ((33, False), (34, True)):
        behind = questions.backward(graph.as_of(size), [prediction])
        assert (len(behind.of(Kind.ACTIVATION)) == 1) is expected
    assert path(graph, activation, prediction) == ["answered prediction"]


def test_the_rows_of_another_feature_set_on_the_same_records_are_not_in_the_dataset() -> None:
    story = told()
    (at_leaf,) = [
        leaf for leaf, entry in enumerate(story.entries) if entry.offset == 0 and entry.topic == "evt.feature.gusts"
    ]
    row = story.entries[at_leaf]
    ours, other = story.feature_set.id.encode(), content_id(b"another set").encode()
    headers = tuple((name, b"f" * 32 if name == "ce_id" else value) for name, value in row.headers)
    story.entries.append(row._replace(value=(row.value or b"").replace(ours, other), headers=headers))
    graph = build(story)
    held = given.rows_in(graph, DATASET, story.feature_set.id, [story.ids["r0"]])
    assert held.edges.sources.tolist() == [graph.row(Node(Kind.ROW, story.ids["w0"]))]
    also = given.rows_in(graph, DATASET, other.decode(), [story.ids["r0"]])
    assert also.edges.sources.tolist() == [graph.row(Node(Kind.ROW, "f" * 32))]
