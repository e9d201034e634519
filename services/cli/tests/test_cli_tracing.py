"""Which spine record is meant by an id, whatever else the topic holds."""

import pytest

from mainstem.cli.tracing import Sought
from mainstem.events.data import RecordAccepted
from mainstem.events.errors import Rejected
from mainstem.testkit.records import Taken

TOPIC = "evt.data.orders"


def record(event_id, cause, offset=0, **headers):
    known = {"ce_type": RecordAccepted.TYPE, "ce_id": event_id, "ce_causationid": cause, "ce_correlationid": "c"}
    known |= {"ce_recordedtime": "r", "ce_origin": f"src.orders/0/{offset}", **headers}
    return Taken(TOPIC, 0, offset, headers=tuple((name, value.encode()) for name, value in known.items()))


def sought(wanted, *records):
    found = Sought(wanted, TOPIC)
    for one in records:
        if found.take([one]):
            break
    return found.found()


ONE, TWO = record("aa1", "order-1", 0), record("aa2", "order-2", 1)
JUNK = [
    record("junk", "aa1", 2, ce_origin="src.else/0/2"),
    record("junk", "aa1", 3, ce_origin="src.orders/1/3"),
    record("junk", "aa1", 4, ce_type="mainstem.else.done.v1"),
    record("/", "aa1", 5),
    Taken(TOPIC, 0, 6, None),
]


@pytest.mark.parametrize("wanted", ["aa1", "order-1"])
def test_a_record_is_found_by_its_own_id_and_by_that_of_its_source(wanted):
    assert sought(wanted, TWO, ONE) == "aa1"


@pytest.mark.parametrize("junk", JUNK)
def test_what_says_to_follow_from_the_record_is_not_taken_for_it(junk):
    assert sought("aa1", junk, ONE) == "aa1"


@pytest.mark.parametrize("junk", JUNK)
def test_what_ingestion_did_not_write_is_never_meant(junk):
    with pytest.raises(Rejected, match=r"none of the 1 records of evt\.data\.orders has an id that begins with 'aa1'"):
        sought("aa1", junk)


def test_an_own_id_goes_before_one_of_a_source_that_is_the_same():
    assert sought("aa1", record("bb", "aa1", 7), ONE) == "aa1"


def test_a_whole_id_goes_before_a_beginning():
    assert sought("order-1", record("aa3", "order-10", 3), ONE) == "aa1"


def test_a_beginning_that_fits_several_is_refused_with_some_of_them():
    with pytest.raises(Rejected, match=r"2 records of .* that begins with 'aa': aa1, aa2; give more"):
        sought("aa", ONE, TWO)
