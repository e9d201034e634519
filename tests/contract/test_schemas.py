"""The committed documents say what the code says, and a change of the code that breaks a reader is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mainstem.events.catalogue import BY_TYPE, FACTS
from mainstem.events.envelope import dataschema
from mainstem.events.export import check, documents, schema
from mainstem.events.fact import Fact
from mainstem.events.topics import TOPICS, fixed, member
from mainstem.testkit.examples import example

SCHEMAS = Path(__file__).parents[2] / "schemas"
EDITED = "training/run_failed.v1.json"


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """Return a copy of the committed documents to edit."""
    return Path(shutil.copytree(SCHEMAS, tmp_path / "schemas"))


def edit(file: Path, change: Any) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def test_the_committed_documents_are_what_the_code_says() -> None:
    assert check(SCHEMAS) == []


def test_a_committed_document_that_was_edited_is_named(committed: Path) -> None:
    edit(committed / EDITED, lambda document: document.update(description="Nothing failed."))
    assert check(committed) == [f"{EDITED}: out of date; run make schemas"]


def test_a_field_that_the_code_no_longer_has_is_incompatible(committed: Path) -> None:
    edit(committed / EDITED, lambda document: document["properties"].update(gone={"type": "string"}))
    assert "mainstem.training.run_failed.v1: .gone: removed" in check(committed)


def test_missing_and_left_over_documents_are_named(committed: Path) -> None:
    (committed / EDITED).rename(committed / "left_over.json")
    assert check(committed) == [f"{EDITED}: missing; run make schemas", "left_over.json: no event has this schema"]


def test_the_check_fails_on_the_command_line_and_writing_over_an_incompatible_change_is_refused(
    committed: Path,
) -> None:
    edit(committed / EDITED, lambda document: document["properties"].update(gone={"type": "string"}))
    export = (sys.executable, "-m", "mainstem.events.export")
    checked = subprocess.run((*export, "--check", committed), capture_output=True, text=True, check=False)
    written = subprocess.run((*export, committed), capture_output=True, text=True, check=False)
    assert (checked.returncode, written.returncode) == (1, 1)
    assert "make a new version of the event instead" in written.stderr


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.TYPE)
def test_an_event_is_valid_by_its_schema(fact: type[Fact]) -> None:
    validator = jsonschema.Draft202012Validator(schema(fact))
    validator.check_schema(schema(fact))
    validator.validate(json.loads(example(fact).model_dump_json()))


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.TYPE)
def test_every_field_is_described(fact: type[Fact]) -> None:
    assert [name for name, field in fact.model_fields.items() if not field.description] == []


def test_every_fact_belongs_to_the_topic_it_names() -> None:
    on_topics = {(fact, row.pattern) for row in TOPICS for fact in row.facts}
    assert {(fact, fact.TOPIC) for fact in FACTS if fact.TOPIC != "*"} <= on_topics
    assert {fact for fact, _ in on_topics} == set(FACTS) == set(BY_TYPE.values())


def test_every_topic_is_stamped_by_the_broker_and_read_by_the_ledger() -> None:
    assert {row.config()["message.timestamp.type"] for row in TOPICS} == {"LogAppendTime"}
    assert [row.pattern for row in TOPICS if "ledger" not in row.readers] == []


def test_a_topic_of_a_family_gets_its_name_and_partitions_from_a_definition() -> None:
    topic = member("evt.data.{source}", "orders", 4)
    assert (topic.name, topic.partitions) == ("evt.data.orders", 4)
    assert {topic.name for topic in fixed()} == {row.pattern for row in TOPICS if "{" not in row.pattern}
    with pytest.raises(KeyError):
        member("evt.nothing.{source}", "orders", 4)


def test_the_catalogue_lists_every_topic_with_its_configuration() -> None:
    listed = {row["name"]: row["config"] for row in json.loads((SCHEMAS / "topics.json").read_text())}
    assert listed == {row.pattern: row.config() for row in TOPICS}


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = documents()["asyncapi.json"]
    for reference in references(document):
        if reference.startswith("#/"):
            found = document
            for step in reference[2:].split("/"):
                found = found[step]
        else:
            assert (SCHEMAS / reference).is_file(), reference


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        return [part["$ref"]] if "$ref" in part else [r for value in part.values() for r in references(value)]
    return [r for value in part for r in references(value)] if isinstance(part, list) else []


def test_the_asyncapi_document_has_every_channel_and_message() -> None:
    document = documents()["asyncapi.json"]
    assert document["asyncapi"] == "3.0.0"
    assert {channel["address"] for channel in document["channels"].values()} == {row.pattern for row in TOPICS}
    assert {message["name"] for message in document["components"]["messages"].values()} == set(BY_TYPE)


def test_the_envelope_names_the_document_of_its_payload() -> None:
    assert [fact.TYPE for fact in FACTS if not (SCHEMAS / dataschema(fact.TYPE)).is_file()] == []
