"""What stands in the log for bytes that a bundle cannot hold."""

from hashlib import sha256

import pytest

from mainstem.ledger.entry import entry_of, stands_for
from mainstem.ledger.tiles import ENTRY_BYTES, pack_entries


@pytest.mark.parametrize("size", [0, 1, 41, ENTRY_BYTES])
def test_what_fits_stands_for_itself(size):
    data = b"\x01" * size
    assert (entry_of(data), stands_for(entry_of(data))) == (data, None)


def test_what_is_too_long_is_entered_by_its_length_and_digest():
    data = b"\x01" * (ENTRY_BYTES + 1)
    entry = entry_of(data)
    assert stands_for(entry) == (ENTRY_BYTES + 1, sha256(data).digest())
    assert len(pack_entries([entry])) == len(entry) + 2 == 43
    assert entry_of(data[:-1] + b"\x02") != entry


@pytest.mark.parametrize("entry", [b"", b"\xff", b"\xff" * 40, b"\x01" * 41, b"\xff" * 42])
def test_an_entry_of_another_form_is_no_stub(entry):
    assert stands_for(entry) is None
