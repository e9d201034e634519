from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mainstem.events.instant_columns import parse_all
from mainstem.events.instants import NEVER, parse, render

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(timezones=st.just(UTC))
#: Texts of the canonical form, of which many are no dates.
DATES = st.builds(
    "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z".format,
    *(st.integers(0, largest) for largest in (9999, 13, 32, 24, 60, 60, 999_999)),
)
OTHER_FORMS = st.sampled_from(["2013-05-01T04:00:00Z", "2013-05-01 04:00:00.5+02:00", "2013-05-01T04:00:00", "x", ""])


def wanted(text: str) -> int:
    """Return what `datetime` makes of a text; NEVER for none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return NEVER
    return NEVER if moment.tzinfo is None else (moment - EPOCH) // MICROSECOND


@given(MOMENTS)
@example(datetime(1, 1, 1, tzinfo=UTC))
@example(datetime.max.replace(tzinfo=UTC))
def test_what_is_rendered_is_read_back(moment: datetime) -> None:
    instant = (moment - EPOCH) // MICROSECOND
    text = render(instant)
    assert len(text) == 27
    assert parse(text) == instant == parse_all([text.encode()])[0]
    assert datetime.fromisoformat(text) == moment


@given(st.lists(MOMENTS.map(lambda m: render((m - EPOCH) // MICROSECOND)) | OTHER_FORMS, max_size=8))
def test_a_batch_is_read_as_datetime_reads_each_of_it(texts: list[str]) -> None:
    assert parse_all([text.encode() for text in texts]).tolist() == [wanted(text) for text in texts]


@given(st.lists(DATES, max_size=8))
@example(["2013-02-29T00:00:00.000000Z"])
@example(["0000-01-01T00:00:00.000000Z"])
@example(["2016-12-31T23:59:60.000000Z"])
def test_dates_that_do_not_exist_are_never(texts: list[str]) -> None:
    assert parse_all([text.encode() for text in texts]).tolist() == [wanted(text) for text in texts]


@given(st.builds(datetime.replace, MOMENTS.filter(lambda m: 1 < m.year < 9999), tzinfo=OFFSETS))
def test_an_offset_is_taken_into_account(moment: datetime) -> None:
    assert parse(moment.isoformat()) == (moment - EPOCH) // MICROSECOND


@given(st.lists(st.binary(max_size=30)))
def test_any_bytes_are_an_instant_or_never(texts: list[bytes]) -> None:
    assert parse_all(texts).dtype == np.int64


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_an_instant_that_cannot_be_written_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="outside the years 1 to 9999"):
        parse(text)
    assert parse_all([text.encode()]).tolist() == [NEVER]


def test_an_instant_without_an_offset_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="has no offset from UTC; write it with a Z"):
        parse("2013-05-01T04:00:00")
