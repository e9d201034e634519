"""A set shared out by keys gives, put together again, the bits of one engine."""

import doctest

import numpy as np
import pytest

from mainstem.feature_engine import Assembler, Batch, Engine, Shard, index_name, shard_of, sharding


def dealt(batch, compiled, shard):
    """Return the events of a batch that concern a shard, and their positions in it."""
    aggregates, streams = compiled.definition.aggregates, list(compiled.streams)
    lines = dict.fromkeys(streams, 0)
    chosen, columns = [], {name: {column: [] for column in batch.columns[name]} for name in streams}
    for position, number in enumerate(batch.stream.tolist()):
        name = streams[number]
        values = {column: given[lines[name]] for column, given in batch.columns[name].items()}
        lines[name] += 1
        keys = [(index_name(a), values[a.by]) for a in aggregates if a.stream == name]
        keys += [(index_name(a), values[a.at]) for a in aggregates if name == compiled.spine]
        if any(shard.owns(index, key) for index, key in keys):
            chosen.append(position)
            for column, value in values.items():
                columns[name][column].append(value)
    at = np.array(chosen, np.int64)
    return Batch(batch.stream[at], batch.event_time[at], batch.arrival[at], columns), at


@pytest.mark.parametrize(("shards", "size"), [(1, 400), (2, 400), (4, 40), (7, 400)])
def test_the_shards_of_a_set_know_together_what_one_engine_knows(compiled, random_log, batch_of, shards, size):
    log = random_log(31, 400)
    whole, assembler = Engine(compiled), Assembler(compiled)
    engines = {Shard(number, shards): Engine(compiled, Shard(number, shards)) for number in range(shards)}
    for start in range(0, len(log), size):
        batch = batch_of(log[start : start + size])
        spine = np.flatnonzero(batch.stream == 0)
        together = np.full((len(spine), len(compiled.definition.aggregates)), -1.0)
        known = np.zeros(together.shape, np.int64)
        for shard, engine in engines.items():
            part, at = dealt(batch, compiled, shard)
            found = engine.aggregate(part)
            rows = np.searchsorted(spine, at[found.index])
            known[rows] += found.owned
            together[rows] = np.where(found.owned, found.values, together[rows])
            engine.restore(engine.snapshot())
        assert (known == 1).all()
        values = assembler.values(batch.columns["order"], together)
        assert values.tobytes() == whole.process(batch).values.tobytes()


def test_a_shard_holds_nothing_but_its_own_keys(compiled, random_log, batch_of):
    batch = batch_of(random_log(32, 600))
    whole, parts = Engine(compiled), [Engine(compiled, Shard(number, 4)) for number in range(4)]
    whole.process(batch)
    for part in parts:
        part.aggregate(batch)
    assert max(part.state_bytes() for part in parts) < whole.state_bytes()


def test_keys_are_shared_out_evenly():
    counts = np.bincount([shard_of("a/b/c", f"key {number}", 8) for number in range(8000)])
    assert counts.min() > 900


def test_the_example_in_the_docstring_is_true():
    assert doctest.testmod(sharding).failed == 0
