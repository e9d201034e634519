"""The year computed offline is held against what was served: one other bit, score or row is found."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from projects.flights.demo.books import Books, Promises, scores
from projects.flights.demo.offline import Offline, compare
from projects.flights.demo.reading import Table, once
from projects.flights.tests.conftest import World

from mainstem.project import ProjectDefinition
from mainstem.training.engine import fit
from mainstem.training.onnx_export import to_onnx


@pytest.fixture(scope="module")
def names(project: ProjectDefinition) -> list[str]:
    return list(project.feature_sets["flight_delay"].compiled.names)


@pytest.fixture(scope="module")
def served(world: World) -> tuple[Table, Table, dict[int, bytes]]:
    """Return the rows of some days, what two versions have answered about them, and the versions."""
    rows = once(world.log.rows)[0]
    late = (rows["values"][:, 0] > 15).astype(np.int64)
    models = {number: to_onnx(fit(rows["values"], late, {"max_iter": number + 2}, seed=number)) for number in (1, 2)}
    version = np.where(np.arange(len(late)) % 3 == 0, 1, 2)
    score = np.empty(len(late))
    for number, onnx in models.items():
        score[version == number] = scores(onnx, rows["values"][version == number])
    columns = {name: rows[name] for name in ("key", "partition", "number", "time_us", "recorded_us", "crc", "inputs")}
    answers = {"row": rows["id"], "version": version, "score": score, "channel": np.full(len(late), b"stream", "S6")}
    ids = np.array([f"prediction-{n}" for n in range(len(late))], "S32")
    return rows, {**columns, **answers, "id": ids, "cause": rows["id"].astype("S48")}, models


@pytest.fixture(scope="module")
def backfilled(served: tuple[Table, Table, dict[int, bytes]], names: list[str]) -> pa.Table:
    """Return what a backfill gives, in an order of its own."""
    rows = served[0]
    mixed = np.random.default_rng(1).permutation(len(rows["id"]))
    late = (rows["values"][mixed, 0] > 15).tolist()
    columns = {name: pa.array(rows["values"][mixed, at], from_pandas=True) for at, name in enumerate(names)}
    label = pa.array([None if at % 7 == 0 else one for at, one in enumerate(late)])
    return pa.table({"spine_id": [one.decode() for one in rows["spine_id"][mixed].tolist()], **columns, "label": label})


@pytest.fixture(scope="module")
def held(
    world: World, served: tuple[Table, Table, dict[int, bytes]], names: list[str]
) -> Callable[[pa.Table, Table], Offline]:
    def against(table: pa.Table, predictions: Table) -> Offline:
        books = Books(replace(world.log, predictions=predictions), [], Promises())
        return compare(books, table, names, served[2])

    return against


def test_what_was_served_is_what_a_backfill_gives(held, backfilled, served) -> None:
    rows, predictions, _ = served
    found = held(backfilled, predictions)
    count = len(rows["id"])
    assert found == Offline(count, count * 15, 0, count, 0, 0.0)


def test_one_value_with_another_bit_is_counted(held, backfilled, served, names) -> None:
    values = backfilled[names[0]].to_numpy().copy()
    values[9] = np.nextafter(values[9], 1e9)
    at = backfilled.column_names.index(names[0])
    found = held(backfilled.set_column(at, names[0], pa.array(values)), served[1])
    assert found.cells_differing == 1


def test_another_score_is_counted_and_moves_the_auc(held, backfilled, served) -> None:
    other = served[1]["score"].copy()
    other[:50] = 1 - other[:50]
    found = held(backfilled, {**served[1], "score": other})
    assert found.scores_differing == 50
    assert found.auc_gap > 0


def test_a_backfill_of_other_rows_is_refused(held, backfilled, served) -> None:
    with pytest.raises(ValueError, match="they are not of the same"):
        held(backfilled.slice(1), served[1])
