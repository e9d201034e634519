"""Values read without an event, on the command line."""

import json
from pathlib import Path

import pytest

from mainstem.cli.entities import entities_in, entity_of
from mainstem.events.errors import Rejected
from mainstem.feature_engine import boolean, category, fixed, time
from mainstem.project import load_folder

FLIGHTS = Path(__file__).parents[3] / "projects" / "flights"
READ = "POST /v1/feature-sets/flight_delay/read"
COLUMNS = {"port": category(), "delay": fixed("min"), "late": boolean(), "at": time()}
AT = "2013-05-01T00:00:00.000000Z"


@pytest.fixture
def platform(services):
    services.on("GET /v1/projects", {"projects": [{"project": "flights"}]})
    services.on("GET /v1/projects/flights", {"definition": load_folder(FLIGHTS).model_dump(mode="json")})
    return services


def answered(platform, *values):
    position = {"applied": 7, "reached": AT, "partitions": {}}
    answer = {"feature_set": "flight_delay", "definition": "sha256:f", "at": AT, "position": position}
    platform.on(READ, answer | {"names": ["wind", "visib"], "values": values})


def asked(platform):
    return next(body for request, body in platform.asked if request == READ)


def test_one_entity_is_asked_for_column_by_column(platform):
    answered(platform, [17.262, None])
    pairs = [word for pair in ("origin=JFK", "dep_delay=-3", "tail=") for word in ("--entity", pair)]
    told = platform.run("feature", "read", "flight_delay", *pairs, "--at", "2013-05-01T02:00:00+02:00").stdout
    assert asked(platform) == {"at": AT, "entities": [{"origin": "JFK", "dep_delay": -3, "tail": None}]}
    assert [line.split() for line in told.splitlines()] == [
        ["feature_set", "flight_delay"], ["definition", "sha256:f"], ["at", AT], ["applied", "7"], [],
        ["feature", "value"], ["wind", "17.262"], ["visib"],
    ]  # fmt: skip


def test_several_entities_come_from_a_file(platform, tmp_path):
    answered(platform, [1.5, None], [2.5, 10.0])
    file = tmp_path / "entities.ndjson"
    file.write_text('{"origin": "JFK"}\n\n{"origin": "LGA", "dep_delay": 4}\n')
    told = platform.run("feature", "read", "flight_delay", "--file", file).stdout
    assert asked(platform) == {"at": None, "entities": [{"origin": "JFK"}, {"origin": "LGA", "dep_delay": 4}]}
    assert [line.split() for line in told.splitlines()[-2:]] == [
        ["origin=JFK", "1.5"], ["origin=LGA", "dep_delay=4", "2.5", "10.0"],
    ]  # fmt: skip


def test_as_json_it_is_the_answer_with_what_was_asked(platform):
    answered(platform, [1.5, None])
    (found,) = json.loads(
        platform.run("feature", "read", "flight_delay", "--entity", "origin=JFK", "-o", "json").stdout
    )
    assert (found["entities"], found["values"]) == ([{"origin": "JFK"}], [[1.5, None]])


def test_whoever_has_a_token_says_who_asks(platform, monkeypatch):
    answered(platform, [1.5, None])
    platform.run("feature", "read", "flight_delay", "--entity", "origin=JFK")
    monkeypatch.delenv("MAINSTEM_TOKEN")
    platform.run("feature", "read", "flight_delay", "--entity", "origin=JFK")
    tokens = [token for (request, _), token in zip(platform.asked, platform.tokens, strict=True) if request == READ]
    assert tokens == ["Bearer a-token-of-the-test", None]


def test_a_refusal_is_told_as_it_came(platform):
    platform.on(READ, {"title": "too old", "detail": "2013 lies before 2014; ask for a later one"}, 422)
    done = platform.run("feature", "read", "flight_delay", "--entity", "origin=JFK")
    assert (done.exit_code, done.stderr) == (1, "mainstem: too old: 2013 lies before 2014; ask for a later one\n")


@pytest.mark.parametrize("options", [(), ("--entity", "origin=JFK", "--file", __file__), ("--file", "none.ndjson")])
def test_entities_come_from_the_line_or_from_a_file(platform, options):
    assert platform.run("feature", "read", "flight_delay", *options).exit_code == 2


def test_a_value_has_the_type_of_its_column():
    pairs = ["port=7", "delay=1.5", "late=false", "at=2013-05-01T00:00:00Z", "else=a=b"]
    assert entity_of(pairs, COLUMNS) == {
        "port": "7", "delay": 1.5, "late": False, "at": "2013-05-01T00:00:00Z", "else": "a=b"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pair", "why"),
    [
        ("port", "'port' is no column with its value"),
        ("=7", "'=7' is no column with its value"),
        ("delay=much", "delay is a number, not 'much'"),
        ("late=no", "late is true or false, not 'no'"),
        ("delay=nan", "'delay=nan' cannot be sent: Out of range float values"),
        ("port=\udc80", r"'port=.udc80' cannot be sent: .* write Unicode text"),
    ],
)
def test_what_is_no_value_is_refused(pair, why):
    with pytest.raises(Rejected, match=why):
        entity_of([pair], COLUMNS)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("[1]", r"ndjson:2 is no JSON object"),
        ("{", r"ndjson:2 is no JSON: "),
        (r'{"port": "\ud800"}', r"ndjson:2' cannot be sent: "),
        ('{"delay": NaN}', r"ndjson:2' cannot be sent: "),
    ],
)
def test_a_line_that_is_no_entity_is_refused_by_its_number(tmp_path, line, why):
    file = tmp_path / "e.ndjson"
    file.write_text(f"{{}}\n{line}\n")
    with pytest.raises(Rejected, match=why):
        entities_in(file)
