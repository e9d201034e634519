"""What the broker gives is read whole, whatever the headers of a record are called."""

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchBuilderPy
from hypothesis import given
from hypothesis import strategies as st

from mainstem.bus.records import Records, Unreadable, _AnyNames

Headers = list[tuple[str, bytes | None]]


class Raw(str):
    """A name of a header that is written as other bytes."""

    def encode(self, *_: object) -> bytes:
        return b"a\xff\xfe"


def batch(*records: tuple[bytes | None, bytes | None, Headers], codec: int = 0) -> bytes:
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, -1, 1 << 20)
    for offset, (key, value, headers) in enumerate(records):
        assert builder.append(offset, 1_000 + offset, key, value, headers) is not None
    return bytes(builder.build())


def read(content: bytes) -> list[tuple[int, int, bytes | None, bytes | None, Headers]]:
    records, found = Records(content), []
    while records.has_next():
        one = records.next_batch()
        assert one.validate_crc()
        found += [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in one]
    return found


@pytest.mark.parametrize("codec", [0, 1, 4], ids=["plain", "gzip", "zstd"])
def test_a_name_that_is_no_text_is_written_as_its_bytes_and_takes_nothing_with_it(codec: int) -> None:
    before, after = (b"k", b"1", [("n", b"v")]), (None, None, [("n", None)])
    found = read(batch(before, (b"k", b"2", [(Raw(), b"v"), ("é", b"")]), after, codec=codec) + batch(before))
    odd = b"k", b"2", [("a\\xff\\xfe", b"v"), ("é", b"")]
    assert [record[2:] for record in found] == [before, odd, after, before]
    assert [record[:2] for record in found] == [(0, 1_000), (1, 1_001), (2, 1_002), (0, 1_000)]


TEXT = st.text(max_size=9).filter(lambda text: "\ud800" not in text)
BYTES = st.none() | st.binary(max_size=300)


@given(st.lists(st.tuples(BYTES, BYTES, st.lists(st.tuples(TEXT, BYTES), max_size=3)), min_size=1, max_size=5))
def test_whoever_reads_a_batch_reads_the_same(records: list[tuple[bytes | None, bytes | None, Headers]]) -> None:
    content = batch(*records)
    ways = [
        [(r.offset, r.timestamp, r.timestamp_type, r.key, r.value, list(r.headers)) for r in reader(content)]
        for reader in (DefaultRecordBatch, _AnyNames)
    ]
    assert ways[0] == ways[1]


def test_bytes_that_were_changed_are_told_with_their_offset() -> None:
    content = bytearray(batch((b"k", b"value", [])))
    content[:8] = (77).to_bytes(8)
    content[-3] ^= 1
    records = Records(bytes(content))
    with pytest.raises(Unreadable, match="/77: the batch cannot be read: its checksum"):
        records.next_batch().validate_crc()


def test_a_batch_that_is_no_records_is_told_and_nothing_of_it_is_given() -> None:
    content = bytearray(batch((b"k", b"1", []), (b"k", b"2", [])))
    content[-1] = 9  # there are no nine headers
    with pytest.raises(Unreadable, match="/0: the batch cannot be read"):
        iter(Records(bytes(content)).next_batch())
