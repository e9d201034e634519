"""What is found wrong with a feature set opens one alert on it, and one for each model in production that reads it."""

import pytest
from services.monitoring.tests.monitoring_story import World, applied, checked, promoted, registered, stopped

from mainstem.events.envelope import Event
from mainstem.events.features import Difference, VectorsChecked
from mainstem.events.instants import render
from mainstem.events.monitoring import (
    AlertClosed,
    FeatureAlertOpened,
    FeatureSetAlertClosed,
    FeatureSetAlertOpened,
    InputGap,
    RetrainingAsked,
)
from mainstem.monitoring.alerts import closed
from mainstem.monitoring.memory import MemoryStore
from mainstem.storage import Artifacts
from mainstem.testkit.clock import DAY, HOUR, MAY
from mainstem.testkit.projects import storms

Watch = World[MemoryStore]

SET, OTHER = "sha256:" + "5" * 64, "sha256:" + "6" * 64
FOUND = checked(SET, MAY + DAY)


def version(number: int, definition: str = SET, model: str = "storm") -> Event:
    return registered(number, "sha256:profile", model, feature_set=definition)


@pytest.fixture
async def world(artifacts: Artifacts) -> Watch:
    """Return a book with a model in production that reads the set, and another that reads another."""
    world = World(MemoryStore(), artifacts)
    await world.told(version(1), version(2), version(3, OTHER), promoted(1))
    await world.told(version(1, OTHER, "flood"), promoted(1, model="flood"))
    return world


def opened(world: Watch) -> list[tuple[str, int, str]]:
    return [(fact.model, fact.version, fact.kind) for fact in world.facts(FeatureAlertOpened)]


async def test_a_difference_opens_an_alert_that_names_feature_values_and_records(world: Watch) -> None:
    await world.told(FOUND)
    (fact,) = world.facts(FeatureAlertOpened)
    assert isinstance(FOUND.fact, VectorsChecked)
    assert (fact.model, fact.version, fact.kind, fact.response) == ("storm", 1, "feature_mismatch", "investigate")
    assert (fact.feature_set, fact.definition, fact.until) == ("gusts", SET, render(MAY + DAY))
    assert fact.about == "windy of spine record r9: served 0.1, follows 0.2; 1 of 40 values checked differ"
    assert (fact.differing, fact.difference) == (1, FOUND.fact.first_difference)


async def test_a_row_that_is_wrong_as_a_whole_is_told_in_its_own_words(world: Watch) -> None:
    assert isinstance(FOUND.fact, VectorsChecked)
    missing = Difference(spine_id="r9", about="no row was published for it")
    await world.told(Event(FOUND.envelope, FOUND.fact.model_copy(update={"first_difference": missing})))
    (fact,) = world.facts(FeatureAlertOpened)
    assert fact.about == "spine record r9: no row was published for it; 1 of 40 values checked differ"


async def test_a_gap_opens_an_alert_that_names_the_gap(world: Watch) -> None:
    await world.told(stopped(SET, MAY))
    (fact,) = world.facts(FeatureAlertOpened)
    assert (fact.kind, fact.about, fact.difference) == ("feature_gap", "records are gone", None)
    assert fact.gap == InputGap(topic="evt.data.reading", partition=1, expected_offset=5, found_offset=9)


async def test_a_check_without_a_difference_opens_nothing(world: Watch) -> None:
    await world.told(checked(SET, MAY, differing=0))
    assert opened(world) == []


async def test_every_model_in_production_that_reads_the_set_gets_one(world: Watch) -> None:
    await world.told(version(1, SET, "hail"), version(2, SET, "sleet"), promoted(1, model="hail"), FOUND)
    assert opened(world) == [("hail", 1, "feature_mismatch"), ("storm", 1, "feature_mismatch")]


@pytest.mark.parametrize("found", [FOUND, stopped(SET, MAY)])
async def test_a_finding_that_is_delivered_twice_opens_one_alert(world: Watch, found: Event) -> None:
    await world.told(found, found)
    assert len(opened(world)) == 1


async def test_while_an_alert_is_open_another_finding_of_its_kind_is_no_news(world: Watch) -> None:
    await world.told(FOUND, checked(SET, MAY + 2 * DAY), stopped(SET, MAY + 2 * DAY))
    assert opened(world) == [("storm", 1, "feature_mismatch"), ("storm", 1, "feature_gap")]


async def test_once_it_is_closed_the_same_finding_stays_closed_and_a_new_one_opens_another(world: Watch) -> None:
    await world.told(FOUND)
    async with world.store.transaction() as book:
        (alert,) = await book.open_alerts("storm")
    await world.told(closed(alert, "known", cause="c", actor="olga", recorded_us=MAY + DAY))
    await world.told(FOUND)
    assert len(opened(world)) == 1
    await world.told(checked(SET, MAY + 3 * DAY))
    assert len(opened(world)) == 2


async def test_a_finding_that_is_read_before_the_promotion_opens_the_same_alert(
    world: Watch, artifacts: Artifacts
) -> None:
    await world.told(FOUND)
    early = World(MemoryStore(), artifacts)
    await early.told(version(1), FOUND)
    assert early.own == []
    await early.told(promoted(1))
    assert early.own == world.own


async def test_a_promotion_onto_a_set_that_was_found_wrong_opens_an_alert(world: Watch) -> None:
    await world.told(checked(OTHER, MAY - DAY), promoted(3, MAY, replaces=1))
    assert opened(world) == [("flood", 1, "feature_mismatch"), ("storm", 3, "feature_mismatch")]
    assert [event.envelope.recorded_us for event in world.own] == [MAY - HOUR, MAY]


async def test_an_alert_stays_open_as_long_as_the_model_reads_the_set(world: Watch) -> None:
    await world.told(FOUND, promoted(2, MAY + 2 * DAY, replaces=1))
    assert (len(opened(world)), world.facts(AlertClosed)) == (1, [])
    await world.told(promoted(3, MAY + 3 * DAY, replaces=2))
    (end,) = world.facts(AlertClosed)
    assert end.reason == "version 3 took the place of version 1"


async def test_a_finding_asks_for_no_retraining(world: Watch) -> None:
    await world.told(FOUND, stopped(SET, MAY))
    assert world.facts(RetrainingAsked) == []


#: A set that a project declares and no model in production reads.
DECLARED = storms().feature_sets["gusts"].id
UNREAD = stopped(DECLARED, MAY)


@pytest.fixture
async def unread(artifacts: Artifacts) -> Watch:
    """Return a book with a set that a project declares and no model in production reads."""
    world = World(MemoryStore(), artifacts)
    await world.told(applied(storms()))
    return world


def on_sets(world: Watch) -> list[tuple[str, str]]:
    return [(fact.feature_set, fact.kind) for fact in world.facts(FeatureSetAlertOpened)]


async def test_a_gap_opens_an_alert_on_the_set_that_names_the_place_also_when_no_model_reads_it(unread: Watch) -> None:
    await unread.told(UNREAD)
    (fact,) = unread.facts(FeatureSetAlertOpened)
    assert (fact.feature_set, fact.definition, fact.kind, fact.until) == ("gusts", DECLARED, "feature_gap", render(MAY))
    assert fact.gap == InputGap(topic="evt.data.reading", partition=1, expected_offset=5, found_offset=9)
    assert (fact.about, opened(unread)) == ("records are gone", [])


async def test_a_difference_opens_an_alert_on_the_set_also_when_no_model_reads_it(unread: Watch) -> None:
    await unread.told(checked(DECLARED, MAY, differing=0), checked(DECLARED, MAY + DAY))
    (fact,) = unread.facts(FeatureSetAlertOpened)
    assert (fact.kind, fact.differing, fact.until) == ("feature_mismatch", 1, render(MAY + DAY))


async def test_a_model_that_reads_the_set_gets_its_own_beside(unread: Watch) -> None:
    await unread.told(version(1, DECLARED), promoted(1), UNREAD)
    assert (on_sets(unread), opened(unread)) == ([("gusts", "feature_gap")], [("storm", 1, "feature_gap")])


async def test_a_set_has_one_alert_for_each_gap_and_one_for_differences(unread: Watch) -> None:
    await unread.told(UNREAD, UNREAD, stopped(DECLARED, MAY + DAY, offset=20), stopped(DECLARED, MAY + 2 * DAY))
    await unread.told(checked(DECLARED, MAY), checked(DECLARED, MAY + DAY))
    assert on_sets(unread) == [("gusts", "feature_gap")] * 2 + [("gusts", "feature_mismatch")]


async def test_an_alert_on_a_set_ends_when_no_project_declares_the_set_any_more(unread: Watch) -> None:
    await unread.told(UNREAD, applied(storms(impact=2), MAY + DAY))
    assert unread.facts(FeatureSetAlertClosed) == []
    await unread.told(applied(storms(mean_over="1h"), MAY + 2 * DAY))
    (end,) = unread.facts(FeatureSetAlertClosed)
    assert (end.feature_set, end.alert) == ("gusts", unread.facts(FeatureSetAlertOpened)[0].alert)
    assert end.reason == "project weather was applied without it, and no other declares the set"


async def test_a_set_that_another_project_still_declares_keeps_its_alert(unread: Watch) -> None:
    await unread.told(applied(storms("climate")), UNREAD, applied(storms(mean_over="1h"), MAY + DAY))
    assert unread.facts(FeatureSetAlertClosed) == []


async def test_a_finding_that_is_read_before_the_set_is_declared_opens_an_alert_when_it_is(
    unread: Watch, artifacts: Artifacts
) -> None:
    early = World(MemoryStore(), artifacts)
    await early.told(UNREAD)
    assert on_sets(early) == []
    await early.told(applied(storms()), UNREAD)
    assert on_sets(early) == [("gusts", "feature_gap")]


async def test_a_finding_that_is_read_after_the_set_was_dropped_opens_nothing_until_it_is_declared_again(
    unread: Watch,
) -> None:
    await unread.told(UNREAD, applied(storms(mean_over="1h"), MAY + DAY), stopped(DECLARED, MAY + DAY, offset=20))
    assert len(on_sets(unread)) == 1
    await unread.told(applied(storms(), MAY + 2 * DAY))
    assert [fact.until for fact in unread.facts(FeatureSetAlertOpened)] == [render(MAY), render(MAY + DAY)]


async def test_an_alert_on_a_set_that_was_closed_by_hand_stays_closed_when_its_project_is_applied_again(
    unread: Watch,
) -> None:
    await unread.told(UNREAD)
    async with unread.store.transaction() as book:
        (alert,) = await book.open_alerts(DECLARED)
        await book.record(closed(alert, "restored", cause="c", actor="olga", recorded_us=MAY))
    await unread.told(UNREAD, applied(storms(impact=2), MAY + DAY))
    assert len(on_sets(unread)) == 1
