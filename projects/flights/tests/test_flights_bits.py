"""The year of flights has one SHA-256, whatever the batches, wherever the engine is killed, compiled or not."""

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
from projects.flights.tests.year import Year

from mainstem.feature_engine import Engine
from mainstem.feature_engine.reference import Applied, Reference

#: Of the rows of 15 features of all 328,521 departures.
PINNED = "c04c299ac44c758695af406f09dfa719b21b32192f352508e543286ee9b267b1"
WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
import hashlib, pickle
from mainstem.feature_engine import Batch, Engine, load
spec, batch = pickle.load(open(sys.argv[1], "rb"))
print(hashlib.sha256(Engine(load(spec)).process(Batch(*batch)).values.tobytes()).hexdigest())
"""


def digest(engine: Engine, year: Year, size: int) -> str:
    found = hashlib.sha256()
    for batch in year.batches(size):
        found.update(engine.process(batch).values.tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("size", [1, 64, 977, 4096, 1_000_000])
def test_the_year_has_the_same_bytes_in_batches_of_any_size(year: Year, size: int) -> None:
    assert digest(Engine(year.compiled), year, size) == PINNED


def test_the_year_has_the_same_bytes_when_the_engine_is_killed_and_restored_at_twenty_places(year: Year) -> None:
    places = sorted(Random(20).sample(range(1, len(year)), 20))
    found, state = hashlib.sha256(), Engine(year.compiled).snapshot()
    for batch in year.cut(places):
        engine = Engine(year.compiled)
        engine.restore(state)
        found.update(engine.process(batch).values.tobytes())
        state = engine.snapshot()
    assert found.hexdigest() == PINNED


def test_the_first_weeks_have_the_same_bytes_without_machine_code(year: Year, tmp_path: Path) -> None:
    batch = year.batch(0, 20_000)
    file = tmp_path / "weeks"
    file.write_bytes(
        pickle.dumps((year.compiled.spec, (batch.stream, batch.event_time, batch.arrival, dict(batch.columns))))
    )
    printed = subprocess.check_output([sys.executable, "-c", WITHOUT_NUMBA, file], text=True)
    values = Engine(year.compiled).process(batch).values
    assert printed.strip() == hashlib.sha256(values.tobytes()).hexdigest()


def test_the_reference_gives_the_bits_of_every_thirtieth_departure_of_the_year(year: Year) -> None:
    """All records are applied by code that shares nothing with the engine; a cell is a scan of its window."""
    values = Engine(year.compiled).process(year.batch(0, len(year))).values
    reference, names = Reference(year.compiled.spec), list(year.compiled.streams)
    rows = [list(zip(*(_plain(v) for v in of.values()), strict=True)) for of in year.columns.values()]
    columns = [tuple(of) for of in year.columns.values()]
    line, cells = [0] * len(names), 0
    events = zip(year.stream.tolist(), year.event_time.tolist(), year.arrival.tolist(), strict=True)
    for number, happened, arrived in events:
        at = line[number]
        line[number] += 1
        record = Applied(names[number], happened, arrived, dict(zip(columns[number], rows[number][at], strict=True)))
        if number == 0 and at % 30 == 0:
            expected = [np.nan if cell is None else cell for cell in reference.row(record)]
            np.testing.assert_array_equal(values[at], expected, err_msg=f"departure {at}")
            cells += len(expected)
        reference.apply(record)
    assert cells > 160_000


def _plain(values: object) -> list[object]:
    """Return a column as plain values, null as None."""
    if isinstance(values, np.ndarray):
        null = -(2**63) if values.dtype == np.int64 else None
        return [None if value == null or value != value else value for value in values.tolist()]  # noqa: PLR0124
    return list(values)
