"""The fast path, the slow examination and pydantic hold every record to the same contract."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mainstem.events.instants import NEVER
from mainstem.project import Decoder, Fault, Reason, boolean, category, fixed, source, text, time
from mainstem.project.records import examine

CONTRACT = source(
    "reading",
    key="sensor",
    columns={
        "sensor": category("the sensor", max_length=8),
        "site": category("where it hangs", values=["north", "south"]),
        "wind": fixed("wind", unit="mph", lo=0, hi=200, scale=1000, nullable=True),
        "steps": fixed("steps", unit="1", lo=-5, hi=5, integer=True),
        "taken": time("when the sample was taken"),
        "wet": boolean("whether it rained", nullable=True),
        "note": text("remark", nullable=True, max_length=5),
    },
    max_age="1d",
    ahead="5m",
    batch={"max_null": {"wind": 0.5}},
)
DECODER = Decoder(CONTRACT)
MODEL = CONTRACT.model()
GOOD = {"sensor": "s1", "site": "north", "wind": 3.5, "steps": 1, "taken": "2013-05-01T04:00:00Z", "wet": True}
HOUR = 3_600_000_000


def judge(value: bytes, key: bytes | None = b"s1", age: int = 0) -> Fault | None:
    return DECODER.judge([value], [key], np.zeros(1, np.int64), np.array([age])).faults[0]


def encode(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


def pydantic_accepts(value: bytes) -> bool:
    try:
        MODEL.model_validate_json(value)
    except ValidationError:
        return False
    return True


def decoder_accepts(value: bytes) -> bool:
    try:
        DECODER.columns([value])
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("value", "reason", "column"),
    [
        (b'{"sensor": "s1"', Reason.MALFORMED_JSON, None),
        (b'{"sensor": "\xff"}', Reason.MALFORMED_JSON, None),
        (b"", Reason.MALFORMED_JSON, None),
        (encode() + encode(), Reason.MALFORMED_JSON, None),
        (encode()[:-1] + b', "steps": 2, "steps": "two"}', Reason.WRONG_TYPE, "steps"),
        (b'{"steps": "two", ' + encode()[1:], Reason.MALFORMED_JSON, None),
        (b"[1, 2]", Reason.NOT_AN_OBJECT, None),
        (b"null", Reason.NOT_AN_OBJECT, None),
        (without("site"), Reason.MISSING_FIELD, "site"),
        (encode(colour="red"), Reason.UNKNOWN_FIELD, "colour"),
        (encode(wind="3.5"), Reason.WRONG_TYPE, "wind"),
        (encode(wind=True), Reason.WRONG_TYPE, "wind"),
        (encode(steps=1.0), Reason.WRONG_TYPE, "steps"),
        (encode(taken="2013-05-01 04:00"), Reason.WRONG_TYPE, "taken"),
        (encode(taken="2013-05-01T04:00:00"), Reason.WRONG_TYPE, "taken"),
        (encode(wet=1), Reason.WRONG_TYPE, "wet"),
        (encode(sensor=None), Reason.NULL_NOT_ALLOWED, "sensor"),
        (encode(wind=1048.35759), Reason.OUT_OF_RANGE, "wind"),
        (encode(wind=10**400), Reason.OUT_OF_RANGE, "wind"),
        (encode(steps=-6), Reason.OUT_OF_RANGE, "steps"),
        (encode(wind=3).replace(b'"wind": 3', b'"wind": 1e999'), Reason.OUT_OF_RANGE, "wind"),
        (b'{"wind": 1e999, "site": ]', Reason.MALFORMED_JSON, None),
        (b'{"wind": 1e999, "site": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", Reason.MALFORMED_JSON, None),
        (b'{"wind": 1e999, "wind": "\xff"}', Reason.MALFORMED_JSON, None),
        (b"[1e999]", Reason.NOT_AN_OBJECT, None),
        (encode(site="east"), Reason.UNKNOWN_CATEGORY, "site"),
        (encode(note="remark"), Reason.TOO_LONG, "note"),
        (encode(sensor="s23456789"), Reason.TOO_LONG, "sensor"),
    ],
)
def test_a_broken_payload_is_refused_for_its_reason(value: bytes, reason: Reason, column: str | None) -> None:
    fault = judge(value)
    assert fault is not None
    assert (fault.reason, fault.column) == (reason, column)


@pytest.mark.parametrize(
    ("steps", "says"), [(1.0, "1.0 is written as a fraction; write 1"), (1.5, "1.5 is not a whole number")]
)
def test_a_whole_number_that_is_refused_for_its_form_is_not_called_a_fraction(steps: float, says: str) -> None:
    fault = judge(encode(steps=steps))
    assert fault is not None
    assert fault.detail == f"steps: {says}"


@pytest.mark.parametrize("value", [encode(), without("wind"), encode(wet=None, note=None), encode(wind=200, steps=-5)])
def test_a_good_payload_is_accepted(value: bytes) -> None:
    assert judge(value) is None


@pytest.mark.parametrize("key", [None, b"s2", b""])
def test_a_key_other_than_the_key_column_is_refused(key: bytes | None) -> None:
    fault = judge(encode(), key)
    assert fault is not None
    assert fault.reason is Reason.KEY_MISMATCH


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (-HOUR, Reason.EVENT_AFTER_ARRIVAL),
        (-CONTRACT.ahead - 1, Reason.EVENT_AFTER_ARRIVAL),
        (-CONTRACT.ahead, None),
        (CONTRACT.max_age, None),
        (CONTRACT.max_age + 1, Reason.TOO_OLD),
    ],
)
def test_event_and_arrival_times_may_not_lie_too_far_apart(age: int, reason: Reason | None) -> None:
    fault = judge(encode(), age=age)
    assert (fault and fault.reason) == reason


def test_a_fault_of_the_payload_goes_before_key_and_times() -> None:
    fault = judge(encode(steps=9), key=None, age=10 * CONTRACT.max_age)
    assert fault == Fault(Reason.OUT_OF_RANGE, "steps", "steps: 9 1 is not within -5 and 5")


def test_a_bad_record_leaves_its_neighbours_alone() -> None:
    clocks = np.zeros(3, np.int64)
    faults = DECODER.judge([encode(), b"{", encode()], [b"s1"] * 3, clocks, clocks).faults
    assert [fault and fault.reason for fault in faults] == [None, Reason.MALFORMED_JSON, None]


def test_two_halves_of_an_object_do_not_make_a_record() -> None:
    clocks = np.zeros(2, np.int64)
    halves = [encode()[:20], encode()[20:]]
    assert all(DECODER.judge(halves, [b"s1"] * 2, clocks, clocks).faults)


def test_nulls_are_reported_for_the_columns_that_a_batch_rule_watches() -> None:
    clocks = np.zeros(3, np.int64)
    judged = DECODER.judge([encode(), without("wind"), b"{"], [b"s1"] * 3, clocks, clocks)
    assert {name: nulls.tolist() for name, nulls in judged.nulls.items()} == {"wind": [False, True, False]}


def test_columns_hold_texts_numbers_and_instants_row_for_row() -> None:
    columns = DECODER.columns([encode(), encode(sensor="s2", wind=None, wet=None, taken="1970-01-01T01:00:00+01:00")])
    assert columns["sensor"] == ["s1", "s2"]
    assert columns["note"] == [None, None]
    np.testing.assert_array_equal(columns["wind"], [3.5, np.nan])
    np.testing.assert_array_equal(columns["wet"], [1, -1])
    np.testing.assert_array_equal(columns["taken"], [1_367_380_800_000_000, 0])


def test_a_missing_instant_is_never() -> None:
    decoder = Decoder(source("s", key="k", columns={"k": category("key"), "t": time("t", nullable=True)}))
    assert np.asarray(decoder.columns([b'{"k":"a"}'])["t"]).tolist() == [NEVER]


def test_no_records_make_empty_columns() -> None:
    assert [len(column) for column in DECODER.columns([]).values()] == [0] * len(CONTRACT.columns)


def test_columns_of_a_refused_record_are_an_error() -> None:
    with pytest.raises(ValueError, match="'reading' was never accepted"):
        DECODER.columns([encode(), b"{}"])


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 300),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=10),
    st.sampled_from(["north", "east", "s1", "2013-05-01T04:00:00+02:00", "2013-02-30T00:00:00Z"]),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
CHANGES = st.dictionaries(st.sampled_from([*CONTRACT.columns, "colour"]), SCALARS, max_size=3)


@given(CHANGES, st.sets(st.sampled_from(sorted(CONTRACT.columns)), max_size=1))
@settings(max_examples=400)
def test_decoder_examination_and_pydantic_agree_on_every_object(changes: dict[str, object], dropped: set[str]) -> None:
    record = {name: value for name, value in {**GOOD, **changes}.items() if name not in dropped}
    value = json.dumps(record).encode()
    accepted = decoder_accepts(value)
    assert accepted == pydantic_accepts(value)
    assert accepted == (examine(CONTRACT, value).detail == "a field stands in it twice")


@given(st.binary(max_size=40) | st.integers(0, 130).map(lambda end: encode()[:end]))
@settings(max_examples=300)
def test_decoder_and_pydantic_refuse_the_same_bytes(value: bytes) -> None:
    assert decoder_accepts(value) == pydantic_accepts(value)
