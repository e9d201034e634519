"""The books add up for an honest log; and whatever is lost, doubled or changed in it, they say so."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pytest
from projects.flights.demo.books import Books, Promises, Sent
from projects.flights.demo.calls import Answer
from projects.flights.demo.decisions import Activation
from projects.flights.demo.oracle import Oracle
from projects.flights.demo.reading import Log, LookedUp, Table, once

from mainstem.events.instants import parse

FIRST_US, SECOND_US = parse("2013-01-05T00:00:00Z"), parse("2013-01-09T00:00:00Z")
ACTIVATIONS = [Activation(1, FIRST_US, ""), Activation(2, SECOND_US, "")]
CALLS = 5


@dataclass(frozen=True)
class Year:
    sent: Sent
    answers: list[Answer]
    log: Log


def scored(rows: Table) -> Table:
    """Return what serving would have published: each row since the first version, by the version in effect."""
    due = {name: of[rows["recorded_us"] >= FIRST_US] for name, of in rows.items()}
    count = len(due["id"])
    return {
        **{name: due[name] for name in ("key", "partition", "number", "time_us", "recorded_us", "crc", "inputs")},
        "id": np.array([f"prediction-{n}" for n in range(count)], "S32"),
        "cause": due["id"].astype("S48"),
        "row": due["id"],
        "version": np.where(due["recorded_us"] >= SECOND_US, 2, 1),
        "channel": np.full(count, b"stream", "S6"),
        "score": np.random.default_rng(7).random(count),
        "lookup": np.full(count, None),
        "features": np.full(count, None),
    }


def direct(stream: Table, channel: str) -> tuple[Table, list[Answer]]:
    """Return the log's side and the caller's side of some direct calls about the last rows."""
    last = {name: of[-CALLS:] for name, of in stream.items()}
    ids = [f"{channel}-{n}" for n in range(CALLS)]
    logged = {**last, "id": np.array(ids, "S32"), "channel": np.full(CALLS, channel, "S6"), "row": np.full(CALLS, b"")}
    values = zip(ids, last["row"].tolist(), last["version"].tolist(), last["score"].tolist(), strict=True)
    return logged, [Answer(channel, row.decode(), version, score, one) for one, row, version, score in values]


def named(log: Log, channel: str) -> tuple[Table, list[Answer]]:
    """Return the same of some calls that named a flight: their features are what was known after so many records."""
    departures = {name: of[-CALLS:] for name, of in log.accepted["flight_departed"].items()}
    stream = {name: of[-CALLS:] for name, of in scored(once(log.rows)[0]).items()}
    oracle, texts = Oracle(log.accepted, log.journal), ("carrier", "origin", "dest", "tail", "sched_dep")
    said, known = [], []
    for n in range(CALLS):
        columns = {key: departures[key][n].decode() for key in texts}
        columns |= {key: float(departures[key][n]) for key in ("distance", "dep_delay")}
        said.append(LookedUp("2013-01-10T06:00:00.000000Z", 9_000 + n, columns))
        values = oracle.looked_up(columns, parse(said[n].at), said[n].applied)
        known.append(orjson.dumps([None if value != value else value for value in values]))  # noqa: PLR0124  (NaN)
    ids = [f"{channel}-named-{n}" for n in range(CALLS)]
    nowhere = {"channel": np.full(CALLS, channel, "S6"), "row": np.full(CALLS, b"")}
    logged = {**stream, **nowhere, "id": np.array(ids, "S32"), "lookup": objects(said), "features": objects(known)}
    return logged, [Answer(channel, "", 2, 0.5, one) for one in ids]


def objects(values: list[Any]) -> npt.NDArray[Any]:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def joined(*tables: Table) -> Table:
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def without(table: Table, place: int) -> Table:
    return {name: np.delete(of, place, 0) for name, of in table.items()}


def changed(table: Table, column: str, place: int, value: object) -> Table:
    copy = table[column].copy()
    copy[place] = value
    return {**table, column: copy}


@pytest.fixture(scope="module")
def year(world) -> Year:
    """What was sent and answered, and the log as it should be."""
    stream = scored(once(world.log.rows)[0])
    (http, over_http), (grpc, over_grpc) = direct(stream, "http"), direct(stream, "grpc")
    (http_named, named_http), (grpc_named, named_grpc) = named(world.log, "http"), named(world.log, "grpc")
    answers = [*over_http, *over_grpc, *named_http, *named_grpc]
    predictions = joined(stream, http, grpc, http_named, grpc_named)
    return Year(world.sent, answers, replace(world.log, predictions=predictions))


def broken(year: Year) -> list[str]:
    promises = Promises()
    books = Books(year.log, ACTIVATIONS, promises)
    books.check_records(year.sent)
    books.check_rows()
    books.check_predictions()
    books.check_answers(year.answers, CALLS, Oracle(year.log.accepted, year.log.journal))
    return [sentence.partition(":")[0] for sentence in promises.broken]


def broken_with(year: Year, **tables: object) -> list[str]:
    return broken(replace(year, log=replace(year.log, **tables)))


def test_an_honest_log_keeps_every_promise(year) -> None:
    assert broken(year) == []


def test_the_counts_are_those_of_what_was_sent(year) -> None:
    counts = Books(year.log, ACTIVATIONS, Promises()).check_records(year.sent)
    assert sum(counts["sent"].values()) == counts["accepted"] + counts["quarantined"] == 30_113
    assert sum(counts["reasons"].values()) == counts["quarantined"] == counts["injected"] == 28


def test_second_copies_of_an_event_change_nothing(year) -> None:
    again = {name: of[:100] for name, of in year.log.predictions.items()}
    assert broken_with(year, predictions=joined(year.log.predictions, again)) == []


def test_a_second_copy_that_differs_is_found(year) -> None:
    again = changed({name: of[:1] for name, of in year.log.rows.items()}, "crc", 0, 1)
    assert broken_with(year, rows=joined(year.log.rows, again)) == ["second copies of an event equal the first"]


def test_an_accepted_record_that_is_lost_is_found(year) -> None:
    accepted = year.log.accepted
    lost = {**accepted, "flight_arrived": without(accepted["flight_arrived"], 77)}
    assert broken_with(year, accepted=lost) == ["every honest record of flight_arrived was accepted once"]


def test_a_refusal_that_is_missing_or_for_another_reason_is_found(year) -> None:
    refused = year.log.refused
    other = [refused[0].model_copy(update={"reason": "too_long"}), *refused[1:]]
    promise = ["every damaged record was refused for its reason, and nothing else was"]
    assert broken_with(year, refused=refused[1:]) == promise
    assert broken_with(year, refused=other) == promise


def test_a_row_that_is_missing_is_found(year) -> None:
    assert "every accepted departure has exactly one feature row" in broken_with(year, rows=without(year.log.rows, 5))


def test_a_prediction_that_is_missing_is_found(year) -> None:
    assert broken_with(year, predictions=without(year.log.predictions, 0)) == [
        "every row since the first promotion was scored exactly once",
        "every departure since the first promotion has exactly one prediction",
    ]


def test_a_prediction_made_twice_is_found(year) -> None:
    twice = changed({name: of[:1] for name, of in year.log.predictions.items()}, "id", 0, b"another")
    found = broken_with(year, predictions=joined(year.log.predictions, twice))
    assert "every departure since the first promotion has exactly one prediction" in found


def test_a_prediction_by_a_version_that_was_not_in_effect_is_found(year) -> None:
    assert broken_with(year, predictions=changed(year.log.predictions, "version", 0, 2)) == [
        "every prediction was made by the version in effect when its row was recorded"
    ]


def test_a_prediction_on_other_inputs_is_found(year) -> None:
    assert broken_with(year, predictions=changed(year.log.predictions, "inputs", 3, 1)) == [
        "every prediction carries the published values of its row"
    ]


def test_an_answer_with_one_other_bit_is_found(year) -> None:
    first = replace(year.answers[0], score=float(np.nextafter(year.answers[0].score, 1)))
    assert broken(replace(year, answers=[first, *year.answers[1:]])) == [
        "every direct answer equals the stream's, bit for bit"
    ]


def test_an_answer_that_the_log_does_not_hold_is_found(year) -> None:
    assert broken_with(year, predictions=without(year.log.predictions, -1 - 2 * CALLS)) == [
        "every direct answer is in the log exactly once"
    ]


def test_a_looked_up_feature_with_another_bit_is_found(year) -> None:
    last = year.log.predictions["features"][-1].replace(b"[", b"[1", 1)
    assert broken_with(year, predictions=changed(year.log.predictions, "features", -1, last)) == [
        f"features looked up for {2 * CALLS} calls that named the flight have the bits that other code gives"
    ]


def test_a_month_has_the_flights_whose_label_is_known(year) -> None:
    (month,) = Books(year.log, ACTIVATIONS, Promises()).months()
    assert (month.month, month.versions) == ("2013-01", [1, 2])
    assert 0.4 < month.auc < 0.6  # the scores are drawn
    assert month.labelled == sum(week.labelled for week in Books(year.log, ACTIVATIONS, Promises()).weeks(10**15))
