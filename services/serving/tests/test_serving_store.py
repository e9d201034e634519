"""What every store of serving promises; and PostgreSQL's tables as a fold of the log."""

import json
from dataclasses import replace

import pytest

from mainstem.events.catalogue import encode
from mainstem.events.envelope import Event, follow
from mainstem.events.errors import Undecodable
from mainstem.events.fence import Position
from mainstem.events.instants import render
from mainstem.events.registry import DeploymentArm
from mainstem.events.serving import DeploymentActivated, DeploymentRefused
from mainstem.feature_engine import feature_set
from mainstem.project import ProjectDefinition, Serving
from mainstem.serving.domain import Arm, Tallies, Tally
from mainstem.serving.memory import MemoryStore
from mainstem.serving.ports import Parked, Progress
from mainstem.serving.store import PROJECTIONS, TOPICS, PostgresStore, apply, apply_records
from mainstem.storage import load_checkpoint, open_database
from mainstem.testkit.projects import applied, storms
from mainstem.testkit.records import Taken

PLACE = ("evt.feature.gusts", 1)


class Postgres(PostgresStore):
    """PostgreSQL, with what the memory store lets a test see."""

    async def apply(self, event):
        async with self._database.transaction() as tx:
            await apply(tx, event)

    async def rows(self, table):
        async with self._database.transaction() as tx:
            return await tx.fetch(f"select * from {table} t order by t::text")


@pytest.fixture
async def postgres(database_url):
    database = await open_database(database_url, "serving", "mainstem.serving")
    yield Postgres(database)
    await database.close()


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.real)])
def store(request):
    return MemoryStore() if request.param == "memory" else request.getfixturevalue("postgres")


def activated(make, version, **said):
    wanted = make.deployment(version, f"sha256:{version}", **said)
    fact = DeploymentActivated(
        model="storm",
        version=version,
        onnx=wanted.fact.onnx,
        effective_from=wanted.fact.effective_from,
        from_offsets={"0": version, "1": 5},
    )
    return follow(wanted.envelope, fact, source="/mainstem/serving")


def refused(make, version):
    fact = DeploymentRefused(model="storm", version=version, rule="signature", reason="too wide")
    return follow(make.deployment(version).envelope, fact, source="/mainstem/serving")


async def test_deployments_are_pending_in_the_registrys_order_until_there_is_a_verdict(store, make):
    events = {version: make.deployment(version, f"sha256:{version}") for version in (10, 9, 2, 3)}
    for event in events.values():
        await store.apply(event)
    await store.record(activated(make, 2))
    await store.record(refused(make, 9))
    assert await store.pending() == [events[3], events[10]]


async def test_a_second_verdict_on_a_deployment_changes_nothing(store, make):
    await store.apply(make.deployment(1, "sha256:1"))
    await store.record(refused(make, 1))
    await store.record(activated(make, 1))
    assert await store.activations() == []


@pytest.mark.real
async def test_a_version_that_is_lost_is_told_once_for_each_reason(postgres, make):
    await postgres.apply(make.deployment(1, "sha256:1"))
    await postgres.record(activated(make, 1))
    (activation,) = await postgres.activations()
    for reason in ("changed", "changed", "gone"):
        await postgres.record_loss(activation, "artifact_digest", reason)
    lost = [json.loads(row["payload"]) for row in await postgres.rows("event_log") if "deployment_lost" in str(row)]
    assert sorted(fact["reason"] for fact in lost) == ["changed", "gone"]
    assert await postgres.activations() == [activation]


async def test_an_approval_is_of_one_digest(store, make):
    await store.apply(make.approval(1, "sha256:1"))
    asked = [("storm", 1, "sha256:1"), ("storm", 1, "sha256:2"), ("storm", 2, "sha256:1"), ("sun", 1, "sha256:1")]
    assert [await store.approved(*one) for one in asked] == [True, False, False, False]


async def test_a_promotion_is_of_one_version_and_leads_to_one_deployment(store, make):
    await store.apply(make.promotion(1))
    for event in (make.deployment(1, "sha256:1"), make.deployment(2, "sha256:2")):
        await store.apply(event)
        assert await store.promoted(event, "storm", event.fact.version) is (event.fact.version == 1)
    await store.record(activated(make, 1))
    copy = make.deployment(1, "sha256:1")
    copy = Event(replace(copy.envelope, id="another"), copy.fact)
    await store.apply(copy)
    assert await store.promoted(copy, "storm", 1) is False


async def test_activations_come_in_the_registrys_order_with_what_was_deployed(store, make):
    for version in (10, 9):
        await store.apply(make.deployment(version, f"sha256:{version}", at=make.may + version))
        await store.record(activated(make, version, at=make.may + version))
    first, last = await store.activations()
    assert (first.version, last.version) == (9, 10)
    assert (last.deployment, last.onnx, last.effective_us) == ("deployment 10", "sha256:10", make.may + 10)
    assert (last.feature_set, last.features) == ("gusts", ("wind", "rain", "hour"))
    assert last.from_offsets == {0: 10, 1: 5}


def computing(*definitions):
    """Return a project whose model reads the last of two versions of a set, of which those given are computed."""
    project = storms()
    spine = project.sources["reading"].stream()
    document = project.model_dump(mode="json") | {"feature_sets": {}}
    for version in definitions:
        made = feature_set("gusts", spine=spine, lateness="1h", version=version)(type("G", (), {"wind": spine.wind}))
        compiled = made.compile()
        document["feature_sets"][compiled.label] = {"id": compiled.id, "spec": compiled.spec}
        document["models"]["storm"]["feature_set"] = compiled.label
    return ProjectDefinition.model_validate(document)


def deployed_on(make, definition, label):
    """Return a deployment that reads a feature set of a definition."""
    event = make.deployment(1, "sha256:1")
    reads = {"feature_set": label, "feature_definition": definition.feature_sets[label].id}
    return Event(event.envelope, event.fact.model_copy(update=reads))


@pytest.mark.real
async def test_the_sets_of_deployments_are_read_beside_the_one_that_the_model_names(postgres, make):
    both = computing(1, 2)
    await postgres.apply(applied(both, "both"))
    assert await postgres.feature_topics() == {"evt.feature.gusts.v2": ["storm"]}
    await postgres.apply(deployed_on(make, both, "gusts"))
    assert await postgres.feature_topics() == {"evt.feature.gusts": ["storm"], "evt.feature.gusts.v2": ["storm"]}


@pytest.mark.real
async def test_a_set_that_is_not_computed_any_more_is_not_read(postgres, make):
    await postgres.apply(deployed_on(make, computing(1, 2), "gusts"))
    await postgres.apply(applied(computing(2), "the second alone"))
    assert await postgres.feature_topics() == {"evt.feature.gusts.v2": ["storm"]}


@pytest.mark.real
async def test_what_may_drop_is_what_the_projects_in_force_say(postgres):
    await postgres.apply(applied(computing(1), "silent"))
    assert await postgres.droppable() == set()
    serving = Serving(latency_ms=50, overflow={"storm": "drop"})
    await postgres.apply(applied(computing(1).model_copy(update={"serving": serving}), "said"))
    assert await postgres.droppable() == {"storm"}


async def test_an_activation_has_the_arms_of_its_deployment(store, make):
    arm = DeploymentArm(version=2, onnx="sha256:2", profile="sha256:p", weight=500, shadow=False)
    event = make.deployment(1, "sha256:1", arms=[arm], salt="spring")
    await store.apply(event)
    await store.record(activated(make, 1))
    (found,) = await store.activations()
    assert (found.arms, found.salt) == ((Arm(2, "sha256:2", 500, shadow=False),), "spring")
    assert [(each.version, each.onnx) for each in found.versions()] == [(1, "sha256:1"), (2, "sha256:2")]


def progress(offset, n):
    tallies = Tallies()
    tallies["storm", 1, "stream", 1] = Tally(n, 2**63 - 1)
    return Progress({PLACE: Position(offset, {"evt.data.x/1": offset})}, {PLACE: b"state"}, tallies)


async def test_a_save_that_is_repeated_counts_once(store):
    await store.save(progress(3, 2))
    await store.save(progress(3, 2))
    await store.save(progress(4, 1))
    assert await tallies_of(store) == [("storm", 1, "stream", 1, 3, 2**63 - 2)]


async def tallies_of(store):
    if isinstance(store, MemoryStore):
        return [(*key, tally.n, tally.fingerprint) for key, tally in store.tallies.items()]
    return [tuple(row) for row in await store.rows("prediction_tally")]


@pytest.mark.real
async def test_positions_and_states_come_back(postgres):
    await postgres.save(progress(3, 2))
    checkpoint = await load_checkpoint(postgres._database)
    assert checkpoint.positions == {PLACE: Position(3, {"evt.data.x/1": 3})}
    assert checkpoint.states == {PLACE: b"state"}


@pytest.mark.real
async def test_a_parked_record_is_kept_with_its_reason(postgres):
    kept = progress(3, 2)
    kept.parked.append(Parked(Taken(*PLACE, 2, b"junk"), "no row"))
    await postgres.save(kept)
    (row,) = await postgres.rows("parked")
    assert (row["offset"], row["reason"], row["payload"]) == (2, "no row", b"junk")


@pytest.mark.real
async def test_a_verdict_is_published_once_with_the_table_it_folds_into(postgres, make):
    await postgres.apply(make.deployment(1, "sha256:1"))
    for _ in range(2):
        await postgres.record(activated(make, 1))
    assert [row["topic"] for row in await postgres.rows("event_log")] == ["evt.serving.deployment"]
    assert [row["deployment"] for row in await postgres.rows("activation")] == ["deployment 1"]


@pytest.mark.real
async def test_the_tables_are_folds_of_the_log_in_any_order_of_the_topics(postgres, service, make):
    await service.deploy(1)
    await service.take(*[make.row(offset, partition=offset % 2) for offset in range(5)])
    decided = [make.approval(1, "sha256:1"), make.promotion(1), make.deployment(1, "sha256:1")]
    facts = [*decided, activated(make, 1), refused(make, 2)]
    control = [taken_of(event) for event in facts]
    states = []
    for order in (control + service.log.records, service.log.records + control[::-1]):
        async with postgres._database.transaction() as tx:
            for table in PROJECTIONS:
                await tx.execute(f"truncate {table}")
            await apply_records(tx, order)
        states.append([await postgres.rows(table) for table in PROJECTIONS])
    assert states[0] == states[1]
    assert [len(rows) for rows in states[0]] == [0, 1, 1, 1, 1, 1, 2]


def taken_of(event):
    message = encode(event)
    return Taken(message.topic, 0, 0, message.value, message.key, message.headers)


def test_a_prediction_that_cannot_be_read_is_named():
    broken = Taken("tel.prediction.storm", value=b"{}", headers=(("ce_type", b"mainstem.serving.predicted.v1"),))
    with pytest.raises(Undecodable, match=r"tel\.prediction\.storm"):
        Tallies.of([broken])


def test_every_projection_is_fed_by_a_topic_of_the_catalogue(make):
    assert {event.fact.topic for event in (make.approval(), make.deployment(), activated(make, 1))} <= set(TOPICS)
    assert render(make.may).startswith("2013-05-01")
