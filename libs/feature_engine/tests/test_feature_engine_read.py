"""A read without an event answers what an event at that moment would be answered, and leaves no trace."""

import numpy as np
import pytest

from mainstem.feature_engine import Engine

SECOND = 1_000_000
MINUTE = 60 * SECOND


def columns_of(batch, position):
    """Return the columns of the spine event at a position of a batch, as a read is given them."""
    line = int((batch.stream[:position] == 0).sum())
    return {name: values[line : line + 1] for name, values in batch.columns["order"].items()}


def test_a_read_gives_the_row_that_an_event_would_get(compiled, random_log, batch_of):
    log = random_log(41, 600)
    reading, writing = Engine(compiled), Engine(compiled)
    read = 0
    for event in log:
        batch = batch_of([event])
        if event[0] == "order" and event[1] >= event[2] - MINUTE:
            given = reading.read(columns_of(batch, 0), batch.event_time)
            expected = writing.process(batch).values
            assert given.tobytes() == expected.tobytes()
            read += 1
        else:
            writing.process(batch)
        reading.process(batch)
    assert read > 100


def test_reads_in_between_change_no_row_and_are_counted_nowhere(compiled, random_log, batch_of):
    log = random_log(42, 400)
    disturbed, quiet = Engine(compiled), Engine(compiled)
    for start in range(0, len(log), 20):
        batch = batch_of(log[start : start + 20])
        assert disturbed.process(batch).values.tobytes() == quiet.process(batch).values.tobytes()
        spine = batch.columns["order"]
        n = len(spine["shop"])
        for ahead in (-50, 0, 3_600, 900):
            disturbed.read(spine, np.full(n, disturbed.reached + ahead * SECOND))
    assert (disturbed.applied, disturbed.too_late) == (quiet.applied, quiet.too_late)
    assert disturbed.out_of_range == quiet.out_of_range


def test_of_a_text_that_no_event_had_there_is_nothing_and_it_is_not_learnt(compiled, random_log, batch_of):
    engine = Engine(compiled)
    engine.process(batch_of(random_log(43, 200)))
    before = engine.snapshot()
    columns = {"shop": ["nobody"], "item": [None], "amount": [5.0], "rush": np.array([1]), "due": np.array([0])}
    row = dict(zip(compiled.names, engine.read(columns, np.array([engine.reached]))[0].tolist(), strict=True))
    assert (row["amount"], row["n_30s"], row["sum_2m"], row["items_2m"]) == (5.0, 0.0, 0.0, 0.0)
    assert all(np.isnan(row[name]) for name in ("mean_30s", "previous", "level"))
    assert engine.snapshot() == before


def test_a_moment_whose_events_may_be_gone_is_refused(compiled, random_log, batch_of):
    batch = batch_of(random_log(44, 100))
    engine = Engine(compiled)
    engine.process(batch)
    columns = columns_of(batch, int(np.flatnonzero(batch.stream == 0)[0]))
    engine.read(columns, np.array([engine.reached - MINUTE]))
    with pytest.raises(ValueError, match="what came before may be gone"):
        engine.read(columns, np.array([engine.reached - MINUTE - 1]))


def test_a_read_without_a_column_is_refused_by_name(compiled):
    with pytest.raises(ValueError, match=r"order\.amount has 0 values for 1 events"):
        Engine(compiled).read({"shop": ["A"]}, np.array([0]))


def test_a_read_of_nothing_gives_no_rows(compiled):
    assert Engine(compiled).read({}, np.empty(0, np.int64)).shape == (0, len(compiled.names))
