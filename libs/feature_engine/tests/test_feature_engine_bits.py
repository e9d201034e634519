"""The same bits however the log is cut, wherever the engine is restarted, and with or without machine code."""

import copy
import hashlib
import json
import os
import pickle
import subprocess
import sys
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.feature_engine import (
    Batch,
    DefinitionError,
    Engine,
    SnapshotError,
    category,
    feature_set,
    load,
    stream,
)
from mainstem.feature_engine.index import Index
from mainstem.feature_engine.kernel import counts as counting
from mainstem.feature_engine.kernel import fold as kernel

WITHOUT_NUMBA = """
import sys
if "switched off" not in sys.argv:
    sys.modules["numba"] = None
import hashlib, json
import numpy as np
from mainstem.feature_engine import Batch, Engine, load
given = json.load(sys.stdin)
columns = {
    stream: {name: values if kind is None else np.array(values, kind) for name, (kind, values) in columns.items()}
    for stream, columns in given["columns"].items()
}
batch = Batch(np.array(given["stream"], np.int8), np.array(given["event_time"]), np.array(given["arrival"]), columns)
engine = Engine(load(given["spec"]))
values = engine.process(batch).values.tobytes()
print(hashlib.sha256(values).hexdigest(), hashlib.sha256(engine.snapshot()).hexdigest())
"""


def plain_column(values):
    return (None, values) if isinstance(values, list) else (values.dtype.str, values.tolist())


@pytest.mark.parametrize(("size", "length"), [(1, 300), (2, 600), (7, 1200), (64, 1200), (999, 1200)])
def test_any_size_of_batch_gives_the_same_bytes(fold, random_log, size, length):
    log = random_log(11, length)
    assert fold(log, range(size, len(log), size)) == fold(log)


@given(seed=st.integers(0, 2**32), length=st.integers(0, 120), data=st.data())
def test_any_cuts_of_any_log_give_the_same_bytes(fold, random_log, seed, length, data):
    cuts = data.draw(st.lists(st.integers(0, length), max_size=8))
    log = random_log(seed, length)
    assert fold(log, cuts) == fold(log)


@pytest.mark.parametrize("cut", [0, 1, 13, 500, 998, 1000])
def test_a_restored_engine_goes_on_with_the_same_bytes(compiled, random_log, batch_of, cut):
    log = random_log(5, 1000)
    first, second, whole = Engine(compiled), Engine(compiled), Engine(compiled)
    first.process(batch_of(log[:cut]))
    whole.process(batch_of(log[:cut]))
    second.restore(first.snapshot())
    tail = batch_of(log[cut:])
    assert second.process(tail).values.tobytes() == whole.process(tail).values.tobytes()
    assert second.snapshot() == whole.snapshot()


@pytest.mark.parametrize("size", [1, 50, 299])
def test_the_snapshot_does_not_depend_on_the_batches_either(compiled, random_log, batch_of, size):
    log = random_log(9, 300)
    whole, parts = Engine(compiled), Engine(compiled)
    whole.process(batch_of(log))
    for start in range(0, len(log), size):
        parts.process(batch_of(log[start : start + size]))
    assert parts.snapshot() == whole.snapshot()


def test_taking_snapshots_on_the_way_changes_nothing(compiled, random_log, batch_of):
    log = random_log(12, 600)
    quiet, busy = Engine(compiled), Engine(compiled)
    for start in range(0, len(log), 30):
        part = batch_of(log[start : start + 30])
        assert busy.process(part).values.tobytes() == quiet.process(part).values.tobytes()
        busy.snapshot()
    assert busy.snapshot() == quiet.snapshot()


@pytest.mark.parametrize("damage", [slice(0, -1), slice(0, 0), slice(1, None)])
def test_a_damaged_snapshot_is_refused(compiled, damage):
    with pytest.raises(SnapshotError, match="not a whole snapshot"):
        Engine(compiled).restore(Engine(compiled).snapshot()[damage])


def test_a_snapshot_of_another_feature_set_is_refused(compiled):
    other = stream("order", key="order_id", columns={})

    @feature_set("other", spine=other, lateness="0s")
    class Other:
        n = other.by("order_id").count("1h")

    with pytest.raises(SnapshotError, match="this engine computes"):
        Engine(Other.compile()).restore(Engine(compiled).snapshot())


@pytest.mark.parametrize("how", ["not there", "switched off"])
def test_the_engine_gives_the_same_bytes_without_numba(compiled, random_log, batch_of, how):
    batch = batch_of(random_log(21, 1000))
    columns = {s: {c: plain_column(v) for c, v in of.items()} for s, of in batch.columns.items()}
    times = {
        "stream": batch.stream.tolist(),
        "event_time": batch.event_time.tolist(),
        "arrival": batch.arrival.tolist(),
    }
    given_log = json.dumps({"spec": compiled.spec, "columns": columns, **times})
    command, env = [sys.executable, "-c", WITHOUT_NUMBA, how], os.environ | {"NUMBA_DISABLE_JIT": "1"}
    printed = subprocess.check_output(command, input=given_log, text=True, env=env)
    engine = Engine(compiled)
    values = engine.process(batch).values.tobytes()
    assert printed.split() == [hashlib.sha256(data).hexdigest() for data in (values, engine.snapshot())]


def test_the_replay_of_a_fixed_log_has_the_pinned_hash(fold, random_log):
    digest = hashlib.sha256(fold(random_log(2013, 2000))).hexdigest()
    assert digest == "c71ce84e4fb9c7edd1183156aa643db27c3627694b052eaf13ed692818e2db8d"


def test_an_engine_that_was_interrupted_answers_nothing_until_it_is_restored(compiled, random_log, batch_of):
    log = random_log(3, 600)
    engine, whole = Engine(compiled), Engine(compiled)
    for each in (engine, whole):
        each.process(batch_of(log[:100]))
    kept = engine.snapshot()
    with patch.object(Index, "widen", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        engine.process(batch_of(log[100:]))
    for ask in (lambda: engine.process(batch_of(log[100:])), engine.snapshot):
        with pytest.raises(RuntimeError, match="was interrupted within its events; restore a snapshot"):
            ask()
    engine.restore(kept)
    tail = batch_of(log[100:])
    assert engine.process(tail).values.tobytes() == whole.process(tail).values.tobytes()


def test_an_engine_that_was_interrupted_while_it_gave_its_snapshot_answers_nothing(compiled, random_log, batch_of):
    log = random_log(3, 200)
    engine = Engine(compiled)
    engine.process(batch_of(log[:100]))
    with patch.object(Index, "renumber", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        engine.snapshot()
    with pytest.raises(RuntimeError, match="was interrupted within its events"):
        engine.process(batch_of(log[100:]))


@pytest.mark.parametrize("step", [1, 7, 8, 9, 64])
def test_categories_that_are_numbered_in_step_with_their_keys_lie_apart(step):
    counts = np.empty((1 << 16, 2), np.int64)
    packed = [counting.pack(key, 0, 1, step * key + n) for key in range(8_192 // step) for n in range(step)]
    places = {counting.home(counts, number) for number in packed}
    assert len(places) > 0.85 * len(packed)  # thrown at random: 0.94


@pytest.mark.parametrize("streams", [127, 128])
def test_a_set_reads_127_streams_at_most(streams):
    read = [stream(f"s{n}", key="id", columns={"id": category()}) for n in range(streams)]
    counted = {f"n{n}": each.by("id").count("1h") for n, each in enumerate(read)}
    wide = feature_set("wide", spine=read[0], lateness="1m")(type("Wide", (), counted))
    if streams == 127:
        columns = {name: {"id": ["a"]} for name in wide.compile().streams}
        batch = Batch(np.arange(127, dtype=np.int8), np.arange(127), np.arange(127), columns)
        assert Engine(wide.compile()).process(batch).values.shape == (1, 127)
    else:
        with pytest.raises(DefinitionError, match="it reads 128 streams, 127 are the most; split it"):
            wide.compile()


def test_an_empty_batch_gives_no_rows(compiled, batch_of):
    rows = Engine(compiled).process(batch_of([]))
    assert rows.values.shape == (0, len(compiled.names))
    assert rows.index.size == rows.too_late.size == 0


@pytest.mark.parametrize("ways", [copy.copy, copy.deepcopy, pickle.dumps])
def test_an_engine_is_copied_by_its_snapshot_alone(compiled, ways):
    with pytest.raises(TypeError, match="give its snapshot"):
        ways(Engine(compiled))


def test_a_loaded_definition_computes_the_same_bytes(compiled, random_log, batch_of):
    batch = batch_of(random_log(4, 300))
    again = load(json.loads(json.dumps(compiled.spec)))
    np.testing.assert_array_equal(Engine(again).process(batch).values, Engine(compiled).process(batch).values)


PREPARED = """
from mainstem.feature_engine import prepare
from mainstem.feature_engine.kernel.encoding import write_fixed, write_texts, write_times, write_truths
from mainstem.feature_engine.kernel.fold import between, deal, finish, fold, recount
prepare()
called = write_fixed, write_texts, write_times, write_truths, between, deal, finish, fold, recount
print({len(function.signatures) for function in called})
"""


def test_whatever_is_called_from_python_can_be_compiled_beforehand():
    assert subprocess.check_output([sys.executable, "-c", PREPARED], text=True) == "{1}\n"


def test_the_fold_is_compiled_once_whatever_comes(compiled, random_log, batch_of):
    engine = Engine(compiled)
    for length in (0, 1, 300):
        engine.process(batch_of(random_log(length, length)))
        engine.restore(engine.snapshot())
    assert len(kernel.fold.signatures) == len(kernel.finish.signatures) == 1
