"""What is decided and kept, the same in memory and on PostgreSQL."""

import asyncio

import pytest

from mainstem.events.errors import Rejected
from mainstem.events.registry import (
    ChangeRefused,
    DeploymentSet,
    Impact,
    PinnedBy,
    ReadBy,
    VersionApproved,
    VersionPromoted,
)
from mainstem.project import ProjectDefinition
from mainstem.registry.desk import Command, Desk
from mainstem.registry.handlers import Application, Pinned, apply_project, implied_command, on_run
from mainstem.registry.memory import MemoryStore
from mainstem.registry.ports import Broker
from mainstem.registry.store import PostgresStore
from mainstem.runtime import Problem
from mainstem.storage import open_database

MAY = 1_367_366_400_000_000
DAY = 86_400_000_000
HOUR = DAY // 24


class World:
    """A registry with its people; every call is one transaction."""

    def __init__(self, store, log, people, define, run_of):
        self.store, self.log, self.people, self.run_of = store, log, people, run_of
        self.definition = define()
        self.created = []
        #: Consumer groups by topic.
        self.groups = {}

    async def create(self, topics):
        self.created += [(topic.name, topic.partitions) for topic in topics]

    async def groups_of(self, topics):
        return {topic: self.groups.get(topic, []) for topic in topics}

    async def apply(self, definition=None, by="dana", command=None):
        definition = definition or self.definition
        async with self.store.transaction() as book:
            name = command or await implied_command(book, definition)
            broker = Broker(self.create, self.groups_of)
            return await apply_project(book, broker, definition, Command(name, self.people[by], MAY))

    async def run(self, number=1, definition=None, **more):
        event = self.run_of(definition or self.definition, number, **more)
        await self.take(event)
        return event

    async def take(self, event):
        async with self.store.transaction() as book:
            await on_run(book, event)

    def desk(self, book, by, command):
        return Desk(book, Command(command, self.people[by], MAY + DAY), "storm")

    async def approve(self, number=1, by="ann", command="a1", *, onnx=None, promote=True):
        async with self.store.transaction() as book:
            return await self.desk(book, by, command).approve(number, onnx=onnx, comment="", promote=promote)

    async def promote(self, number=1, by="olga", command="p1"):
        async with self.store.transaction() as book:
            return await self.desk(book, by, command).promote(number)

    async def roll_back(self, to=None, by="olga", command="r1"):
        async with self.store.transaction() as book:
            return await self.desk(book, by, command).roll_back(to)

    async def stages(self):
        async with self.store.transaction() as book:
            return [str(found.version.stage) for found in await book.versions("storm")]

    async def version(self, number=1):
        async with self.store.transaction() as book:
            return (await book.versions("storm"))[number - 1]

    async def refusals(self):
        async with self.store.transaction() as book:
            return [(row["number"], row["request"], row["rule"]) for row in await book.refusals("storm")]

    async def in_force(self):
        async with self.store.transaction() as book:
            (project,) = await book.projects()
            (definition,) = await book.definitions(project.definition_id)
            return definition.content

    async def deployment(self):
        async with self.store.transaction() as book:
            return await book.deployment("storm")

    async def second_on_its_own_set(self, beside):
        """Put version 1 into production, then version 2 on version 2 of the set."""
        await self.apply()
        await self.in_production(1)
        second = beside(self.definition)
        await self.apply(second)
        await self.run(2, definition=second, against="sha256:1")
        await self.approve(2, command="a2")

    async def in_production(self, *numbers):
        """Register and promote versions one after another, each compared with the one before."""
        for number in numbers:
            against = None if number == numbers[0] else f"sha256:{number - 1}"
            await self.run(number, against=against)
            await self.approve(number, command=f"a{number}")


def kinds(facts):
    return [type(fact) for fact in facts]


class Battery:
    async def test_a_definition_comes_into_force_after_its_topics_exist(self, world):
        applied = await world.apply()
        assert (applied.project, applied.definition_id, applied.unchanged) == ("weather", world.definition.id, False)
        assert world.created == [
            ("src.reading", 2), ("src.outcome", 2), ("evt.data.reading", 2), ("evt.data.outcome", 2),
            ("evt.feature.gusts", 2), ("tel.prediction.storm", 2),
        ]  # fmt: skip

    async def test_the_same_definition_again_changes_nothing(self, world):
        await world.apply()
        assert (await world.apply(by="rob", command="again")).unchanged
        async with world.store.transaction() as book:
            assert [project.applied_by for project in await book.projects()] == ["dana"]

    async def test_an_applied_command_repeated_has_the_same_answer(self, world):
        first = await world.apply(command="c1")
        assert await world.apply(command="c1") == first
        assert len(world.created) == 6

    async def test_going_back_to_an_earlier_definition_is_a_change(self, world, define):
        other = define(impact=2)
        answers = [await world.apply(d, by=by) for d, by in [(None, "dana"), (other, "dana"), (None, "rob")]]
        assert [answer.unchanged for answer in answers] == [False, False, False]
        async with world.store.transaction() as book:
            (known,) = await book.definitions(world.definition.id)
            assert known.applied_by == {"dana", "rob"}

    async def test_a_name_that_another_project_owns_is_refused(self, world, define):
        await world.apply()
        with pytest.raises(Problem, match=r"'weather' owns source 'reading', .*, feature set 'gusts', model 'storm'"):
            await world.apply(define("harbour"))
        assert not (await world.apply(define("harbour", mark="h_"))).unchanged

    async def test_other_partitions_than_a_topic_has_are_refused(self, world, define):
        await world.apply()
        with pytest.raises(Problem, match=r"src.reading has 2 partitions, 3 are asked for"):
            await world.apply(define(partitions=3))

    async def test_what_fails_to_get_its_topics_is_not_in_force(self, world):
        async def broken(topics):
            raise Rejected("no broker")

        world.create = broken
        with pytest.raises(Rejected):
            await world.apply()
        async with world.store.transaction() as book:
            assert await book.projects() == []

    async def test_a_good_run_becomes_a_candidate_in_the_story_of_the_run(self, world):
        await world.apply()
        event = await world.run()
        found = await world.version()
        assert (found.version.stage, found.version.number, found.fact.builders) == ("candidate", 1, ["dana", "rob"])
        assert (found.correlation, found.recorded_time) == (event.envelope.correlation, "2013-05-01T01:00:00.000000Z")

    async def test_a_run_that_a_service_asked_for_adds_no_builder(self, world):
        await world.apply()
        await world.run(by="/mainstem/monitoring")
        assert (await world.version()).fact.builders == ["dana"]

    async def test_a_run_below_a_gate_is_refused_with_its_figures(self, world):
        await world.apply()
        await world.run(auc=0.6)
        found = await world.version()
        assert found.version.stage == "refused"
        assert [gate.figure for gate in found.version.gates if not gate.passed] == [0.6]

    async def test_evidence_that_is_no_number_is_refused_by_a_gate(self, world):
        await world.apply()
        await world.run(auc=float("nan"))
        assert [gate.name for gate in (await world.version()).version.gates] == ["evidence"]

    async def test_a_run_is_registered_once(self, world):
        await world.apply()
        await world.run()
        await world.run()
        assert await world.stages() == ["candidate"]

    async def test_a_run_of_an_unknown_definition_is_rejected(self, world):
        with pytest.raises(Rejected, match="has no model 'storm' in definition"):
            await world.run()

    async def test_an_approval_puts_the_version_into_production(self, world):
        await world.apply()
        await world.run()
        approved, promoted, deployment = await world.approve()
        assert (approved.onnx, promoted.replaces) == ("sha256:1", None)
        assert deployment == DeploymentSet(
            model="storm", version=1, project="weather", onnx="sha256:1", profile="sha256:profile",
            feature_set="gusts", feature_definition=world.definition.feature_sets["gusts"].id,
            features=["wind", "windy"], approved_by="ann", effective_from="2013-05-02T00:00:00.000000Z",
        )  # fmt: skip

    @pytest.mark.parametrize("builder", ["dana", "rob"])
    async def test_who_built_it_may_not_approve_it(self, world, builder):
        await world.apply()
        await world.run()
        (refused,) = await world.approve(by=builder)
        assert (type(refused), refused.rule) == (ChangeRefused, "separation_of_duties")
        assert await world.refusals() == [(1, "approve", "separation_of_duties")]
        assert await world.stages() == ["candidate"]

    async def test_a_version_below_a_gate_cannot_be_approved(self, world):
        await world.apply()
        await world.run(auc=0.6)
        (refused,) = await world.approve()
        assert refused.rule == "gates"
        assert "AUC 0.6000 on 100 rows, at least 0.7000 is asked for" in refused.reason
        assert await world.stages() == ["refused"]

    async def test_another_digest_than_the_version_has_cannot_be_approved(self, world):
        await world.apply()
        await world.run()
        (refused,) = await world.approve(onnx="sha256:other")
        assert refused.rule == "digest"

    async def test_without_an_approval_nothing_is_promoted(self, world):
        await world.apply()
        await world.run()
        (refused,) = await world.promote()
        assert (refused.request, refused.rule) == ("promote", "approvals")
        assert await world.stages() == ["candidate"]

    async def test_approval_and_promotion_may_be_two_commands(self, world):
        await world.apply()
        await world.run()
        assert kinds(await world.approve(promote=False)) == [VersionApproved]
        assert kinds(await world.promote()) == [VersionPromoted, DeploymentSet]

    async def test_at_tier_high_two_approve_and_a_third_promotes(self, world, define):
        world.definition = define(impact=5)
        await world.apply()
        await world.run()
        assert kinds(await world.approve(by="ann")) == [VersionApproved, ChangeRefused]
        assert kinds(await world.approve(by="bea")) == [VersionApproved, ChangeRefused]
        assert kinds(await world.promote(by="olga")) == [VersionPromoted, DeploymentSet]
        assert await world.refusals() == [(1, "promote", "approvals"), (1, "promote", "separation_of_duties")]

    async def test_a_repeated_command_is_answered_alike_and_done_once(self, world):
        await world.apply()
        await world.run()
        first = await world.approve()
        assert await world.approve() == first
        assert await world.stages() == ["production"]

    async def test_a_repeated_refusal_is_recorded_once(self, world):
        await world.apply()
        await world.run()
        assert await world.promote() == await world.promote()
        assert len(await world.refusals()) == 1

    async def test_the_next_version_archives_the_one_before(self, world):
        await world.apply()
        await world.in_production(1, 2)
        assert await world.stages() == ["archived", "production"]
        assert (await world.version(2)).version.judged_against == "sha256:1"

    async def test_rolling_back_twice_goes_back_twice_and_then_no_further(self, world):
        await world.apply()
        await world.in_production(1, 2, 3)
        done = [await world.roll_back(command=f"r{number}") for number in range(3)]
        assert [facts[0].version for facts in done] == [2, 1, 1]
        assert kinds(done[2]) == [ChangeRefused]
        assert await world.stages() == ["production", "archived", "archived"]

    async def test_a_rollback_may_name_its_version(self, world):
        await world.apply()
        await world.in_production(1, 2, 3)
        promoted, deployment = await world.roll_back(to=1)
        assert (promoted.version, promoted.replaces, deployment.approved_by) == (1, 3, "ann")

    async def test_without_a_version_in_production_nothing_is_rolled_back(self, world):
        await world.apply()
        with pytest.raises(Problem, match="no version of 'storm' is in production"):
            await world.roll_back()

    async def test_a_version_that_nobody_registered_is_unknown(self, world):
        with pytest.raises(Problem, match="has no version 7"):
            await world.approve(7)

    async def test_a_decision_is_never_recorded_before_what_it_decides_on(self, world):
        await world.apply()
        await world.run(48)
        facts = await world.approve(1)
        assert facts[-1].effective_from == "2013-05-03T00:00:00.000000Z"

    async def test_every_decision_stays_in_the_story_and_names_its_cause(self, world):
        await world.apply()
        await world.run()
        await world.approve()
        story = [event.envelope for event in await world.log()][1:]
        assert {envelope.correlation for envelope in story} == {"run-storm-1"}
        assert [envelope.causation for envelope in story[1:]] == ["a1", *(envelope.id for envelope in story[1:-1])]

    async def test_an_edit_of_a_set_that_a_version_pins_is_refused_with_what_it_would_break(
        self, world, define, dataset_of
    ):
        await world.apply()
        await world.take(dataset_of(world.definition))
        await world.take(dataset_of(define("harbour", mark="h_")))
        await world.in_production(1)
        world.groups["evt.feature.gusts"] = ["dashboard", "features-check-gusts", "serving", "training-notebook"]
        edited = define(mean_over="2h")
        refused = await world.apply(edited)
        assert refused.impact == [
            Impact(
                feature_set="gusts",
                pinned=world.definition.feature_sets["gusts"].id,
                proposed=edited.feature_sets["gusts"].id,
                versions=[PinnedBy(model="storm", version=1, stage="production")],
                datasets=["sha256:of weather"],
                consumer_groups=[
                    ReadBy(group="dashboard", platform=False),
                    ReadBy(group="features-check-gusts", platform=True),
                    ReadBy(group="serving", platform=True),
                    ReadBy(group="training-notebook", platform=False),
                ],
                remedy="leave 'gusts' as it is, declare @feature_set(\"gusts\", version=2, ...) beside it,"
                " and let the model read it",
            )
        ]
        assert "'gusts' is pinned by storm version 1 (production): sha256:" in refused.detail
        assert (await world.in_force()).id == world.definition.id

    async def test_the_refusal_stands_in_the_story_of_each_version_that_pins_and_once(self, world, define):
        await world.apply()
        await world.in_production(1)
        await world.run(2, against="sha256:1")
        first = await world.apply(define(mean_over="2h"))
        assert await world.apply(define(mean_over="2h")) == first
        assert await world.refusals() == [(1, "apply", "feature_set_pinned"), (2, "apply", "feature_set_pinned")]
        events = [event for event in await world.log() if isinstance(event.fact, ChangeRefused)]
        assert [event.fact.impact for event in events] == [first.impact[0]] * 2
        assert [event.envelope.correlation for event in events] == ["run-storm-1", "run-storm-2"]
        assert events[1].envelope.recorded_us >= MAY + 2 * HOUR

    async def test_a_set_that_versions_pin_may_not_disappear(self, world, beside):
        await world.apply()
        await world.in_production(1)
        second = beside(world.definition).model_dump(mode="json")
        del second["feature_sets"]["gusts"]
        refused = await world.apply(ProjectDefinition.model_validate(second))
        assert (refused.impact[0].proposed, "would be gone; put 'gusts' back" in refused.detail) == (None, True)

    async def test_a_set_that_nobody_pins_may_be_edited(self, world, define):
        await world.apply()
        assert not (await world.apply(define(mean_over="2h"))).unchanged

    async def test_a_version_that_a_gate_refused_pins_nothing(self, world, define):
        await world.apply()
        await world.run(auc=0.6)
        assert not (await world.apply(define(mean_over="2h"))).unchanged

    async def test_a_version_stands_beside_the_pinned_one_with_a_topic_of_its_own(self, world, beside):
        await world.apply()
        await world.in_production(1)
        assert not (await world.apply(beside(world.definition))).unchanged
        assert ("evt.feature.gusts.v2", 2) in world.created

    async def test_the_next_version_deploys_the_set_that_it_was_trained_on(self, world, beside):
        await world.second_on_its_own_set(beside)
        assert (await world.deployment()).feature_set == "gusts.v2"
        assert (await world.deployment()).features == ["wind"]

    async def test_a_set_that_only_archived_versions_read_may_be_edited_and_is_not_gone_back_to(
        self, world, beside, define
    ):
        await world.second_on_its_own_set(beside)
        assert not (await world.apply(beside(define(mean_over="2h")))).unchanged
        (refused,) = await world.roll_back()
        assert (refused.version, refused.rule) == (1, "feature_set_gone")
        assert await world.stages() == ["archived", "production"]

    async def test_a_candidate_of_a_set_that_was_edited_meanwhile_is_not_promoted(self, world, define):
        await world.apply()
        await world.apply(define(mean_over="2h"))
        await world.run()
        approved, refused = await world.approve()
        assert (type(approved), refused.rule) == (VersionApproved, "feature_set_gone")
        assert await world.stages() == ["candidate"]


class TestInMemory(Battery):
    @pytest.fixture
    def world(self, people, define, run_of):
        store = MemoryStore()

        async def log():
            return store.log

        return World(store, log, people, define, run_of)


@pytest.mark.real
class TestOnPostgres(Battery):
    @pytest.fixture
    async def world(self, database_url, people, define, run_of):
        database = await open_database(database_url, "registry", "mainstem.registry")

        async def log():
            async with database.transaction() as tx:
                rows = await tx.fetch("select event_id from event_log order by seq")
                return [await tx.find(row["event_id"]) for row in rows]

        yield World(PostgresStore(database), log, people, define, run_of)
        await database.close()

    async def test_of_two_approvals_at_once_one_goes_into_production(self, world):
        await world.apply()
        await world.run()
        both = await asyncio.gather(world.approve(by="ann", command="a1"), world.approve(by="bea", command="b1"))
        assert sorted(map(len, both)) == [1, 3]
        assert [row[1:] for row in await world.refusals()] == [("approve", "stage")]

    async def test_of_an_edit_and_a_rollback_to_what_it_edits_at_once_one_is_refused(self, world, beside, define):
        await world.second_on_its_own_set(beside)
        edit = beside(define(mean_over="2h"))
        applied, rolled_back = await asyncio.gather(world.apply(edit), world.roll_back())
        refused = kinds(rolled_back) == [ChangeRefused]
        assert isinstance(applied, Application if refused else Pinned)
        assert (await world.in_force() == edit) is refused

    async def test_one_command_sent_twice_at_once_is_done_once(self, world):
        await world.apply()
        await world.run()
        first, second = await asyncio.gather(world.approve(), world.approve())
        assert first == second
        assert len(await world.log()) == 5
