"""The exports as other people's programs read them: OpenLineage's client, and the reference implementation of PROV.

The wheel of the client brings no JSON schemas, but classes that are generated from them, with the fields that are
required and the URL of each schema. Every event, dataset and facet is made into the class of its schema, which takes no
field that it does not know, and is written out again by the client itself: nothing may be lost or added.
"""

import inspect
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import attr
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libs.lineage.tests.lineage_story import DATASET, MODEL, STORY_GATE, deploy, told
from openlineage.client import event_v2, generated
from openlineage.client.generated.base import BaseFacet
from openlineage.client.serde import Serde
from prov.model import ProvActivity, ProvAgent, ProvDerivation, ProvDocument, ProvEntity

from mainstem.events.catalogue import decode
from mainstem.events.frames import Entry
from mainstem.lineage.openlineage import ENTRY, PRODUCER, Export
from mainstem.lineage.prov import write
from mainstem.testkit.projects import applied

Json = dict[str, Any]

STORY = told()
EVENTS: list[Json] = list(Export().events(enumerate(STORY.entries)))


def facet_classes() -> dict[str, type]:
    """Return the client's class of each facet, by the URL of its schema."""
    found = {}
    for module in iter_modules(generated.__path__, f"{generated.__name__}."):
        for _, one in inspect.getmembers(import_module(module.name), inspect.isclass):
            if issubclass(one, BaseFacet):
                found[one._get_schema()] = one
    return found


FACETS = facet_classes()


def facets(said: Mapping[str, Json]) -> dict[str, Any]:
    """Return facets as the client has them; our own has no class there and must name its schema."""
    read: dict[str, Any] = {}
    for name, facet in said.items():
        fields = {key: value for key, value in facet.items() if not key.startswith("_")}
        assert facet["_producer"] == PRODUCER
        if name == ENTRY:
            assert facet["_schemaURL"] == f"{PRODUCER}:entry-facet:1"
            read[name] = facet
        else:
            read[name] = FACETS[facet["_schemaURL"]](**fields, producer=PRODUCER)
    return read


def dataset(said: Json, kind: type) -> Any:
    given = {key: facets(value) if key.lower().endswith("facets") else value for key, value in said.items()}
    return kind(**given)


def as_the_client_has_it(said: Json) -> Any:
    job = event_v2.Job(said["job"]["namespace"], said["job"]["name"], facets(said["job"]["facets"]))
    shared = {
        "eventTime": said["eventTime"],
        "producer": said["producer"],
        "job": job,
        "inputs": [dataset(one, event_v2.InputDataset) for one in said["inputs"]],
        "outputs": [dataset(one, event_v2.OutputDataset) for one in said["outputs"]],
    }
    if "run" not in said:
        return event_v2.JobEvent(**shared)
    run = event_v2.Run(said["run"]["runId"], facets(said["run"]["facets"]))
    return event_v2.RunEvent(**shared, eventType=event_v2.RunState(said["eventType"]), run=run)


@pytest.mark.parametrize("number", range(len(EVENTS)))
def test_the_client_of_openlineage_reads_each_event_and_writes_the_same(number: int) -> None:
    said = EVENTS[number]
    read = as_the_client_has_it(said)
    assert said["schemaURL"] == read.schemaURL
    assert without_nothing(json.loads(Serde.to_json(read))) == without_nothing(json.loads(json.dumps(said)))


def without_nothing(value: Any) -> Any:
    """Return a document without nulls and empty parts, which the client leaves out or fills in as it likes."""
    if isinstance(value, dict):
        parts = {name: without_nothing(part) for name, part in value.items()}
        return {name: part for name, part in parts.items() if part not in (None, {}, [])}
    return [without_nothing(part) for part in value] if isinstance(value, list) else value


def test_every_class_that_is_used_refuses_what_its_schema_does_not_have() -> None:
    with pytest.raises(TypeError):
        FACETS[EVENTS[2]["job"]["facets"]["jobType"]["_schemaURL"]](processingType="BATCH")
    assert all(attr.has(one) for one in FACETS.values())


def test_a_run_begins_goes_on_and_ends_under_one_id() -> None:
    runs = [event for event in EVENTS if event["job"]["name"] == f"train.{MODEL}" and "run" in event]
    by_id: dict[str, list[str]] = {}
    for event in runs:
        by_id.setdefault(event["run"]["runId"], []).append(event["eventType"])
    assert list(by_id.values()) == [["START", "RUNNING", "COMPLETE"], ["START", "FAIL"]]
    assert runs[-1]["run"]["facets"]["errorMessage"]["message"] == "no labels"
    versions = [one["facets"]["version"]["datasetVersion"] for one in runs[2]["inputs"]]
    assert versions == [DATASET, STORY.definition.id]


def test_steps_and_the_registration_name_the_run_that_they_belong_to() -> None:
    (run,) = {
        e["run"]["runId"] for e in EVENTS if e.get("eventType") == "COMPLETE" and e["job"]["name"] == f"train.{MODEL}"
    }
    parents = {
        event["job"]["name"]: event["run"]["facets"]["parent"]["run"]["runId"]
        for event in EVENTS
        if "parent" in event.get("run", {}).get("facets", {})
    }
    assert set(parents.values()) == {run}
    assert sorted(parents) == ["register.storm", "train.storm.evaluate", "train.storm.fit", "train.storm.snapshot"]


def test_gates_are_tests_of_the_run_and_assertions_about_the_model() -> None:
    (registered,) = [event for event in EVENTS if event["job"]["name"] == f"register.{MODEL}"]
    (test,) = registered["run"]["facets"]["test"]["tests"]
    assert (test["name"], test["status"], test["expected"], test["actual"]) == ("auc", "pass", "0.7", "0.8")
    (assertion,) = registered["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert (assertion["assertion"], assertion["success"]) == (STORY_GATE.name, True)


def test_owners_stand_on_every_job_of_a_project() -> None:
    jobs = {event["job"]["name"]: event["job"]["facets"].get("ownership", {}).get("owners") for event in EVENTS}
    owners = [{"name": "data-team", "type": "technical"}, {"name": "sales", "type": "business"}]
    assert {name for name, found in jobs.items() if found != owners} == set()


def test_every_event_names_the_entry_that_says_so() -> None:
    for event in EVENTS:
        entry = (event.get("run") or event["job"])["facets"][ENTRY]
        headers = dict(STORY.entries[entry["leaf"]].headers)
        assert headers["ce_id"] == entry["eventId"].encode()
        assert headers["ce_type"] == entry["eventType"].encode()


#: What PROV calls the two ends of each relation: what was made, and of what.
RELATIONS = {
    "wasDerivedFrom": ("prov:generatedEntity", "prov:usedEntity"),
    "used": ("prov:activity", "prov:entity"),
    "wasGeneratedBy": ("prov:entity", "prov:activity"),
    "wasInformedBy": ("prov:informed", "prov:informant"),
}
ABOUT_AGENTS = ("wasAttributedTo", "wasAssociatedWith", "actedOnBehalfOf")

WRITTEN = write(enumerate(STORY.entries))
DOCUMENT = ProvDocument.deserialize(content=json.dumps(WRITTEN.document), format="json")


def test_the_reference_implementation_of_prov_reads_the_document_and_writes_the_same() -> None:
    assert WRITTEN.unread == []
    again = ProvDocument.deserialize(content=DOCUMENT.serialize(format="json"), format="json")
    assert again == DOCUMENT
    counts = {name: len(part) for name, part in WRITTEN.document.items() if name != "prefix"}  # type: ignore[arg-type]
    assert len(DOCUMENT.get_records()) == sum(counts.values())
    assert counts.keys() == {"entity", "activity", "agent", *RELATIONS, *ABOUT_AGENTS}


def test_what_a_relation_joins_is_declared_and_of_the_right_sort() -> None:
    sorts = {"Entity": ProvEntity, "Activity": ProvActivity, "Agent": ProvAgent}
    declared = {name: {one.identifier for one in DOCUMENT.get_records(sort)} for name, sort in sorts.items()}
    ends = {"generatedEntity": "Entity", "usedEntity": "Entity", "entity": "Entity", "activity": "Activity"}
    ends |= {
        "informed": "Activity",
        "informant": "Activity",
        "agent": "Agent",
        "delegate": "Agent",
        "responsible": "Agent",
    }
    missing = [
        (str(record), name.localpart)
        for record in DOCUMENT.get_records()
        if record.is_relation()
        for name, value in record.formal_attributes
        if name.localpart in ends and value is not None and value not in declared[ends[name.localpart]]
    ]
    assert missing == []


def statements(part: Json) -> Iterator[Json]:
    for name, said in part.items():
        if name not in {"prefix", "entity", "activity", "agent"}:
            yield from said.values()


def test_every_statement_of_prov_names_the_leaf_and_the_event_that_says_so() -> None:
    for said in statements(WRITTEN.document):
        envelope = decode(STORY.entries[said["mainstem:leaf"]]).envelope
        assert envelope.id == said["mainstem:event"]


def test_commands_from_outside_and_names_of_sources_are_no_entities() -> None:
    events = [said for name, said in WRITTEN.document["entity"].items() if name.startswith("mainstem:event/")]  # type: ignore[attr-defined]
    assert len(events) == 7
    assert [said for said in events if "mainstem:leaf" not in said] == []


def test_the_chain_is_whole_in_prov_too() -> None:
    back: dict[str, set[str]] = {}
    for name, said in WRITTEN.document.items():
        if name in RELATIONS:
            made, of = RELATIONS[name]
            for one in said.values():  # type: ignore[attr-defined]
                back.setdefault(one[made], set()).add(one[of])
    behind, todo = set[str](), {"mainstem:run/run2"}
    while todo:
        behind |= todo
        todo = {one for node in todo for one in back.get(node, ())} - behind
    wanted = ["alert/alert1", f"version/{MODEL}/1", "run/run1", f"dataset/{DATASET}", "record/src.reading/0/5"]
    wanted += [f"approval/{STORY.ids['approved']}", f"activation/{STORY.ids['activated']}"]
    assert [one for one in wanted if f"mainstem:{one}" not in behind] == []


def test_a_service_acts_on_behalf_of_whoever_asked() -> None:
    acted = WRITTEN.document["actedOnBehalfOf"]
    pairs = {(one["prov:delegate"], one["prov:responsible"]) for one in acted.values()}  # type: ignore[attr-defined]
    assert ("mainstem:agent//mainstem/test", "mainstem:agent/ben") in pairs


def test_some_entries_make_a_document_of_their_own_and_what_is_unread_is_told() -> None:
    some = [(leaf, STORY.entries[leaf]) for leaf in (30, 31, 32)]
    written = write([*some, (40, STORY.entries[0]._replace(headers=()))])
    assert written.unread == [40]
    document = ProvDocument.deserialize(content=json.dumps(written.document), format="json")
    assert len(list(document.get_records(ProvDerivation))) > 3


def redefined() -> list[Entry]:
    """Return a story in which the project changes hands before a version is deployed that was trained before."""
    story = told()
    ours = story.definition
    owners = ours.charter.owners.model_copy(update={"technical": "others"})
    theirs = ours.model_copy(update={"charter": ours.charter.model_copy(update={"owners": owners})})
    story.say("changed hands", applied(theirs, "hands"))
    deploy(story, 70)
    story.record("r7", "reading", {"sensor": "s7", "wind": 55.0}, 80)
    story.row("w7", "r7")
    story.predict("p7", "w7")
    return story.entries


REDEFINED = redefined()


@settings(max_examples=200, deadline=None)
@given(st.sets(st.integers(0, len(REDEFINED) - 1)))
def test_events_of_a_part_are_those_that_the_whole_log_leads_to(part: set[int]) -> None:
    whole = list(Export().events(enumerate(REDEFINED)))
    asked = list(Export().events(enumerate(REDEFINED), part))
    assert asked == [event for event in whole if leaf_of(event) in part]


def leaf_of(event: Json) -> int:
    about = event["run"]["facets"] if "run" in event else event["job"]["facets"]
    leaf: int = about[ENTRY]["leaf"]
    return leaf


@settings(max_examples=200, deadline=None)
@given(st.sets(st.integers(0, len(REDEFINED) - 1)))
def test_a_document_of_a_part_states_nothing_that_the_whole_log_does_not(part: set[int]) -> None:
    whole, asked = (relations(write(enumerate(REDEFINED), only).document) for only in (None, part))
    assert asked <= whole
    assert {one for one in whole if leaf_said(one) in part and "declares" in one} <= asked
    assert all(leaf_said(one) in part for one in asked)


def relations(document: Json) -> set[str]:
    """Return what a document says of two things, without the number that it has there."""
    parts = [part for name, part in document.items() if name not in {"prefix", "entity", "activity", "agent"}]
    return {json.dumps(said, sort_keys=True) for part in parts for said in part.values()}


def leaf_said(relation: str) -> int:
    leaf: int = json.loads(relation)["mainstem:leaf"]
    return leaf
