"""The rows of a dataset as a file, and the hash that stands for what they say."""

import hashlib
import io
import json
import struct
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.training.tests.training_log import RANGES, dataset, whole

from mainstem.training.history.table import features, from_parquet, logical_hash, table_of, to_parquet

FOUND = dataset(whole())
TABLE = table_of(FOUND, ["wind"], RANGES.evaluation.start_us)
INSTANT = pa.timestamp("us", tz="UTC")
#: One column of each type, with nulls at other places.
SMALL = pa.table(
    {
        "id": pa.array(["a", None, "zwö"]),
        "at": pa.array([1, 2, None], INSTANT),
        "x.a": pa.array([0.5, None, -0.0]),
        "y": pa.array([1, 0, None], pa.int64()),
        "held_out": pa.array([True, None, False]),
    }
)


def written(table: pa.Table, **settings: object) -> pa.Table:
    out = io.BytesIO()
    pq.write_table(table, out, **settings)
    return pq.read_table(io.BytesIO(out.getvalue()))


def test_the_columns_of_a_dataset_are_named_and_typed():
    assert [(field.name, str(field.type)) for field in TABLE.schema] == [
        ("id", "string"),
        ("spine_id", "string"),
        ("entity", "string"),
        ("recorded_time", "timestamp[us, tz=UTC]"),
        ("event_time", "timestamp[us, tz=UTC]"),
        ("x.wind", "double"),
        ("y", "int64"),
        ("held_out", "bool"),
    ]


def test_a_table_comes_back_from_its_file_with_nulls_for_what_is_unknown():
    found = from_parquet(to_parquet(TABLE))
    assert found.equals(TABLE)
    assert 0 < found["x.wind"].null_count < len(found)
    assert features(found).tobytes() == FOUND.x.tobytes()
    assert sum(found["held_out"].to_pylist()) == sum(FOUND.recorded_us >= RANGES.evaluation.start_us)


def test_a_dataset_without_rows_is_a_table_with_all_its_columns():
    none = table_of(dataset(whole(rows=0)), ["wind"], RANGES.evaluation.start_us)
    assert (none.schema, len(none)) == (TABLE.schema, 0)
    assert features(from_parquet(to_parquet(none))).shape == (0, 1)


def test_the_hash_is_of_schema_validity_and_little_endian_values():
    state = hashlib.sha256(
        b'[3,["id","text"],["at","instant_us"],["x.a","float64"],["y","int64"],["held_out","boolean"]]'
    )
    state.update(bytes([0b101]) + struct.pack("<3q", 1, 0, 4) + "azwö".encode())
    state.update(bytes([0b011]) + struct.pack("<3q", 1, 2, 0))
    state.update(bytes([0b101]) + struct.pack("<3d", 0.5, 0, -0.0))
    state.update(bytes([0b011]) + struct.pack("<3q", 1, 0, 0))
    state.update(bytes([0b101]) + bytes([1, 0, 0]))
    assert logical_hash(SMALL) == f"sha256:{state.hexdigest()}"


@pytest.mark.parametrize("codec", ["none", "snappy", "zstd", "gzip"])
@pytest.mark.parametrize("group", [1, 7, 10_000])
def test_the_hash_does_not_hang_on_codec_row_groups_or_encoding(codec, group):
    plain = written(TABLE, compression=codec, row_group_size=group, use_dictionary=False, data_page_version="2.0")
    assert logical_hash(plain) == logical_hash(TABLE)


@given(st.lists(st.integers(0, len(TABLE)), max_size=5))
def test_the_hash_does_not_hang_on_chunks(cuts):
    ends = [0, *sorted(cuts), len(TABLE)]
    pieces = [TABLE.slice(start, end - start) for start, end in pairwise(ends)]
    assert logical_hash(pa.concat_tables(pieces)) == logical_hash(TABLE)


def test_a_slice_hashes_like_a_copy_of_it():
    assert logical_hash(TABLE.slice(5, 9)) == logical_hash(pa.Table.from_pylist(TABLE.to_pylist()[5:14], TABLE.schema))


def other(column: str, values: list[object]) -> pa.Table:
    at = SMALL.column_names.index(column)
    return SMALL.set_column(at, column, pa.array(values, SMALL.schema.field(column).type))


OTHERS = {
    "another text": other("id", ["a", None, "zwo"]),
    "an empty text for a null": other("id", ["a", "", "zwö"]),
    "texts cut elsewhere": other("id", ["az", None, "wö"]),
    "another instant": other("at", [1, 3, None]),
    "a zero for a null": other("x.a", [0.5, 0.0, -0.0]),
    "a zero of another sign": other("x.a", [0.5, None, 0.0]),
    "another last bit": other("x.a", [0.5000000000000001, None, -0.0]),
    "another label": other("y", [0, 0, None]),
    "a false for a null": other("held_out", [True, False, False]),
    "another order of rows": SMALL.take([1, 0, 2]),
    "another order of columns": SMALL.select(["at", "id", "x.a", "y", "held_out"]),
    "another name": SMALL.rename_columns(["id", "at", "x.b", "y", "held_out"]),
    "another type": SMALL.set_column(1, "at", pa.array([1, 2, None], pa.int64())),
    "fewer rows": SMALL.slice(0, 2),
    "fewer columns": SMALL.drop_columns(["id"]),
}


@pytest.mark.parametrize("table", OTHERS.values(), ids=list(OTHERS))
def test_other_content_has_another_hash(table):
    assert logical_hash(table) != logical_hash(SMALL)


def test_a_type_that_no_dataset_has_is_named():
    with pytest.raises(ValueError, match=r"columns a float, b date32\[day\] are of no type that a dataset has"):
        logical_hash(pa.table({"a": pa.array([1.0], pa.float32()), "b": pa.array([1], pa.date32())}))


def test_what_is_no_parquet_file_is_refused():
    with pytest.raises(ValueError, match="Parquet"):
        from_parquet(json.dumps({"rows": 0}).encode())
