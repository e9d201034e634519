"""Feature sets on the command line: how they read, how a recomputation is written and compared."""

import json
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from mainstem.cli.expressions import duration, expressions
from mainstem.cli.expressions import target as shown
from mainstem.cli.recomputation import (
    Difference,
    Published,
    Recomputed,
    Stretch,
    check_beginnings,
    check_whole,
    compare,
)
from mainstem.events.errors import Rejected
from mainstem.events.features import RowComputed
from mainstem.events.instants import render
from mainstem.feature_engine import boolean, category, feature_set, fixed, load, stream, target, time, where, window
from mainstem.project import load_folder
from mainstem.testkit.projects import storms
from mainstem.testkit.records import Taken

FLIGHTS = Path(__file__).parents[3] / "projects" / "flights"
NAN = float("nan")
NAMES = ("a", "b")

spine = stream(
    "left",
    key="flight",
    columns={"port": category(), "late": boolean(), "delay": fixed("min", scale=10, lo=0, hi=60), "at": time()},
)


@feature_set("sample", spine=spine, lateness="90s")
class Sample:
    """One feature of each form."""

    delay = spine.delay
    much = spine.delay >= 1.5
    hour = spine.at.local("Europe/Berlin").hour
    flights = spine.by("port").count("90m")
    share = spine.by("port").mean(spine.delay > 3, "7d")
    last = spine.by("port").last("delay", ttl="48h")
    ratio = (spine.delay + 1).clip(0, 30) / spine.by("port").sum("delay", window("2h", hop="10m"))
    home = where((spine.port == "JFK") & ~spine.late, 1, -spine.delay)
    there = spine.by("port", at="port").age("at", ttl=None)
    faded = spine.by("port").decay_mean("delay", half_life="30s", horizon="1500ms", tick="1ms")


def test_features_read_as_they_are_written():
    assert expressions(Sample.compile()) == {
        "delay": "left.delay",
        "much": "left.delay >= 1.5",
        "hour": 'left.at.local("Europe/Berlin").hour',
        "flights": 'left.by("port").count("90m")',
        "share": 'left.by("port").mean(left.delay > 3, "7d")',
        "last": 'left.by("port").last(left.delay, ttl="2d")',
        "ratio": '(left.delay + 1).clip(0, 30) / left.by("port").sum(left.delay, window("2h", hop="10m"))',
        "home": "where((left.port == 'JFK') & ~left.late, 1, -left.delay)",
        "there": 'left.by("port").age(left.at, ttl=None)',
        "faded": 'left.by("port").decay_mean(left.delay, half_life="30s", horizon="1500ms", tick="1ms")',
    }


def test_a_duration_has_its_largest_whole_unit():
    assert [duration(us) for us in (1_000, 90_000_000, 21_600_000_000, 86_400_000_000)] == ["1ms", "90s", "6h", "1d"]


@pytest.fixture
def registry(services):
    definition = load_folder(FLIGHTS)
    services.on("GET /v1/projects", {"projects": [{"project": "flights"}]})
    services.on("GET /v1/projects/flights", {"definition": definition.model_dump(mode="json")})
    return services


def test_feature_sets_are_listed_with_their_identity(registry):
    identity = load_folder(FLIGHTS).feature_sets["flight_delay"].id
    here = {
        "definition": identity,
        "rows": 7,
        "state": "live",
        "held": 4,
        "late": {"flight_departed": 2, "flight_arrived": 3},
    }
    standing = [here, {"definition": "sha256:other", "rows": 9}]
    registry.on("GET /v1/feature-sets", {"feature_sets": standing})
    (row,) = json.loads(registry.run("feature", "list", "-o", "json").stdout)
    assert row == {
        "feature_set": "flight_delay", "version": 1, "project": "flights", "spine": "flight_departed", "features": 15,
        "id": identity, "rows": 7, "state": "live", "reached": None, "held": 4, "late": 5,
        "reason": None,
    }  # fmt: skip


def test_feature_sets_are_listed_while_the_feature_service_is_away(registry, monkeypatch):
    monkeypatch.setenv("MAINSTEM_FEATURES_URL", "http://127.0.0.1:9")
    done = registry.run("feature", "list", "-o", "json")
    (row,) = json.loads(done.stdout)
    assert (row["feature_set"], row["rows"], row["state"], row["late"]) == ("flight_delay", None, None, None)
    assert "how far the sets are is not known: features at http://127.0.0.1:9 does not answer" in done.stderr


def test_a_feature_set_is_shown_feature_by_feature(registry):
    registry.on("GET /v1/feature-sets", {"feature_sets": []})
    told = registry.run("feature", "show", "flight_delay").stdout
    assert "version      1" in told
    assert "lateness     6h" in told
    assert 'flight_arrived.by("carrier").mean(flight_arrived.arr_delay > 15, "7d")' in told


LEFT_OUT = {
    "held": 31,
    "waits_for": ["evt.data.flight_arrived/0", "evt.data.flight_arrived/1"],
    "late": {"flight_departed": 1_200, "flight_arrived": 0},
    "out_of_range": {},
    "begins_at": {"evt.data.flight_arrived/1": 77},
}


def test_a_feature_set_is_shown_with_what_it_left_out(registry):
    identity = load_folder(FLIGHTS).feature_sets["flight_delay"].id
    standing = {"definition": identity, "rows": 7, "state": "live", **LEFT_OUT}
    registry.on("GET /v1/feature-sets", {"feature_sets": [standing]})
    lines = registry.run("feature", "show", "flight_delay").stdout.splitlines()
    facts = dict(line.split(maxsplit=1) for line in lines if line.startswith((*LEFT_OUT,)) and "lateness" not in line)
    assert facts == {
        "held": "31",
        "waits_for": "evt.data.flight_arrived/0, evt.data.flight_arrived/1",
        "late": "flight_departed 1,200, flight_arrived 0",
        "out_of_range": "none",
        "begins_at": "evt.data.flight_arrived/1 77",
    }
    (row,) = json.loads(registry.run("feature", "show", "flight_delay", "-o", "json").stdout)
    assert {name: row[name] for name in LEFT_OUT} == LEFT_OUT


GAP = "evt.data.flight_arrived/1 goes on at offset 9, 5 is due: records between are gone"
REACHED = "2013-05-01T04:00:00.000000Z"


@pytest.fixture
def standing_still(registry):
    """Answer that the set of the flights stands still."""
    stood = {
        "definition": load_folder(FLIGHTS).feature_sets["flight_delay"].id,
        "state": "stopped",
        "reason": GAP,
        "rows": 7,
        "position": {"applied": 1_234, "reached": REACHED, "partitions": {"evt.data.flight_arrived/1": 5}},
        **LEFT_OUT,
    }
    registry.on("GET /v1/feature-sets", {"feature_sets": [stood]})
    return registry


def test_a_set_that_stands_still_is_listed_as_it_stood_with_the_reason_below(standing_still):
    told = standing_still.run("feature", "list")
    head, line = [each.split() for each in told.stdout.splitlines()]
    assert head[-5:] == ["rows", "state", "reached", "held", "late"]
    assert line[-5:] == ["7", "stopped", REACHED, "31", "1200"]
    assert told.stderr == f"flight_delay stands still, it is listed as it was when it stopped: {GAP}\n"
    (row,) = json.loads(standing_still.run("feature", "list", "-o", "json").stdout)
    assert (row["state"], row["rows"], row["late"], row["reason"]) == ("stopped", 7, 1_200, GAP)


def test_a_set_that_stands_still_is_shown_as_it_stood_with_the_reason(standing_still):
    lines = standing_still.run("feature", "show", "flight_delay").stdout.splitlines()
    facts = dict(line.split(maxsplit=1) for line in lines[: lines.index("")])
    assert facts["state"] == "stopped: it stands still, and what follows is as it was then"
    assert facts["reason"] == GAP
    assert (facts["rows"], facts["late"]) == ("7", "flight_departed 1,200, flight_arrived 0")
    assert (facts["applied"], facts["reached"], facts["next"]) == ("1234", REACHED, "evt.data.flight_arrived/1 5")


def test_of_a_set_that_is_shared_out_what_is_not_known_is_said(registry):
    identity = load_folder(FLIGHTS).feature_sets["flight_delay"].id
    unknown = dict.fromkeys(LEFT_OUT) | {"definition": identity, "state": "shared out", "reason": "nobody has all"}
    registry.on("GET /v1/feature-sets", {"feature_sets": [unknown]})
    told = registry.run("feature", "show", "flight_delay").stdout
    assert ("reason       nobody has all" in told, "\nlate " in told) == (True, False)
    (row,) = json.loads(registry.run("feature", "list", "-o", "json").stdout)
    assert (row["state"], row["late"]) == ("shared out", None)


def test_what_was_parked_for_a_set_is_listed(registry):
    parked = {"topic": "evt.data.flight_arrived", "partition": 1, "offset": 9, "id": "a", "reason": "too late"}
    registry.on("GET /v1/feature-sets/flight_delay/parked", {"parked": [parked]})
    assert json.loads(registry.run("feature", "parked", "flight_delay", "-o", "json").stdout) == [parked]
    assert registry.asked[-1][0] == "GET /v1/feature-sets/flight_delay/parked?limit=100"
    told = registry.run("feature", "parked", "flight_delay", "--limit", 5).stdout
    assert ("evt.data.flight_arrived  1          9       a   too late" in told, registry.asked[-1][0][-2:]) == (
        True,
        "=5",
    )


def test_a_target_is_shown_as_it_is_declared():
    landed = stream("landed", key="flight", columns={"delay": fixed("min", scale=10, lo=0, hi=60)})
    declared = {"delay": spine.delay, "late": target(landed.delay > 2.5, on="flight", wait="36h")}
    labelled = feature_set("labelled", spine=spine, lateness="1h")(type("Labelled", (), declared))
    assert shown(labelled.compile()) == 'late = target(landed.delay > 2.5, on="flight", wait="36h")'
    assert shown(Sample.compile()) is None


def test_an_unknown_feature_set_is_refused_with_those_there_are(registry):
    done = registry.run("feature", "show", "flights")
    assert done.exit_code == 1
    assert "no feature set 'flights'; there are: flight_delay" in done.stderr


def test_a_time_without_offset_is_wrong_usage(registry):
    span = ("--from", "2013-01-01T00:00:00")
    done = registry.run("feature", "backfill", "--feature-set", "flight_delay", "--out", "x.parquet", *span)
    assert done.exit_code == 2


BACKFILL = ("feature", "backfill", "--feature-set")


@pytest.mark.parametrize("first", ["2013-01-02T00:00:00Z", "2013-01-03T00:00:00Z"])
def test_a_span_that_ends_before_it_begins_is_wrong_usage(registry, tmp_path, first):
    span = ("--from", first, "--to", "2013-01-02T00:00:00Z")
    done = registry.run(*BACKFILL, "flight_delay", "--out", tmp_path / "x.parquet", *span)
    assert (done.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert "--from is not before --to" in done.stderr
    assert registry.asked == []


def test_where_a_backfill_cannot_be_written_is_told_before_the_log_is_asked_for(registry, tmp_path, monkeypatch):
    monkeypatch.setenv("MAINSTEM_KAFKA", "nobody.invalid:9")
    done = registry.run(*BACKFILL, "flight_delay", "--out", tmp_path / "nowhere" / "x.parquet")
    assert done.exit_code == 1
    assert "nowhere/x.parquet cannot be written" in done.stderr
    assert "name a file in a folder that you may write" in done.stderr


def test_a_feature_that_is_called_like_a_column_is_told_before_the_log_is_asked_for(services, tmp_path, monkeypatch):
    monkeypatch.setenv("MAINSTEM_KAFKA", "nobody.invalid:9")
    document = storms().model_dump(mode="json")
    spec = document["feature_sets"]["gusts"]["spec"]
    spec["features"][0]["name"] = "label"  # as it could be written once
    document["feature_sets"]["gusts"]["id"] = load(spec).id
    services.on("GET /v1/projects", {"projects": [{"project": "weather"}]})
    services.on("GET /v1/projects/weather", {"definition": document})
    done = services.run(*BACKFILL, "gusts", "--out", tmp_path / "x.parquet")
    assert (done.exit_code, list(tmp_path.iterdir())) == (1, [])
    assert "feature 'label' has the name of another column of a row" in done.stderr


def taken(spine_id, values, *, offset=None, partition=0, definition="sha256:now", origin=None):
    row = {"definition": definition, "spine_id": spine_id, "values": values}
    headers = (("ce_type", RowComputed.TYPE.encode()), ("ce_origin", (origin or f"features@now/{spine_id}/0").encode()))
    offset = next(OFFSETS) if offset is None else offset
    return Taken(
        "evt.feature.sample", partition=partition, offset=offset, value=json.dumps(row).encode(), headers=headers
    )


#: Of records that stand one behind the other, wherever.
OFFSETS = count()


def published(*records):
    found = Published("sha256:now", len(NAMES))
    found.take(records)
    return found


def item(spine_id, recorded_us=0, partition=0):
    instant = render(recorded_us).encode()
    headers = {"ce_id": spine_id.encode(), "ce_time": render(5).encode(), "ce_recordedtime": instant}
    return Taken(key=f"key of {spine_id}".encode(), partition=partition), headers


def recomputed(*rows, partition=0):
    found = Recomputed()
    values = np.array([values for _, values in rows], np.float64)
    spine = [item(spine_id, partition=partition) for spine_id, _ in rows]
    found.take(Stretch(spine, values, np.arange(len(rows))))
    return found


def test_equal_rows_are_equal_whatever_their_order():
    rows = [taken("x", [1.5, None]), taken("y", [0.1, 7.0])]
    found = compare(published(*rows), recomputed(("y", [0.1, 7.0]), ("x", [1.5, NAN])), NAMES)
    assert (found.rows, found.copies, found.cells, found.differing, found.equal) == (2, 0, 4, 0, True)


def test_a_second_copy_of_a_row_is_no_row_and_is_told_when_it_says_something_else():
    rows = [taken("x", [1.5, None], origin="f/src.a/0/7"), taken("y", [0.1, 7.0], origin="f/src.a/0/8")]
    again = [taken("x", [1.5, None], origin="f/src.a/0/7"), taken("y", [0.1, 7.0], origin="f/src.a/0/8")]
    forged = taken("x", [1.5, 9.0], origin="f/src.a/0/7")
    anew = recomputed(("x", [1.5, NAN]), ("y", [0.1, 7.0]))
    found = compare(published(*rows, *again), anew, NAMES)
    assert (found.rows, found.copies, found.cells, found.differing, found.equal) == (2, 2, 4, 0, True)
    found = compare(published(*rows, *again, forged), anew, NAMES)
    assert (found.rows, found.copies, found.cells, found.differing, found.equal) == (2, 3, 4, 1, False)
    assert (found.first.published, found.first.offset) == (9.0, forged.offset)


def test_a_row_that_is_written_twice_without_an_origin_of_ours_is_two_rows():
    rows = [taken("x", [1.5, None], origin="none"), taken("x", [1.5, 9.0], origin="none")]
    found = compare(published(*rows), recomputed(("x", [1.5, NAN])), NAMES)
    assert (found.rows, found.copies, found.differing, found.equal) == (2, 0, 1, False)


@pytest.mark.parametrize(("was", "now"), [(0.3, 0.1 + 0.2), (0.0, -0.0), (None, 0.0), (0.0, NAN)])
def test_a_cell_that_is_off_by_one_bit_is_found_with_its_place(was, now):
    rows = [taken("x", [1.0, 2.0]), taken("y", [1.0, was], partition=1, offset=9)]
    found = compare(published(*rows), recomputed(("x", [1.0, 2.0]), ("y", [1.0, now])), NAMES)
    assert (found.differing, found.equal) == (1, False)
    assert found.first == Difference("y", 1, 9, "b", was, None if np.isnan(now) else now)


def test_a_row_whose_spine_record_is_not_in_the_log_is_told():
    found = compare(published(taken("forged", [1, 2])), recomputed(("x", [1, 2])), NAMES)
    assert (found.unknown, found.cells, found.equal) == (["forged"], 0, False)


def test_a_row_that_was_skipped_is_told_and_one_that_is_still_to_come_is_not():
    again = recomputed(("x", [1, 2]), ("skipped", [1, 2]), ("y", [1, 2]), ("to come", [1, 2]))
    found = compare(published(taken("x", [1, 2]), taken("y", [1, 2])), again, NAMES)
    assert (found.missing, found.differing, found.equal) == (["skipped"], 0, False)


def test_rows_of_another_definition_are_neither_compared_nor_missed():
    rows = [taken("x", [9], definition="sha256:before"), taken("y", [1, 2])]
    found = compare(published(*rows), recomputed(("x", [1, 2]), ("y", [1, 2])), NAMES)
    assert (found.rows, found.equal) == (1, True)


def test_nothing_published_yet_is_no_difference():
    assert compare(published(), recomputed(("x", [1, 2])), NAMES).equal


@pytest.mark.parametrize(
    "value",
    [None, b"{", b'{"definition":"\xff"}', b'{"definition":"sha256:now","spine_id":"z","values":[1]}', b"[" * 100_000],
)
def test_what_is_called_a_row_and_is_none_is_passed_over_and_told(value):
    junk = replace(taken("z", [1, 2], partition=1, offset=3), value=value)
    found = compare(published(junk, taken("x", [1, 2])), recomputed(("x", [1, 2])), NAMES)
    assert (found.rows, found.unreadable, found.equal) == (1, ["evt.feature.sample/1/3"], True)


@pytest.mark.parametrize(
    ("records", "where"),
    [
        ([Taken(partition=1, offset=7)], r"src\.test/1 has lost what stood at offset 0 to 6"),
        ([Taken(offset=0), Taken(partition=1), Taken(offset=2)], r"src\.test/0 has lost what stood at offset 1, so"),
    ],
)
def test_a_log_that_is_not_whole_is_refused(records, where):
    with pytest.raises(Rejected, match=where):
        check_whole(records, {})


def test_a_partition_that_lost_all_its_records_is_refused_too():
    check_beginnings({("src.test", 0): 0, ("src.test", 1): 0})
    with pytest.raises(Rejected, match=r"src\.test/1 has lost what stood at offset 0 to 6, so values cannot"):
        check_beginnings({("src.test", 0): 0, ("src.test", 1): 7})


def test_a_log_is_whole_whatever_the_polls():
    due = {}
    for records in ([Taken(offset=0), Taken(partition=1)], [Taken(offset=1)], [Taken(offset=2), Taken(offset=1)]):
        check_whole(records, due)
    assert due == {("src.test", 0): 3, ("src.test", 1): 1}
