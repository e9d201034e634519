"""Entries that are no events of ours: counted with their leaves, never raised, and what can be said of them is said."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libs.lineage.tests.lineage_story import told

from mainstem.events.catalogue import FACTS
from mainstem.events.frames import Entry
from mainstem.lineage import Builder, Graph, Kind, Node, questions
from mainstem.lineage.openlineage import Export
from mainstem.lineage.prov import write

STORY = told()


def entry(topic: str, value: bytes | None = b"{}", offset: int = 0, **headers: bytes | None) -> Entry:
    return Entry(topic, 0, offset, 1_000, None, value, tuple((f"ce_{key}", text) for key, text in headers.items()))


def build(entries: Sequence[Entry]) -> Graph:
    builder = Builder()
    builder.take(0, entries)
    return builder.graph()


def test_unread_entries_are_counted_by_topic_and_type_and_the_first_are_named() -> None:
    strange = [entry("evt.else", type=b"else.v1", id=b"e%d" % number) for number in range(7)]
    graph = build([*STORY.entries, *strange, entry("evt.else", value=None)])
    size = len(STORY.entries)
    assert graph.unread.by_kind(graph.size) == {
        ("evt.else", "else.v1"): (7, [size, size + 1, size + 2, size + 3, size + 4]),
        ("evt.else", ""): (1, [size + 7]),
    }
    assert graph.unread.below(size + 2) == 2
    assert graph.unread.by_kind(size) == {}


def test_an_event_of_an_unknown_type_still_has_its_cause() -> None:
    promoted = STORY.ids["promoted"].encode()
    later = entry("evt.else", type=b"mainstem.else.new.v1", id=b"new", causationid=promoted)
    graph = build([*STORY.entries, later])
    approval = Node(Kind.APPROVAL, STORY.ids["approved"])
    assert graph.row(Node(Kind.EVENT, "new")) in questions.forward(graph, [approval])


@pytest.mark.parametrize("fact", sorted(fact.TYPE for fact in FACTS))
def test_an_event_whose_payload_does_not_fit_its_type_is_unread_and_has_its_cause(fact: str) -> None:
    cause = STORY.ids["promoted"].encode()
    broken = [
        entry("evt.x", value, type=fact.encode(), id=b"b%d" % number, causationid=cause)
        for number, value in enumerate((None, b"", b"{", b"[]", b"[" * 5000, b'{"definition": 1}', b"\xff"))
    ]
    graph = build([*STORY.entries, *broken])
    unread = graph.unread.by_kind(graph.size)
    if fact == "mainstem.data.progress.v1":
        assert unread == {}
    else:
        assert unread == {("evt.x", fact): (7, list(range(len(STORY.entries), len(STORY.entries) + 5)))}
        assert graph.row(Node(Kind.EVENT, "b0")) in questions.forward(graph, [Node(Kind.PROMOTION, cause.decode())])


def test_whatever_a_source_topic_holds_is_a_record_and_says_nothing_else() -> None:
    forged = {
        "type": b"mainstem.registry.version_approved.v1",
        "id": b"x",
        "causationid": STORY.ids["promoted"].encode(),
    }
    graph = build([*STORY.entries, entry("src.reading", b"\xff", 99, **forged)])
    record = Node(Kind.RECORD, "src.reading/0/99")
    assert graph.named(graph.row(record)).leaf == len(STORY.entries)
    assert len(questions.forward(graph, [record])) == len(questions.backward(graph, [record])) == 0
    assert graph.unread.below(graph.size) == 0


def test_a_source_cannot_choose_the_cause_of_what_is_made_of_its_record() -> None:
    promoted = STORY.ids["promoted"]
    story = told()
    story.record(promoted, "reading", {"sensor": "s7", "wind": 1.0}, 61)
    graph = build(story.entries)
    assert graph.row(Node(Kind.ACCEPTED, story.ids[promoted])) not in questions.forward(
        graph, [Node(Kind.PROMOTION, story.ids["promoted"])]
    )


BYTES = st.one_of(
    st.none(), st.binary(max_size=20), st.sampled_from([b"{}", b"null", b"\xff", b"2013-05-01T04:00:00Z"])
)
TYPES = st.sampled_from([*(fact.TYPE.encode() for fact in FACTS), b"", b"\xff", None])
NAMES = st.sampled_from(["ce_id", "ce_causationid", "ce_origin", "ce_recordedtime", "ce_time", "ce_source", "x"])
ENTRIES = st.builds(
    lambda topic, offset, timestamp, value, type_, headers: Entry(
        topic, 0, offset, timestamp, None, value, (("ce_type", type_), *headers)
    ),
    st.sampled_from(["src.a", "evt.data.a", "evt.feature.a", "tel.prediction.a", "evt.monitoring.window", "\x00", ""]),
    st.integers(0, 2**62),
    st.integers(-(2**63), 2**63 - 1),
    BYTES,
    TYPES,
    st.lists(st.tuples(NAMES, BYTES), max_size=6).map(tuple),
)


@given(st.lists(ENTRIES, max_size=12))
def test_no_entry_is_ever_raised(entries: list[Entry]) -> None:
    graph = build(entries)
    assert graph.read == len(entries)
    assert graph.unread.below(graph.size) <= len(entries)
    assert set(write(enumerate(entries)).unread) <= set(range(len(entries)))
    assert list(Export().events(enumerate(entries))) == []


def test_leaves_that_go_back_are_refused() -> None:
    builder = Builder()
    builder.take(5, STORY.entries[:2])
    with pytest.raises(ValueError, match="leaf 6 comes after leaf 6; take the entries in the order of their leaves"):
        builder.take(6, STORY.entries[:1])
    with pytest.raises(ValueError, match=r"leaves up to 7 were taken, which a log of 3 has not; ask graph.as_of\(3\)"):
        builder.graph(3)
    assert (builder.graph(20).read, builder.graph().size) == (2, 7)


def test_what_was_built_can_be_built_on() -> None:
    builder = Builder()
    builder.take(0, STORY.entries[:20])
    early = builder.graph()
    builder.take(20, STORY.entries[20:])
    assert builder.graph().nodes > early.nodes
    assert early.unread.below(48) == 0
