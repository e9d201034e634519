"""The same bits however the log is cut, wherever the engine is restarted, and with or without machine code."""

import copy
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.feature_engine import Engine, SnapshotError, feature_set, load, stream
from mainstem.feature_engine.kernel import fold as kernel

WITHOUT_NUMBA = """
import sys
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
print(hashlib.sha256(Engine(load(given["spec"])).process(batch).values.tobytes()).hexdigest())
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


def test_the_engine_gives_the_same_bytes_without_numba(compiled, random_log, batch_of):
    batch = batch_of(random_log(21, 1000))
    columns = {s: {c: plain_column(v) for c, v in of.items()} for s, of in batch.columns.items()}
    times = {
        "stream": batch.stream.tolist(),
        "event_time": batch.event_time.tolist(),
        "arrival": batch.arrival.tolist(),
    }
    given_log = json.dumps({"spec": compiled.spec, "columns": columns, **times})
    printed = subprocess.check_output([sys.executable, "-c", WITHOUT_NUMBA], input=given_log, text=True)
    values = Engine(compiled).process(batch).values
    assert printed.strip() == hashlib.sha256(values.tobytes()).hexdigest()


def test_the_replay_of_a_fixed_log_has_the_pinned_hash(fold, random_log):
    digest = hashlib.sha256(fold(random_log(2013, 2000))).hexdigest()
    assert digest == "c71ce84e4fb9c7edd1183156aa643db27c3627694b052eaf13ed692818e2db8d"


def test_an_empty_batch_gives_no_rows(compiled, batch_of):
    rows = Engine(compiled).process(batch_of([]))
    assert rows.values.shape == (0, len(compiled.names))
    assert rows.index.size == rows.too_late.size == 0


def test_an_engine_is_copied_by_its_snapshot_alone(compiled):
    with pytest.raises(TypeError, match="give its snapshot"):
        copy.deepcopy(Engine(compiled))


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
