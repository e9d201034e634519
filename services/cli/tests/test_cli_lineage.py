"""Where a feature comes from and who reads it, drawn on one screen."""

import json
from pathlib import Path
from textwrap import dedent

import pytest

from mainstem.cli.lineage import drawn, lineage
from mainstem.events.errors import Rejected
from mainstem.feature_engine import boolean, category, feature_set, fixed, stream, time, window
from mainstem.project import load_folder

FLIGHTS = Path(__file__).parents[3] / "projects" / "flights"
IDENTITY = load_folder(FLIGHTS).feature_sets["flight_delay"].id

spine = stream(
    "left",
    key="flight",
    columns={
        "port": category(), "to": category(), "late": boolean(), "at": time(),
        "delay": fixed("min", scale=10, lo=-5, hi=600),
    },
)  # fmt: skip
other = stream("landed", key="flight", columns={"port": category(), "taxi": fixed("min")})


@feature_set("sample", spine=spine, lateness="90s", version=2)
class Sample:
    """Features of each kind of lineage."""

    ratio = (spine.delay + 1) / spine.by("port").sum("delay", window("2h", hop="10m"))
    taxi = other.by("port", at="to").last("taxi", ttl=None)
    faded = spine.by("port").decay_mean("delay", half_life="30s", horizon="1500ms", tick="1ms")
    hour = spine.at.local("UTC").hour
    first = spine.by("port").age("at", ttl="1d")


def tree(feature, *models):
    return "\n" + drawn(lineage(Sample.compile(), feature), models) + "\n"


def test_a_feature_stands_between_its_sources_and_its_readers():
    production = {"model": "delay", "version": 3, "stage": "production"}
    assert tree("ratio", production, {"model": "taxi", "version": None, "stage": None}) == dedent("""
            ┌── left.port  (category)
            ├── left.delay  (fixed, min, scale 10, -5 to 600)
        ┌── left.by("port").sum(left.delay, window("2h", hop="10m"))  (key port, window 2h, hop 10m)
        ├── left.delay  (fixed, min, scale 10, -5 to 600)
        ratio = (left.delay + 1) / left.by("port").sum(left.delay, window("2h", hop="10m"))
        │   value 1 of 5 in sample.v2
        ├── delay 3, production
        └── taxi, no version yet
    """)


def test_a_lookup_by_another_column_names_both():
    assert tree("taxi") == dedent("""
            ┌── landed.port  (category)
            ├── landed.taxi  (fixed, min, scale 1, open to open)
            ├── left.to  (category)
        ┌── landed.by("port", at="to").last(landed.taxi, ttl=None)  (key port = to, however old)
        taxi = landed.by("port", at="to").last(landed.taxi, ttl=None)
        │   value 2 of 5 in sample.v2
        └── no model reads it
    """)


def test_a_feature_of_the_record_itself_has_its_columns_only():
    assert tree("hour") == dedent("""
        ┌── left.at  (time)
        hour = left.at.local("UTC").hour
        │   value 4 of 5 in sample.v2
        └── no model reads it
    """)


@pytest.mark.parametrize(
    ("feature", "spans"),
    [
        ("ratio", {"window": "2h", "hop": "10m"}),
        ("taxi", {"ttl": None}),
        ("first", {"ttl": "1d"}),
        ("faded", {"horizon": "1500ms", "half_life": "30s", "tick": "1ms"}),
    ],
)
def test_each_aggregate_says_how_far_it_looks_back(feature, spans):
    (aggregate,) = lineage(Sample.compile(), feature)["aggregates"]
    names = {"expression", "aggregate", "source", "key", "looked_up_by", "columns"}
    assert {name: value for name, value in aggregate.items() if name not in names} == spans


def test_an_unknown_feature_is_refused_with_those_there_are():
    with pytest.raises(Rejected, match=r"'sample\.v2' has no feature 'ration'; there are: ratio, taxi, faded, hour"):
        lineage(Sample.compile(), "ration")


@pytest.fixture
def registry(services):
    definition = load_folder(FLIGHTS)
    services.on("GET /v1/projects", {"projects": [{"project": "flights"}]})
    services.on("GET /v1/projects/flights", {"definition": definition.model_dump(mode="json")})
    services.on("GET /v1/models", {"models": [{"model": "arrival_delay"}]})
    services.on("GET /v1/models/arrival_delay", {"versions": []})
    return services


def test_the_versions_that_pin_the_very_set_are_listed(registry):
    versions = [(1, "archived", "sha256:before"), (2, "production", IDENTITY), (3, "candidate", IDENTITY)]
    shown = [{"version": number, "stage": stage} for number, stage, _ in versions]
    registry.on("GET /v1/models/arrival_delay", {"versions": shown})
    for number, _, identity in versions:
        registry.on(f"GET /v1/models/arrival_delay/versions/{number}", {"feature_set": identity})
    (found,) = json.loads(registry.run("feature", "show", "flight_delay", "wind", "-o", "json").stdout)
    assert found["models"] == [
        {"model": "arrival_delay", "version": 2, "stage": "production"},
        {"model": "arrival_delay", "version": 3, "stage": "candidate"},
    ]
    assert (found["place"], found["of"], found["id"]) == (14, 15, IDENTITY)
    assert found["aggregates"][0]["columns"][1] == {
        "source": "weather_observed", "column": "wind", "type": "fixed", "unit": "mph", "scale": 1000,
        "lo": 0.0, "hi": 200.0,
    }  # fmt: skip


def test_a_model_that_has_no_version_yet_is_named(registry):
    told = registry.run("feature", "show", "flight_delay", "wind").stdout
    assert told.splitlines()[0] == "    ┌── weather_observed.origin  (category)"
    assert told.splitlines()[-1] == "└── arrival_delay, no version yet"
