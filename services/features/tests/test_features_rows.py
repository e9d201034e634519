"""What is published of a feature set has one place for every reader behind a fence, and a place of its own."""

import pytest
from services.features.tests.features_history import accepted

from mainstem.events.catalogue import decode
from mainstem.events.envelope import Message
from mainstem.events.features import FoldStopped
from mainstem.events.fence import Fence
from mainstem.feature_engine import CompiledSet
from mainstem.features.rows import RowWriter
from mainstem.fold.gap import Gap
from mainstem.telemetry import Tracer
from mainstem.testkit.projects import shop
from mainstem.testkit.records import Log, Taken

ORDERS = [accepted("orders", 0, number, number * 1_000_000, 1.0) for number in range(5)]


def written(compiled: CompiledSet) -> list[Message]:
    writer = RowWriter(compiled, Tracer("test", None))
    return [writer.row(record, dict(record.headers), b"{}") for record in ORDERS]


def admitted(messages: list[Message]) -> list[Taken]:
    return Fence().admit(Log().append(messages))[0]


def test_rows_of_a_set_that_takes_the_label_of_another_are_events_of_their_own() -> None:
    first, edited = (shop(window=window).feature_sets["buying"].compiled for window in ("1h", "2h"))
    assert (first.label, first.id == edited.id) == (edited.label, False)
    assert len(admitted([*written(first), *written(edited)])) == 2 * len(ORDERS)


def test_rows_written_again_are_second_copies() -> None:
    compiled = shop().feature_sets["buying"].compiled
    assert len(admitted([*written(compiled), *written(compiled)])) == len(ORDERS)


@pytest.mark.parametrize("later", [("evt.data.payments", 1, 300), ("evt.data.orders", 0, 2000)])
def test_every_gap_is_an_event_of_its_own(later: tuple[str, int, int]) -> None:
    writer = RowWriter(shop().feature_sets["buying"].compiled, Tracer("test", None))
    places = (("evt.data.orders", 0, 1000), later)
    gaps = [Gap.before(Taken(topic, partition, expected + 7), expected) for topic, partition, expected in places]
    events = [decode(record) for record in admitted([writer.stopped(gap) for gap in gaps])]
    assert [event.fact.expected_offset for event in events if isinstance(event.fact, FoldStopped)] == [1000, later[2]]
    assert len({event.envelope.id for event in events}) == 2
