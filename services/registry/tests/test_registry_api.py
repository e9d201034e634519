"""The registry over HTTP."""

import json
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from mainstem.auth import Principal
from mainstem.events.envelope import Event
from mainstem.events.topics import ConcreteTopic
from mainstem.feature_engine import feature_set, fixed, load, stream, target
from mainstem.project import ProjectDefinition
from mainstem.registry.api import Api
from mainstem.registry.handlers import on_run
from mainstem.registry.memory import MemoryStore
from mainstem.registry.ports import Broker, Proved
from mainstem.testkit.callers import Caller, bearer, calling, principals
from mainstem.testkit.projects import applied, storms

WIND = {"column": "wind"}


class Registry(Caller):
    """The application, and callers by name."""

    def __init__(self, client: httpx.AsyncClient, store: MemoryStore) -> None:
        super().__init__(client)
        self.store = store

    async def take(self, event: Event) -> None:
        async with self.store.transaction() as book:
            await on_run(book, event)


async def every_topic(topics: Sequence[ConcreteTopic]) -> None:
    """Accept all topics."""


async def a_dashboard(topics: Sequence[str]) -> dict[str, list[str]]:
    """Let a dashboard read every topic, beside serving."""
    return {topic: ["dashboard", "serving"] for topic in topics}


async def at_once(events: Sequence[Event]) -> list[Proved]:
    """Take every event for proved."""
    return [Proved(event.envelope.id, leaf, len(events)) for leaf, event in enumerate(events)]


@pytest.fixture
async def registry(people: dict[str, Principal]) -> AsyncIterator[Registry]:
    store = MemoryStore()
    known = principals({person.name: person.roles for person in people.values()})
    async with calling(Api(store, known, Broker(every_topic, a_dashboard), at_once).routes()) as caller:
        yield Registry(caller.client, store)


@pytest.fixture
def document(define):
    return define().model_dump(mode="json")


@pytest.fixture
async def candidate(registry, define, run_of):
    """Return the path of a version that may be approved."""
    definition = define()
    await registry.post("/v1/projects", "dana", definition=definition.model_dump(mode="json"))
    await registry.take(run_of(definition))
    return "/v1/models/storm/versions/1"


async def test_a_definition_is_applied_once(registry, document, define):
    first = await registry.post("/v1/projects", "dana", definition=document)
    again = await registry.post("/v1/projects", "dana", definition=document)
    assert (first.status_code, again.status_code) == (201, 200)
    assert [answer.json()["unchanged"] for answer in (first, again)] == [False, True]
    assert first.json()["definition_id"] == define().id


async def test_an_edit_of_a_pinned_set_is_a_problem_with_the_list_of_what_it_would_break(
    registry, candidate, define, dataset_of
):
    await registry.take(dataset_of(define()))
    edited = define(mean_over="2h").model_dump(mode="json")
    answer = await registry.post("/v1/projects", "dana", definition=edited)
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    problem = answer.json()
    assert (problem["type"], problem["title"]) == ("mainstem:feature_set_pinned", "feature set pinned")
    (broken,) = problem["impact"]
    assert (broken["feature_set"], broken["datasets"]) == ("gusts", ["sha256:of weather"])
    assert broken["versions"] == [{"model": "storm", "version": 1, "stage": "candidate"}]
    assert broken["consumer_groups"] == [
        {"group": "dashboard", "platform": False}, {"group": "serving", "platform": True}
    ]  # fmt: skip
    assert problem["detail"].endswith(broken["remedy"])
    assert [row["request"] for row in (await registry.get(candidate)).json()["refusals"]] == ["apply"]


async def test_a_project_is_listed_and_shown_as_it_was_applied(registry, document, define):
    await registry.post("/v1/projects", "dana", definition=document)
    (listed,) = (await registry.get("/v1/projects")).json()["projects"]
    shown = (await registry.get("/v1/projects/weather")).json()
    assert shown == listed | {"definition": document}


async def test_what_is_no_definition_is_refused_with_every_fault(registry, document):
    del document["serving"], document["monitoring"]
    answer = await registry.post("/v1/projects", "dana", definition=document)
    assert answer.status_code == 422
    assert "monitoring: Field required; apply" in answer.json()["detail"]
    assert "serving: Field required" in answer.json()["detail"]


def joined_otherwise(document):
    """Let the label of the model be joined by the station of a sensor, a column that both sources have."""
    for name in ("reading", "outcome"):
        columns = document["sources"][name]["columns"]
        columns["station"] = columns["sensor"]
    document["models"]["storm"]["label"]["key"] = "station"


def joined_by_a_number(document):
    """Let the source of the label have a number where the readings have the sensor."""
    outcome = document["sources"]["outcome"]
    outcome["columns"] |= {"event": outcome["columns"]["sensor"], "sensor": outcome["columns"]["loss"]}
    outcome["key"] = "event"


def with_a_target_elsewhere(document):
    """Declare a set that no model reads, with a target from what is no source."""
    reading = storms().sources["reading"].stream()
    tide = stream("tide", key="sensor", columns={"level": fixed("m", lo=0, hi=9)})
    declared = {"wind": reading.wind, "high": target(tide.level > 2, on="sensor", wait="3h")}
    add(document, feature_set("unread", spine=reading, lateness="1h")(type("Unread", (), declared)))


def with_names_of_one_topic(document):
    """Declare sets that no model reads, whose topics the broker takes for one."""
    reading = storms().sources["reading"].stream()
    for name, version in (("unread_v2", 1), ("unread", 2)):
        collect = feature_set(name, spine=reading, lateness="1h", version=version)
        add(document, collect(type("Unread", (), {"wind": reading.wind})))


def with_a_name_that_is_none(document):
    """File a set that no model reads under a name that no topic may have."""
    document["feature_sets"]["Un/read"] = document["feature_sets"]["gusts"]


def with_features(document, *features):
    """Write features into the set that the model reads as no author can, and give it the id that goes with them."""
    spec = document["feature_sets"]["gusts"]["spec"]
    spec["features"] = [{"name": name, "value": value} for name, value in features]
    document["feature_sets"]["gusts"]["id"] = load(spec).id


def with_a_feature_called_label(document):
    with_features(document, ("wind", WIND), ("label", WIND))


def with_a_feature_called_position(document):
    with_features(document, ("position", WIND))


def with_a_feature_of_no_name(document):
    with_features(document, ("mean wind", WIND))


def with_a_comparison_that_is_decided(document):
    with_features(document, ("gale", {"op": "gt", "args": [WIND, {"number": 1000, "scale": 1}]}))


def with_a_target_over_the_spine(document):
    place = {"name": "late", "stream": "reading", "on": "sensor", "column": "wind", "wait_us": 1}
    document["feature_sets"]["gusts"]["spec"]["target"] = place | {"above": {"number": 5, "scale": 1}}


def add(document, declared):
    compiled = declared.compile()
    document["feature_sets"][compiled.label] = {"id": compiled.id, "spec": compiled.spec}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            joined_otherwise,
            "the label of model 'storm' is joined by 'station', but rows of 'gusts' are known by 'sensor', the key of "
            "their spine; join it by 'sensor', or take a spine that is keyed by 'station'",
        ),
        (
            joined_by_a_number,
            "the label of model 'storm' is joined by 'sensor', a fixed column of 'outcome', which is never what a row "
            "is known by; make 'sensor' of 'outcome' a category",
        ),
        (with_a_target_elsewhere, "the target 'high' comes from 'tide', which is no source; declare it in sources.py"),
        (
            with_a_feature_called_label,
            "feature set 'gusts': label: a file of rows has a column of this name beside the features; take another",
        ),
        (
            with_a_feature_called_position,
            "feature set 'gusts': position: a file of rows has a column of this name beside the features; take another",
        ),
        (with_a_feature_of_no_name, "feature set 'gusts': 'mean wind': it is no name of a feature; write a name as"),
        (
            with_a_comparison_that_is_decided,
            "feature set 'gusts': gale: a comparison with 1000 is decided beforehand, since the value is never above",
        ),
        (
            with_a_target_over_the_spine,
            "feature set 'gusts': late: a target over the spine reading labels a record by itself; take a column",
        ),
        (with_names_of_one_topic, "feature sets 'unread.v2' and 'unread_v2' would have one topic"),
        (with_a_name_that_is_none, "feature_sets.Un/read.[key]: String should match pattern"),
    ],
)
async def test_what_no_folder_may_say_is_refused_in_the_same_words(registry, document, spoil, said):
    spoil(document)
    answer = await registry.post("/v1/projects", "dana", definition=document)
    assert (answer.status_code, said in answer.json()["detail"]) == (422, True), answer.json()
    assert (await registry.get("/v1/projects")).json() == {"projects": []}


async def test_a_set_that_is_in_force_stays_though_nobody_may_declare_it_any_more(registry, document):
    with_a_feature_called_label(document)
    async with registry.store.transaction() as book:
        await book.record(applied(ProjectDefinition.model_validate(document)))
    document["charter"]["purpose"] = "Warn of gales."
    answer = await registry.post("/v1/projects", "dana", definition=document)
    assert (answer.status_code, answer.json()["unchanged"]) == (201, False)


@pytest.mark.parametrize(("by", "status"), [(None, 401), ("ann", 403), ("olga", 403)])
async def test_only_a_builder_applies_projects(registry, document, by, status):
    assert (await registry.post("/v1/projects", by, definition=document)).status_code == status


async def test_a_name_of_another_project_is_a_conflict(registry, document, define):
    await registry.post("/v1/projects", "dana", definition=document)
    answer = await registry.post("/v1/projects", "dana", definition=define("harbour").model_dump(mode="json"))
    assert (answer.status_code, answer.json()["type"]) == (409, "mainstem:name_taken")


async def test_the_platforms_own_topics_cannot_be_taken(registry, define):
    document = json.loads(define().model_dump_json().replace('"outcome"', '"quarantine"'))
    answer = await registry.post("/v1/projects", "dana", definition=document)
    assert (answer.status_code, answer.json()["type"]) == (409, "mainstem:name_reserved")


async def test_an_approval_answers_with_what_it_led_to(registry, candidate):
    answer = (await registry.post(f"{candidate}/approve", "ann", command_id="a1", comment="good")).json()
    names = ["version_approved", "version_promoted", "deployment_set"]
    assert [fact["type"] for fact in answer["facts"]] == [f"mainstem.registry.{name}.v1" for name in names]
    assert answer["promoted"]
    assert answer["refused"] is None


async def test_an_approval_by_a_builder_is_a_conflict_that_names_the_rule(registry, candidate):
    answer = await registry.post(f"{candidate}/approve", "rob", command_id="a1")
    assert (answer.status_code, answer.json()["type"]) == (409, "mainstem:separation_of_duties")
    assert answer.json()["detail"] == "rob touched its run; ask an approver who did not"


async def test_a_repeated_approval_has_the_same_answer(registry, candidate):
    answers = [await registry.post(f"{candidate}/approve", "ann", command_id="a1") for _ in range(2)]
    assert answers[0].json() == answers[1].json()


async def test_a_promotion_without_an_approval_is_a_conflict(registry, candidate):
    answer = await registry.post(f"{candidate}/promote", "olga", command_id="p1")
    assert (answer.status_code, answer.json()["type"]) == (409, "mainstem:approvals")


async def test_a_decision_can_be_recorded_at_a_time_by_who_may_replay(registry, candidate):
    await registry.post(f"{candidate}/approve", "ann", command_id="a1", promote=False)
    answer = await registry.post(f"{candidate}/promote", "olga", command_id="p1", at="2013-05-04T02:00:00+02:00")
    assert answer.json()["effective_from"] == "2013-05-04T00:00:00.000000Z"


async def test_nobody_else_may_say_the_time(registry, candidate):
    answer = await registry.post(f"{candidate}/approve", "ann", command_id="a1", at="2013-05-04T00:00:00Z")
    assert answer.status_code == 403


@pytest.mark.parametrize("at", ["yesterday", "2013-05-04T00:00:00", "0001-01-01T00:00:00+14:00"])
async def test_a_time_that_is_no_instant_is_refused(registry, candidate, at):
    answer = await registry.post(f"{candidate}/promote", "olga", command_id="p1", at=at)
    assert (answer.status_code, answer.json()["type"]) == (400, "mainstem:bad_instant")


NO_BODIES = [
    {},
    {"command_id": ""},
    {"command_id": "x\0"},
    {"command_id": "\ud800"},
    {"command_id": "c", "force": True},
]


@pytest.mark.parametrize("body", NO_BODIES)
async def test_a_body_that_the_call_does_not_take_is_refused(registry, candidate, body):
    raw = json.dumps(body).encode()
    answer = await registry.client.post(f"{candidate}/promote", content=raw, headers=bearer("olga"))
    assert (answer.status_code, answer.json()["type"]) == (400, "mainstem:malformed_body")


@pytest.mark.parametrize("number", ["2", "-1", "one", "²", "9" * 30])
async def test_a_version_that_is_not_there_is_not_found(registry, candidate, number):
    path = f"/v1/models/storm/versions/{number}"
    answers = [await registry.get(path), await registry.post(f"{path}/approve", "ann", command_id="a1")]
    assert [answer.status_code for answer in answers] == [404, 404]


async def test_models_are_listed_with_how_their_versions_stand(registry, candidate):
    before = (await registry.get("/v1/models")).json()["models"]
    await registry.post(f"{candidate}/approve", "ann", command_id="a1")
    after = (await registry.get("/v1/models")).json()["models"]
    row = {"model": "storm", "project": "weather", "versions": 1}
    assert before == [row | {"production": None, "candidates": [1]}]
    assert after == [row | {"production": 1, "candidates": []}]


async def test_a_model_is_shown_with_versions_deployment_and_refusals(registry, candidate):
    await registry.post(f"{candidate}/promote", "olga", command_id="p1")
    await registry.post(f"{candidate}/approve", "ann", command_id="a1")
    shown = (await registry.get("/v1/models/storm")).json()
    (version,) = shown["versions"]
    assert (version["stage"], version["auc"], version["approved_by"]) == ("production", 0.8, ["ann"])
    assert shown["deployment"]["features"] == ["wind", "windy"]
    assert [refusal["rule"] for refusal in shown["refusals"]] == ["approvals"]


async def test_a_version_is_shown_with_its_evidence_and_who_decided(registry, candidate):
    await registry.post(f"{candidate}/approve", "ann", command_id="a1", comment="good")
    shown = (await registry.get(candidate)).json()
    assert (shown["stage"], shown["builders"]) == ("production", ["dana", "rob"])
    assert shown["evidence"]["evaluation"] == {"n": 100, "auc": 0.8, "ece": 0.01}
    assert [gate["name"] for gate in shown["gates"]] == ["min_auc", "not_worse_than_incumbent", "calibration", "parity"]
    assert [(row["approved_by"], row["comment"]) for row in shown["approvals"]] == [("ann", "good")]


@pytest.mark.parametrize("path", ["/v1/projects/none", "/v1/models/none"])
async def test_what_nobody_applied_is_not_found(registry, path):
    assert (await registry.get(path)).status_code == 404


async def test_a_rollback_goes_back_to_the_version_before(registry, candidate, define, run_of):
    await registry.post(f"{candidate}/approve", "ann", command_id="a1")
    await registry.take(run_of(define(), 2, against="sha256:1"))
    await registry.post("/v1/models/storm/versions/2/approve", "ann", command_id="a2")
    answer = await registry.post("/v1/models/storm/rollback", "olga", command_id="r1")
    assert [(fact["version"], fact.get("replaces")) for fact in answer.json()["facts"]] == [(1, 2), (1, None)]
