"""The oracle of the demo and the engine, which share no code, give the same bits; and the oracle sees a wrong one."""

import numpy as np
import pytest
from projects.flights.demo.oracle import Oracle, places
from projects.flights.demo.reading import Table, once

from mainstem.events.features import OrderJournalled


@pytest.fixture(scope="module")
def oracle(world) -> Oracle:
    return Oracle({name: once(table)[0] for name, table in world.log.accepted.items()}, world.log.journal)


def entry(number: int, *runs: tuple[int, int, int, int]) -> OrderJournalled:
    return OrderJournalled(
        feature_set="f", definition="d", number=number, until="", applied=0, topics=["src.a", "src.b"], runs=runs
    )


def table(*offsets: int) -> Table:
    count = len(offsets)
    return {"id": np.arange(count), "partition": np.zeros(count, np.int16), "number": np.array(offsets, np.int64)}


def test_places_follow_the_runs_of_the_journal_over_gaps_and_entries() -> None:
    journal = [entry(0, (0, 0, 0, 2), (1, 0, 0, 0)), entry(1, (0, 0, 5, 7))]
    found = places({"a": table(0, 2, 5, 7, 9), "b": table(0)}, journal)
    assert found["a"].tolist() == [0, 1, 3, 4, -1]
    assert found["b"].tolist() == [2]


def test_everything_that_was_accepted_has_its_place_in_the_order(world, oracle: Oracle) -> None:
    order = np.sort(np.concatenate(list(oracle.places.values())))
    assert order.tolist() == list(range(world.log.journal[-1].applied))


def test_every_published_value_has_the_bits_of_the_definition(world, oracle: Oracle) -> None:
    rows, _ = once(world.log.rows)
    verdict = oracle.compare(rows, range(len(rows["id"])))
    assert (verdict.cells, verdict.differing, verdict.example) == (rows["values"].size, 0, None)
    assert verdict.cells > 100_000


def test_one_wrong_bit_is_found_and_named(world, oracle: Oracle) -> None:
    rows, _ = once(world.log.rows)
    wrong = rows["values"].copy()
    wrong[7, 3] = np.nextafter(wrong[7, 3], 99)
    verdict = oracle.compare({**rows, "values": wrong}, range(10))
    assert verdict.differing == 1
    assert verdict.example is not None
    assert rows["key"][7].decode() in verdict.example


def test_a_record_applied_elsewhere_in_the_order_gives_other_values(world) -> None:
    swapped = [entry.model_copy(update={"runs": entry.runs[::-1]}) for entry in world.log.journal]
    oracle = Oracle({name: once(table)[0] for name, table in world.log.accepted.items()}, swapped)
    assert oracle.compare(once(world.log.rows)[0], range(3000)).differing > 0
