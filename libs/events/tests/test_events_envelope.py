import json
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given
from hypothesis import strategies as st

from mainstem.events.catalogue import FACTS, decode, encode
from mainstem.events.envelope import Envelope, Event, begin, dataschema, follow
from mainstem.events.errors import Undecodable
from mainstem.events.fact import Fact
from mainstem.events.features import OrderJournalled
from mainstem.events.ids import child_id, content_id, fingerprint
from mainstem.events.instants import parse, render
from mainstem.events.training import RunFailed
from mainstem.testkit.examples import example
from mainstem.testkit.records import Taken

NAMES = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20)
INSTANTS = st.integers(parse("1900-01-01T00:00:00Z"), parse("2100-01-01T00:00:00Z"))
ENVELOPES = st.builds(
    Envelope,
    id=NAMES,
    type=st.just(RunFailed.TYPE),
    source=NAMES,
    subject=NAMES,
    time_us=INSTANTS,
    recorded_us=INSTANTS,
    correlation=NAMES,
    causation=NAMES,
    actor=NAMES,
    tenant=NAMES,
    origin=st.none() | NAMES,
    traceparent=st.none() | NAMES,
)


def as_record(event: Event) -> Taken:
    message = encode(event)
    return Taken(message.topic, 0, 7, message.value, message.key, message.headers)


@given(ENVELOPES)
def test_an_event_is_read_back_as_it_was_written(envelope: Envelope) -> None:
    event = Event(envelope, example(RunFailed))
    assert decode(as_record(event)) == event


@pytest.mark.parametrize("fact", [fact for fact in FACTS if fact.TOPIC != "*"], ids=lambda fact: fact.TYPE)
def test_every_fact_is_read_back_as_it_was_written(fact: type[Fact]) -> None:
    event = begin(example(fact), command_id="c", source="/test", actor="ann", recorded_us=0)
    assert decode(as_record(event)) == event


@given(ENVELOPES)
def test_the_cloudevents_library_reads_the_same_attributes(envelope: Envelope) -> None:
    record = as_record(Event(envelope, example(RunFailed)))
    message = KafkaMessage(dict(record.headers), record.key, record.value or b"")
    read = from_binary_event(message, JSONFormat())
    ours = (envelope.id, envelope.type, envelope.source, envelope.subject, render(envelope.time_us))
    theirs = (read.get_id(), read.get_type(), read.get_source(), read.get_subject(), render(_micros(read)))
    assert theirs == ours
    assert read.get_dataschema() == dataschema(envelope.type)
    assert read.get_datacontenttype() == "application/json"
    assert read.get_extension("correlationid") == envelope.correlation
    assert read.get_data() == json.loads(record.value or b"")


def _micros(event: Any) -> int:
    return parse(event.get_time().isoformat())


def test_what_follows_is_recorded_with_its_cause_and_carries_its_story() -> None:
    cause = begin(example(RunFailed), command_id="c", source="/a", actor="ann", recorded_us=5).envelope
    event = follow(cause, example(RunFailed), source="/b").envelope
    assert (event.recorded_us, event.correlation, event.causation, event.actor) == (5, "c", cause.id, "/b")


def test_several_consequences_of_one_type_have_different_ids() -> None:
    cause = begin(example(RunFailed), command_id="c", source="/a", actor="ann", recorded_us=5).envelope
    ids = [follow(cause, example(RunFailed), source="/b", name=name).envelope.id for name in ("one", "two", "one")]
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.parametrize("lost", ["ce_id", "ce_type", "ce_time", "ce_recordedtime", "ce_actor"])
def test_a_record_that_lacks_an_attribute_is_no_event_and_says_where_it_stands(lost: str) -> None:
    whole = as_record(begin(example(RunFailed), command_id="c", source="/a", actor="ann", recorded_us=5))
    headers = tuple(pair for pair in whole.headers if pair[0] != lost)
    with pytest.raises(
        Undecodable, match=rf"evt\.training\.run/0/7 is no event of the catalogue: KeyError\('{lost}'\)"
    ):
        decode(Taken(whole.topic, 0, 7, whole.value, whole.key, headers))


def test_an_attribute_that_is_null_is_one_that_lacks() -> None:
    whole = as_record(begin(example(RunFailed), command_id="c", source="/a", actor="ann", recorded_us=5))
    headers: Any = tuple((name, None if name == "ce_actor" else value) for name, value in whole.headers)
    with pytest.raises(Undecodable, match=r"KeyError\('ce_actor'\)"):
        decode(Taken(whole.topic, 0, 7, whole.value, whole.key, headers))


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_payload_that_does_not_fit_its_type_is_no_event(value: bytes | None) -> None:
    whole = as_record(begin(example(RunFailed), command_id="c", source="/a", actor="ann", recorded_us=5))
    with pytest.raises(Undecodable, match="fix its writer"):
        decode(Taken(whole.topic, 0, 7, value, whole.key, whole.headers))


def test_an_entry_of_the_journal_that_points_nowhere_is_no_event() -> None:
    entry = example(OrderJournalled).model_copy(update={"topics": ["src.a"], "runs": [(1, 0, 0, 0)]})
    record = as_record(begin(entry, command_id="c", source="/a", actor="ann", recorded_us=5))
    with pytest.raises(Undecodable, match="a run names a topic that the entry has not"):
        decode(record)


def test_ids_never_change() -> None:
    assert child_id("cause", "name") == "f09ddd9c89dcade0cc594102f661c1ad"
    assert content_id(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert fingerprint(b"id") == 7158104154424995


@given(NAMES, NAMES, NAMES, NAMES)
def test_ids_tell_apart_both_cause_and_name(cause: str, name: str, other_cause: str, other_name: str) -> None:
    same = (cause, name) == (other_cause, other_name)
    assert (child_id(cause, name) == child_id(other_cause, other_name)) is same
