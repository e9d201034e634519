"""Features of entities: what the log says as far as it was read, whatever the polls, and how old that is."""

from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.features.tests.features_history import SECOND, Process, history

from mainstem.events.features import OrderJournalled
from mainstem.feature_engine.spec import feature_set
from mainstem.fold.gap import Gap
from mainstem.inference import Signature, Tensor
from mainstem.inference.errors import BadRequest, NotReady, Unsupported
from mainstem.inference.rest import Reader, read_plain
from mainstem.project import FeatureSetDefinition, boolean, category, source, time
from mainstem.project import fixed as number
from mainstem.project.definition import parse
from mainstem.project.serving import Lookup as Settings
from mainstem.project.serving import Serving
from mainstem.serving.domain import Followed
from mainstem.serving.lookup import Lookup
from mainstem.serving.lookups import Lookups
from mainstem.serving.store import followed
from mainstem.serving.wire import described
from mainstem.testkit.projects import shop
from mainstem.testkit.waiting import until

ASKED = {"shop": ["s00", "s11", "nobody"], "amount": [12.5, None, 0.01]}


def project(*, live=False, **settings):
    serving = Serving(latency_ms=50, lookup=Settings(**settings))
    return shop(replay=not live).model_copy(update={"serving": serving})


def ready(definition=None):
    """Return a lookup that has read what there was."""
    lookup = Lookup(definition or project(), "buying")
    lookup.fault = None
    return lookup


async def computed(past, definition):
    """Return what the feature service reads for ASKED after so many records, and its journal."""
    service = Process(past, definition)
    found = {}
    for place, records in past.items():
        for _ in records:
            await service.poll(place, 1)
            if service.fold.applied:
                found[service.fold.applied] = read(service.fold)
    return found, [record for record in service.log.records if record.topic == OrderJournalled.TOPIC]


def read(fold):
    columns = {"shop": ASKED["shop"], "amount": np.array(ASKED["amount"], np.float64)}
    return fold.read({name: columns[name] for name in fold.compiled.streams["orders"]}, np.full(3, fold.reached))


def looked_up(lookup, *calls):
    return lookup.read([lookup.entities(columns) for columns in calls or [ASKED]])


def same(one, other):
    return np.array_equal(np.asarray(one).view(np.int64), np.asarray(other).view(np.int64))


@pytest.mark.parametrize("live", [False, True])
@given(cuts=st.lists(st.integers(1, 5), min_size=30, max_size=30), seed=st.integers(0, 99))
async def test_the_values_are_those_of_the_feature_service_after_as_many_records(live, cuts, seed):
    definition, past = project(live=live), history(markers=not live)
    wanted, journal = await computed(past, definition)
    lookup, order = ready(definition), np.random.default_rng(seed)
    left = {place: list(records) for place, records in past.items()} | {(OrderJournalled.TOPIC, 0): list(journal)}
    seen = set()
    for cut in cuts * 4:
        places = [place for place in left if left[place]]
        if not places:
            break
        place = places[order.integers(len(places))]
        lookup.take(left[place][:cut])
        lookup.take(left[place][: order.integers(cut + 1)])  # delivered twice
        del left[place][:cut]
        if lookup._fold.applied in wanted:
            assert same(looked_up(lookup), wanted[lookup._fold.applied])
            seen.add(lookup.as_of().applied)
    lookup.take([record for place in left for record in left[place]])
    assert lookup.as_of().applied == max(wanted)
    assert same(looked_up(lookup), wanted[max(wanted)])


@pytest.mark.parametrize("live", [False, True])
async def test_it_goes_on_where_it_was_stored(live):
    definition, past = project(live=live), history(markers=not live)
    wanted, journal = await computed(past, definition)
    records = [record for run in past.values() for record in run]
    first = ready(definition)
    first.take([*records[:9], *journal[: len(journal) // 2]])
    again = ready(definition)
    again.restore(first.snapshot())
    offsets = again.offsets()
    again.take([r for r in records if r.offset >= offsets[r.topic, r.partition]] + journal)
    assert again.as_of().applied == max(wanted)
    assert same(looked_up(again), wanted[max(wanted)])


async def test_entities_of_several_calls_are_read_at_once_each_as_if_alone():
    lookup = ready()
    lookup.take([record for run in history().values() for record in run])
    calls = [{"shop": ["s00", "s01"]}, {"amount": [3.0]}, {"shop": ["s11"], "amount": [None]}]
    assert same(looked_up(lookup, *calls), np.concatenate([looked_up(lookup, call) for call in calls]))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"shop": ["s00"], "amount": [1.0, 2.0]}, "different lengths: {'shop': 1, 'amount': 2}"),
        ({"colour": ["red"]}, "reads no column 'colour' of an entity; it reads: "),
        ({"shop": [3]}, "input 'shop', entity 0: "),
        ({"amount": [1.0, "two"]}, "input 'amount', entity 1: "),
    ],
)
def test_what_describes_no_entity_is_refused(columns, said):
    with pytest.raises(BadRequest, match="^.*" + said.replace("{", r"\{")):
        ready().entities(columns)


def test_nothing_is_read_before_the_log_was():
    with pytest.raises(NotReady, match="its records are being read"):
        Lookup(project(), "buying").as_of()
    with pytest.raises(NotReady, match="has applied no record yet"):
        ready().as_of()


def test_what_is_gone_of_the_log_is_not_passed_over():
    lookup, past = ready(), history()
    place = next(place for place in past if len(past[place]) > 3)
    lookup.take(past[place][:1])
    with pytest.raises(Gap):
        lookup.take(past[place][2:])


def test_what_is_gone_is_not_passed_over_where_nothing_has_come_behind_it():
    lookup, past = ready(), history()
    place = next(place for place in past if len(past[place]) > 3)
    other = next(one for one in past if one != place)
    lookup.take(past[place][:2])
    lookup.emptied({place: 2, other: 4, (OrderJournalled.TOPIC, 0): 7})  # the log of a partition may begin anywhere
    with pytest.raises(Gap, match="goes on at offset 3"):
        lookup.emptied({place: 3})
    with pytest.raises(Gap, match="goes on at offset 5"):
        lookup.emptied({other: 5})


def paid(times):
    """Return what the log holds when only so many payments of each partition were ever made."""
    records = []
    for (topic, _), run in history().items():
        payments = iter(range(times))
        kept = [r for r in run if r.key is None or topic == "evt.data.orders" or next(payments, None) is not None]
        records += [replace(record, offset=offset) for offset, record in enumerate(kept)]
    return records


def test_a_source_beyond_its_limit_is_marked_or_refused():
    lookup = ready()
    lookup.take(paid(1))
    ages = lookup.as_of().ages
    assert ages["orders"] == 0 < ages["payments"]
    limits = {"orders": 1, "payments": int(ages["payments"] * SECOND) - 1}
    marking, refusing = (ready(project(limits=limits, stale=stale)) for stale in ("mark", "refuse"))
    marking.take(paid(1))
    refusing.take(paid(1))
    assert marking.as_of().stale == ["payments"]
    assert same(looked_up(marking), looked_up(lookup))
    with pytest.raises(NotReady, match=r"too old: payments: .* s, at most .* s"):
        refusing.as_of()


def test_of_a_source_without_a_record_the_age_is_not_known_and_no_limit_is_kept():
    lookup = ready(project(limits={"payments": 3_600 * SECOND}, stale="mark"))
    lookup.take(paid(0))
    assert lookup.as_of().ages["payments"] is None
    assert lookup.as_of().stale == ["payments"]
    assert "age_s.payments" not in lookup.as_of().parameters()


def test_ages_are_told_whether_or_not_calls_are_answered():
    lookup = ready(project(limits={"payments": SECOND}))
    assert lookup.ages() == {"orders": None, "payments": None}
    lookup.take(paid(1))
    with pytest.raises(NotReady, match="too old"):
        lookup.as_of()
    lookup.fault = "its records are gone"
    assert lookup.ages()["orders"] == 0 < lookup.ages()["payments"]


async def test_the_age_of_a_live_source_is_told_by_the_clock():
    past = history(markers=False)
    _, journal = await computed(past, project(live=True))
    lookup = ready(project(live=True))
    lookup.take([record for run in past.values() for record in run] + journal)
    assert min(lookup.as_of().ages.values()) > 365 * 86_400  # the records are of 1970


async def test_a_set_whose_reading_failed_is_refused_with_the_reason_and_begun_again(service, tmp_path, caplog):
    await service.deploy()
    live = service.board.live("storm")
    lookups = Lookups("nowhere:1", tmp_path)
    lookups.want({live.feature_definition: Followed("gusts", b"no project")})
    task = lookups._running[live.feature_definition]
    await until(task.done)
    with pytest.raises(NotReady, match="the features of gusts are not looked up any more"):
        lookups.of(live)
    assert list(lookups.away([live])) == [("storm", True)]
    await until(lambda: "is not followed any more" in caplog.text)
    lookups.want({live.feature_definition: Followed("gusts", b"no project")})
    assert lookups._running[live.feature_definition] is not task
    await lookups.stop()
    assert list(lookups.away([live])) == []
    with pytest.raises(Unsupported, match="not called by entity"):
        lookups.of(live)


KINDS = {"BYTES": object, "FP64": np.float64, "INT64": np.int64, "BOOL": bool}


def every_kind():
    """Return a project whose feature set reads a column of each kind of its spine."""
    columns = {
        "sensor": category("the sensor"),
        "wind": number("wind", unit="mph", lo=0, hi=200, scale=10),
        "gusts": number("how often it gusted", unit="1", lo=0, hi=99, integer=True),
        "seen": time("when it was seen"),
        "calm": boolean("whether nobody noticed"),
    }
    contract = source("reading", key="sensor", columns=columns, replay=True)
    read = contract.stream()
    names = ("wind", "gusts", "calm")
    features = {name: getattr(read, name) for name in names}
    features |= {"hour": read.seen.local("UTC").hour, "n": read.by("sensor").count("1h")}
    compiled = feature_set("kinds", spine=read, lateness="1h")(type("Kinds", (), features)).compile()
    parts = {"kinds": FeatureSetDefinition(id=compiled.id, spec=compiled.spec)}
    return shop().model_copy(update={"sources": {"reading": contract}, "feature_sets": parts})


def test_what_is_told_of_a_column_is_the_datatype_of_a_tensor_that_is_taken_for_it():
    definition, values = every_kind(), {"BYTES": b"2013-05-01T00:00:00Z", "FP64": 4.5, "INT64": 7, "BOOL": True}
    told = followed(definition, "kinds")
    assert told.columns == {"sensor": "BYTES", "wind": "FP64", "gusts": "INT64", "seen": "BYTES", "calm": "BOOL"}
    tensors = [Tensor(name, np.array([values[datatype]], KINDS[datatype])) for name, datatype in told.columns.items()]
    assert {one.name: one.datatype for one in tensors} == told.columns
    assert Lookup(parse(told.project), told.feature_set).entities(described(tensors)).number == 1


NULLS = {"sensor": "BYTES", "wind": "FP64", "gusts": "INT64", "seen": "BYTES", "calm": "BOOL"}


@pytest.mark.parametrize("name", sorted(NULLS))
def test_null_is_unknown_in_a_column_of_every_kind_and_in_each_form_of_a_call(name):
    told = {"sensor": "a", "wind": 4.5, "gusts": 7, "seen": "2013-05-01T00:00:00Z", "calm": True}
    inputs = [{"name": name, "datatype": NULLS[name], "shape": [3], "data": [None, told[name], None]}]
    body = orjson.dumps({"inputs": inputs})
    columns, plain = described(Reader(Signature((), ())).read(body).inputs), read_plain("features", body)
    assert columns == {name: [None, told[name], None]}
    assert plain is None if NULLS[name] == "BOOL" else plain.columns == columns
    lookup = Lookup(every_kind(), "kinds")
    said = dict(zip(lookup._columns, lookup.entities(columns).columns, strict=True))
    assert [value is None for value in said[name]] == [True, False, True]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_whole_number_that_came_as_a_fraction_is_told_which_datatype_to_send(dtype):
    lookup = Lookup(every_kind(), "kinds")
    with pytest.raises(BadRequest, match=r"input 'gusts', entity 1: 7\.0 is a floating-point number; send .* INT64$"):
        lookup.entities(described([Tensor("gusts", np.array([np.nan, 7.0], dtype))]))
    with pytest.raises(BadRequest, match=r"input 'gusts', entity 0: 7\.5 is not a whole number$"):
        lookup.entities(described([Tensor("gusts", np.array([7.5], dtype))]))
