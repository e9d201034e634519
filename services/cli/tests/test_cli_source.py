"""Files of records on their way to a source."""

import json
import random
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mainstem.cli.commands.source import cloud_event
from mainstem.cli.record_files import in_batches, open_records
from mainstem.events.errors import Rejected
from mainstem.project import boolean, category, fixed, source, text, time

CONTRACT = source(
    "plan",
    key="flight",
    columns={
        "flight": category("its number"),
        "seats": fixed("seats", unit="1", lo=0, hi=900, nullable=True),
        "full": boolean("whether all seats are taken"),
        "note": text("what was said"),
        "leaves": time("when it leaves"),
    },
)
ANSWER = {"source": "plan", "taken": 0}
INTAKE = "POST /v1/sources/plan/records"


def read(file):
    records = open_records(file, lambda: CONTRACT)
    found = [json.loads(record) for record in records.records()]
    assert records.count() == len(found)
    return found


def test_lines_are_sent_byte_for_byte(tmp_path):
    file = tmp_path / "plan.ndjson"
    file.write_bytes(b'{"seats": 1.50, "seats": 2}\n\n  {"a":"\\u00e9"}\r\n{}')
    records = list(open_records(file, lambda: CONTRACT).records())
    assert records == [b'{"seats": 1.50, "seats": 2}', b'{"a":"\\u00e9"}', b"{}"]


@pytest.mark.parametrize("line", ["{", "[1]", "null"])
def test_a_line_that_is_no_object_is_named_before_anything_is_sent(services, tmp_path, line):
    file = tmp_path / "plan.jsonl"
    file.write_text('{"a": 1}\n' * 3_000 + line)
    done = services.run("source", "send", "plan", file)
    assert done.exit_code == 1
    assert f"mainstem: {file}:3001 " in done.stderr
    assert services.asked == []


def test_cells_become_what_the_contract_says(tmp_path):
    file = tmp_path / "plan.csv"
    file.write_text("flight,seats,full,note,leaves\n007,180,true,12,2013-01-01T00:00:00Z\n008,1.5,false,,x\n")
    assert read(file) == [
        {"flight": "007", "seats": 180, "full": True, "note": "12", "leaves": "2013-01-01T00:00:00Z"},
        {"flight": "008", "seats": 1.5, "full": False, "note": None, "leaves": "x"},
    ]


def test_a_cell_that_does_not_read_as_its_column_is_left_for_the_contract_to_refuse(tmp_path):
    file = tmp_path / "plan.csv"
    file.write_text('flight,seats,full,new\n"a, ""b""",many,perhaps,5\n')
    assert read(file) == [{"flight": 'a, "b"', "seats": "many", "full": "perhaps", "new": "5"}]


@pytest.mark.parametrize("row", ["1", "1,2,3", '"1,2'])
def test_a_row_that_is_not_like_the_header_is_named(tmp_path, row):
    (tmp_path / "plan.csv").write_text(f"flight,seats\n5,6\n{row}\n")
    with pytest.raises(Rejected, match=r"plan\.csv:\d+ .* nothing was sent"):
        open_records(tmp_path / "plan.csv", lambda: CONTRACT).count()


def test_instants_of_a_parquet_file_are_sent_with_their_offset(tmp_path):
    at = datetime(2013, 1, 1, 5, tzinfo=UTC)
    row = {"flight": "007", "seats": float("nan"), "full": None, "leaves": at}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "plan.parquet")
    assert read(tmp_path / "plan.parquet") == [
        {"flight": "007", "seats": None, "full": None, "leaves": "2013-01-01T05:00:00+00:00"}
    ]


@pytest.mark.parametrize("name", ["plan.xlsx", "plan.parquet"])
def test_a_file_of_another_kind_is_refused(tmp_path, name):
    (tmp_path / name).write_text("not what it should be")
    with pytest.raises(Rejected, match=name):
        open_records(tmp_path / name, lambda: CONTRACT)


def test_batches_hold_every_record_once_within_their_limits():
    sizes = random.Random(7)
    records = [b"x" * sizes.randrange(1, 300) for _ in range(500)]
    batches = list(in_batches(records, most=20, most_bytes=1_000))
    assert [record for batch in batches for record in batch] == records
    assert all(len(batch) <= 20 and sum(map(len, batch)) <= 1_000 for batch in batches)


def test_a_record_larger_than_a_batch_goes_alone():
    assert list(in_batches([b"a", b"b" * 9, b"c"], 5, 4)) == [[b"a"], [b"b" * 9], [b"c"]]


def test_a_file_goes_out_in_arrays(services, tmp_path):
    services.on(INTAKE, ANSWER, 202)
    (tmp_path / "plan.ndjson").write_text("".join(f'{{"n": {n}}}\n' for n in range(2_500)))
    done = services.run("source", "send", "plan", tmp_path / "plan.ndjson", "-o", "json")
    assert json.loads(done.stdout)[0]["taken"] == 2_500
    assert [(path, len(body)) for path, body in services.asked] == [(INTAKE, 1000), (INTAKE, 1000), (INTAKE, 500)]


def test_when_the_intake_refuses_it_is_said_how_many_were_taken(services, tmp_path):
    services.on(INTAKE, {"title": "unknown source", "detail": "no source 'plan'"}, 404)
    (tmp_path / "plan.ndjson").write_text('{"n": 1}\n{"n": 2}\n')
    done = services.run("source", "send", "plan", tmp_path / "plan.ndjson")
    assert done.exit_code == 1
    assert "unknown source: no source 'plan'; the first 0 of 2 records" in done.stderr


def test_a_time_without_an_id_is_wrong_usage(services, tmp_path):
    (tmp_path / "plan.ndjson").write_text("{}")
    done = services.run("source", "send", "plan", tmp_path / "plan.ndjson", "--time-column", "leaves")
    assert done.exit_code == 2
    assert "--id-column" in done.stderr


def test_a_cloud_event_has_its_columns_in_its_headers():
    message = cloud_event(CONTRACT, b'{"flight":"007","leaves":"T","row":7}', {"ce_id": "row", "ce_time": "leaves"})
    assert (message.topic, message.key, message.partition) == ("src.plan", b"007", None)
    assert dict(message.headers) == {
        "ce_specversion": b"1.0", "ce_type": b"plan", "ce_source": b"/mainstem/cli", "ce_id": b"7", "ce_time": b"T",
    }  # fmt: skip
    assert json.loads(message.value) == {"flight": "007", "leaves": "T"}


def test_a_null_gives_no_header_and_a_key_that_is_no_text_no_key():
    message = cloud_event(CONTRACT, b'{"flight":7,"row":null}', {"ce_id": "row"})
    assert message.key is None
    assert "ce_id" not in dict(message.headers)


def test_a_column_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(Rejected, match="no column 'idd', it has: flight, row"):
        cloud_event(CONTRACT, b'{"flight":"7","row":1}', {"ce_id": "idd"})
