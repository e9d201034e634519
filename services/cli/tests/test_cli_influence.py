"""What a record went into is exactly what would be another row without it: held against every row's own records."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from mainstem.cli.evidence.columns import Columns, Gathering, Place
from mainstem.cli.evidence.influence import Influence
from mainstem.events.data import RecordAccepted
from mainstem.events.envelope import Envelope
from mainstem.events.frames import Entry
from mainstem.feature_engine import CompiledSet, feature_set, window
from mainstem.feature_engine.reference import Applied, Reference
from mainstem.ledger_service.domain import Placed
from mainstem.testkit.projects import orders, payments

MINUTE = 60_000_000
SPINE, OTHER = orders(replay=True), payments(replay=True)
order, payment = SPINE.stream(), OTHER.stream()


@feature_set("buying", spine=order, lateness="3m")
class Buying:
    weight = order.weight
    orders = order.by("shop").count("5m")
    weights = order.by("shop").sum("weight", "4m")
    heavy = order.by("shop").last("weight", ttl="6m")
    heavy_age = order.by("shop").age("weight", ttl="6m")
    paid = payment.by("shop").mean(payment.paid > 3, "3m")
    paid_hop = payment.by("shop").max("paid", window("4m", hop="2m"))
    paid_last = payment.by("shop").last("paid", ttl=None)
    paid_now = payment.by("shop").decay_mean("paid", half_life="1m", horizon="4m", tick="1m")


COMPILED: CompiledSet = Buying.compile()

#: Source, shop, minutes until it arrives, minutes that it is old by then, value (None: null where that may be).
Drawn = tuple[str, str, int, int, int | None]
DRAWN: st.SearchStrategy[list[Drawn]] = st.lists(
    st.tuples(
        st.sampled_from(("orders", "payments")),
        st.sampled_from(("a", "b")),
        st.integers(0, 2),
        st.integers(0, 5),
        st.none() | st.integers(0, 6),
    ),
    min_size=2,
    max_size=40,
)


def accepted(leaf: int, offset: int, arrival_us: int, drawn: Drawn) -> Placed:
    source, shop, _, age, value = drawn
    record = {"shop": shop, "amount": 1, "weight": value} if source == "orders" else {"shop": shop, "paid": value or 0}
    fact = RecordAccepted(source=source, contract="c", record=record)
    envelope = Envelope(
        id=f"{source}-{offset}",
        type=RecordAccepted.TYPE,
        source="/test",
        subject=shop,
        time_us=arrival_us - age * MINUTE,
        recorded_us=arrival_us,
        correlation="story",
        causation="record",
        actor="/test",
        origin=f"src.{source}/0/{offset}",
    )
    value_ = fact.model_dump_json(exclude={"replaces"}).encode()
    return Placed(leaf, Entry(f"evt.data.{source}", 0, offset, 0, shop.encode(), value_, envelope.headers()))


def columns_of(drawn: Sequence[Drawn]) -> Columns:
    arrival_us, offsets, placed = 1_367_366_400_000_000, defaultdict[str, int](int), list[Placed]()
    for leaf, (source, shop, later, age, value) in enumerate(drawn):
        arrival_us += later * MINUTE
        placed.append(accepted(leaf, offsets[source], arrival_us, (source, shop, later, age, value)))
        offsets[source] += 1
    gathering = Gathering(COMPILED)
    gathering.take(placed)
    return gathering.finish()


def applied(columns: Columns) -> list[Applied]:
    """Return all records in the applied order."""
    streams = columns.streams.items()
    found = [one for name, stream in streams for one in stream.records(name, np.arange(len(stream.places["leaf"])))]
    return [record for _, record in sorted(found, key=lambda each: each[0])]


def leaf_of(record: Applied) -> int:
    assert isinstance(record.place, Place)
    return record.place.leaf


def by_brute_force(records: Sequence[Applied]) -> Mapping[int, set[int]]:
    """Return, by the leaf of a record, the leaves of the spine records whose rows list it."""
    reference, found = Reference(COMPILED.spec), defaultdict[int, set[int]](set)
    for record in records:
        if record.stream == COMPILED.spine:
            found[leaf_of(record)].add(leaf_of(record))
            for name in COMPILED.names:
                for one in reference.behind(record, name):
                    assert isinstance(one.place, Place)
                    found[one.place.leaf].add(leaf_of(record))
        reference.apply(record)
    return found


@settings(max_examples=300, deadline=None)
@given(drawn=DRAWN)
def test_a_record_went_into_the_rows_that_rest_on_it_and_no_others(drawn: list[Drawn]) -> None:
    columns = columns_of(drawn)
    records, influence = applied(columns), Influence(COMPILED, columns)
    wanted = by_brute_force(records)
    for record in records:
        leaves = influence.leaves(record.stream, leaf_of(record)).tolist()
        assert leaves == sorted(wanted[leaf_of(record)]), record


def test_a_record_that_was_not_applied_went_into_nothing() -> None:
    columns = columns_of([("orders", "a", 1, 0, 1), ("payments", "a", 1, 0, 1)])
    assert Influence(COMPILED, columns).leaves("orders", 99).tolist() == []
