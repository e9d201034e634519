"""Alerts on the command line: those on windows, on the feature set that a version reads, and on a set alone."""

from mainstem.events.features import Difference, Evidence
from mainstem.events.monitoring import AlertOpened, FeatureAlertOpened, FeatureSetAlertOpened, InputGap
from mainstem.testkit.examples import example

AT = "2013-05-01T00:00:00.000000Z"
STANDING = {"open": True, "recorded_time": AT, "closed_time": None, "closed_by": None, "closed_reason": None}
SET = {"alert": "a1b2", "model": "storm", "version": 3, "feature_set": "gusts", "definition": "sha256:5", "until": AT}


def mismatch():
    record = Evidence(topic="src.reading", partition=1, offset=7, event_time=AT, value=3.5, aggregate="mean(wind)")
    found = Difference(
        spine_id="r9", about="other", feature="wind", served=0.1, recomputed=0.2, records=[record], records_in_all=9
    )
    about = "wind of spine record r9: served 0.1, follows 0.2; 1 of 40 values checked differ"
    fact = FeatureAlertOpened(**SET, kind="feature_mismatch", about=about, differing=1, difference=found)
    return fact.model_dump(mode="json") | STANDING


def gap():
    where = InputGap(topic="evt.data.reading", partition=1, expected_offset=5, found_offset=9)
    fact = FeatureAlertOpened(**SET, kind="feature_gap", about="records are gone", gap=where)
    return fact.model_dump(mode="json") | STANDING


def unread_gap():
    """Return the alert on a set that no model in production reads, as monitoring answers."""
    fact = FeatureSetAlertOpened.model_validate(gap() | {"alert": "e5f6"})
    return {"model": None, "version": None} | fact.model_dump(mode="json") | STANDING


def drift():
    fact = example(AlertOpened, alert="c3d4", evidence=7.25, threshold=5.6, window_end=AT, contributors=[])
    return fact.model_dump(mode="json") | STANDING


def words(told):
    return [line.split() for line in told.stdout.splitlines()]


def test_alerts_of_all_kinds_stand_in_one_list(services):
    services.on("GET /v1/alerts", {"alerts": [mismatch(), gap(), drift(), unread_gap()]})
    head, *lines = words(services.run("alert", "list"))
    assert head == ["alert", "model", "version", "set", "kind", "until", "response", "outcome", "evidence", "closed"]
    assert lines[0][:7] == ["a1b2", "storm", "3", "gusts", "feature_mismatch", AT, "investigate"]
    assert "served 0.1, follows 0.2" in " ".join(lines[0])
    assert lines[1][8:] == ["records", "are", "gone"]
    assert lines[3][:2] == ["e5f6", "gusts"]
    assert lines[2][-3:] == ["7.2", ">", "5.6"]


def test_a_mismatch_is_shown_with_the_records_behind_it(services):
    services.on("GET /v1/alerts/a1b2", mismatch())
    lines = words(services.run("alert", "show", "a1b2"))
    assert ["set", "gusts", "sha256:5"] in lines
    assert ["records", "1", "of", "9,", "the", "newest:"] in lines
    assert lines[-1] == ["src.reading/1/7", AT, "3.5", "mean(wind)"]


def test_a_gap_is_shown_with_its_offsets(services):
    services.on("GET /v1/alerts/a1b2", gap())
    assert words(services.run("alert", "show", "a1b2"))[-1] == [
        "gap",
        "evt.data.reading/1:",
        "offset",
        "5",
        "is",
        "due,",
        "9",
        "is",
        "there",
    ]
