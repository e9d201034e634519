"""Events on the command line."""

import json
from pathlib import Path

import pytest

from mainstem.cli.commands.event import as_row, event_type
from mainstem.events.catalogue import BY_TYPE, encode
from mainstem.events.envelope import begin
from mainstem.events.errors import Rejected
from mainstem.events.training import RunFailed
from mainstem.testkit.records import Log, Taken

SCHEMAS = Path(__file__).parents[3] / "schemas"


@pytest.mark.parametrize("name", ["mainstem.training.run_completed.v1", "training.run_completed", "run_completed"])
def test_a_type_is_known_by_any_part_that_only_it_has(name):
    assert event_type(name) == "mainstem.training.run_completed.v1"


@pytest.mark.parametrize(("name", "others"), [("training", "run_failed"), ("run", "serving.predicted"), ("", "ledger")])
def test_a_part_of_no_type_or_of_several_is_refused_with_a_choice(name, others):
    with pytest.raises(Rejected, match=others):
        event_type(name)


def test_every_full_name_is_itself():
    assert [event_type(name) for name in BY_TYPE] == list(BY_TYPE)


def test_the_schema_printed_is_the_committed_one(services):
    printed = json.loads(services.run("event", "schema", "run_failed").stdout)
    assert printed == json.loads((SCHEMAS / "training" / "run_failed.v1.json").read_text())


def test_an_unknown_type_is_a_fault_with_exit_code_one(services):
    done = services.run("event", "schema", "nothing")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "0 types of event contain 'nothing'" in done.stderr


def test_json_without_an_end_is_wrong_usage(services):
    assert services.run("event", "tail", "evt.training.run", "-o", "json").exit_code == 2


def test_an_event_is_one_object_with_its_place_its_headers_and_its_fact():
    fact = RunFailed(run="r", model="m", project="p", step="fit", reason="too few rows")
    (record,) = Log().append([encode(begin(fact, command_id="c", source="/s", actor="a", recorded_us=0))])
    row = as_row(record)
    assert (row["topic"], row["partition"], row["offset"], row["key"]) == ("evt.training.run", 0, 0, "m")
    assert (row["type"], row["recordedtime"]) == (RunFailed.TYPE, "1970-01-01T00:00:00.000000Z")
    assert row["data"] == fact.model_dump(mode="json")


def test_a_record_of_no_event_is_shown_as_far_as_it_can_be_read():
    row = as_row(Taken(topic="src.x", value=b"\xffno json", headers=(("other", b"\xfe"),)))
    assert (row["other"], row["data"], row["key"]) == ("\ufffd", "\ufffdno json", "")
    assert as_row(Taken(value=None))["data"] is None
