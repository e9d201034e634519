"""From records to verdicts, in memory: the same whatever the polls and wherever a crash falls."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from services.monitoring.tests.monitoring_story import (
    Said,
    World,
    day,
    drifting,
    label,
    marker,
    prediction,
    promoted,
    usual,
)

from mainstem.events.errors import Unavailable
from mainstem.events.instants import render
from mainstem.events.monitoring import AlertClosed, AlertOpened, RetrainingAsked, WindowJudged
from mainstem.events.serving import ShadowScored
from mainstem.monitoring.memory import MemoryBook, MemoryStore
from mainstem.monitoring.ports import Book
from mainstem.storage import Artifacts
from mainstem.testkit.clock import DAY, HOUR, MAY, MINUTE
from mainstem.testkit.projects import storms
from mainstem.testkit.waiting import until

Watch = World[MemoryStore]

NOON = MAY + 12 * HOUR
#: The window of the first of May ends, and six hours later it is complete.
END, DUE = MAY + DAY, MAY + 30 * HOUR


class Flickering(MemoryStore):
    """Loses every third transaction at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.lost = 100, 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Book]:
        async with super().transaction() as book:
            yield book
            self.left -= 1
            if self.left % 3 == 1 and self.left < 0:
                self.lost += 1
                raise Unavailable("the store is away")


async def judged(world: Watch, said: Iterable[Said]) -> list[WindowJudged]:
    return (await world.play(said)).facts(WindowJudged)


async def verdict(world: Watch, said: Iterable[Said]) -> WindowJudged:
    """The verdict on the first of May."""
    return of_first(await judged(world, said))


def of_first(verdicts: list[WindowJudged]) -> WindowJudged:
    return next(fact for fact in verdicts if fact.end == render(END))


async def watching(artifacts: Artifacts, **monitoring: Any) -> Watch:
    return await World(MemoryStore(), artifacts, storms(monitoring=usual(**monitoring))).begun()


# --- windows


async def test_a_window_counts_predictions_and_labels_of_its_version(drifted: Watch) -> None:
    found = of_first(drifted.facts(WindowJudged))
    assert (found.version, found.predictions, found.labelled, found.start) == (1, 200, 200, render(MAY))
    assert found.figures["auc"] > 0.6
    assert found.figures["unlabelled"] == 0


@pytest.mark.parametrize("seed", range(1, 5))
async def test_polls_change_no_event(world: Watch, drifted: Watch, seed: int) -> None:
    await world.play(drifting(), seed=seed)
    assert world.own == drifted.own
    assert len(drifted.facts(WindowJudged)) == 5


@pytest.mark.parametrize("seed", range(8))
async def test_a_crash_anywhere_changes_no_event(world: Watch, drifted: Watch, seed: int) -> None:
    await world.play(drifting(), seed=seed, crashes=0.3)
    assert world.own == drifted.own
    assert drifted.facts(AlertOpened)


@pytest.mark.parametrize("remembered", [True, False])
async def test_a_window_that_was_judged_stays_judged_by_a_fold_without_its_state(
    world: Watch, monkeypatch: pytest.MonkeyPatch, remembered: bool
) -> None:
    quiet = drifting(30, quiet=30)
    await world.play(quiet)
    told = list(world.own)
    assert told and not world.facts(AlertOpened)
    world.store.states.clear()
    world.project = storms(monitoring=usual(false_alarms_per_100_windows=100))  # judged anew, there would be alerts
    if not remembered:

        async def never(*_: object) -> bool:
            return False

        monkeypatch.setattr(MemoryBook, "has_judged", never)
    await world.started()
    await world.play(quiet)
    assert (world.own == told) == remembered


async def test_a_store_that_was_away_changes_no_event(artifacts: Artifacts, drifted: Watch) -> None:
    store = Flickering()
    world = await World(store, artifacts).begun()
    store.left = 0
    await world.play(drifting())
    assert world.own == drifted.own
    assert store.lost > 1


async def test_a_window_is_recorded_at_the_first_instant_past_its_wait(world: Watch) -> None:
    said = [prediction("a", NOON), *marker(DUE - 1), *marker(DUE + 5), *marker(DUE + 9)]
    envelope = (await world.play(said)).own[-1].envelope
    assert (envelope.time_us, envelope.recorded_us) == (END, DUE + 5)


@pytest.mark.parametrize("crashes", [0.0, 0.05])
@pytest.mark.parametrize(
    ("known", "counted"), [(-6 * HOUR + HOUR // 30, 1), (HOUR, 1), (6 * HOUR, 1), (6 * HOUR + 1, 0)]
)
async def test_a_label_counts_until_the_wait_is_over_whichever_comes_first(
    world: Watch, known: int, counted: int, crashes: float
) -> None:
    hourly = [prediction(f"other {n}", MAY + n * HOUR // 2) for n in range(6, 48)]
    said = [prediction("a", NOON), label("a", NOON + known, 20), *hourly, *marker(DUE)]
    await world.play(said, most=2, checkpoints=1.0, crashes=crashes)
    assert of_first(world.facts(WindowJudged)).labelled == counted


async def test_a_label_counts_in_the_window_of_its_prediction(world: Watch) -> None:
    found = await judged(world, [prediction("a", END - 1), label("a", END + 2 * HOUR, 20), *marker(DUE + DAY)])
    assert [(fact.version, fact.labelled) for fact in found] == [(1, 1), (None, 0)]


async def test_a_label_far_before_a_prediction_is_not_its_label(world: Watch) -> None:
    said = [label("a", NOON - 7 * HOUR, 20), prediction("a", NOON), *marker(DUE)]
    assert (await verdict(world, said)).labelled == 0


async def test_a_null_label_decides_nothing_and_a_later_one_does(world: Watch) -> None:
    said = [prediction("a", NOON), label("a", NOON + HOUR, None), label("a", NOON + 2 * HOUR, 20)]
    found = await verdict(world, [*said, *marker(DUE)])
    assert (found.labelled, found.figures["positive_rate"]) == (1, 1.0)


async def test_a_label_decides_all_predictions_on_its_entity(world: Watch) -> None:
    said = [prediction("a", NOON), prediction("a", NOON + HOUR, part=1), label("a", NOON + 2 * HOUR, 10)]
    found = await verdict(world, [*said, *marker(DUE)])
    assert (found.labelled, found.figures["positive_rate"]) == (2, 0.0)


async def test_direct_calls_are_counted_by_channel_and_not_judged(world: Watch) -> None:
    said = [prediction("a", NOON), prediction("b", NOON, channel="http"), label("b", NOON + HOUR, 20)]
    found = await verdict(world, [*said, *marker(DUE)])
    assert (found.predictions, found.labelled, found.figures["direct"]) == (1, 0, {"http": 1})


async def test_what_a_shadow_scored_is_no_answer(world: Watch) -> None:
    place, recorded, at, payload, *_ = prediction("b", NOON, channel="http", version=2)
    scored = place, recorded, at, payload, ShadowScored.TYPE
    found = await judged(world, [prediction("a", NOON), scored, label("b", NOON + HOUR, 20), *marker(DUE)])
    assert [(fact.version, fact.predictions, fact.labelled) for fact in found] == [(1, 1, 0)]


async def test_a_window_in_which_nobody_answered_is_told(world: Watch) -> None:
    found = await judged(world, [label("a", NOON, 20), *marker(DUE)])
    assert [(fact.version, fact.predictions, fact.end) for fact in found] == [(None, 0, render(END))]


async def test_versions_that_change_in_a_window_are_judged_apart(world: Watch) -> None:
    await world.told(promoted(2, NOON, replaces=1))
    said = [prediction("a", NOON), prediction("b", NOON + 1, version=2), label("b", NOON + HOUR, 20)]
    found = await judged(world, [*said, *marker(DUE)])
    assert [(fact.version, fact.predictions, fact.labelled) for fact in found] == [(1, 1, 0), (2, 1, 1)]


async def test_a_prediction_after_its_window_is_closed_counts_nowhere(world: Watch) -> None:
    late = prediction("b", NOON, recorded=DUE + 2)
    found = await judged(world, [prediction("a", NOON), *marker(DUE), late, *marker(DUE + 9)])
    assert [fact.predictions for fact in found] == [1]
    assert world.fold.late == 1


async def test_live_records_close_a_window_as_they_pass_it(artifacts: Artifacts) -> None:
    live = await World(MemoryStore(), artifacts, storms(replay=False, monitoring=usual())).begun()
    await live.play([prediction("a", NOON), label("a", NOON + HOUR, 20), prediction("b", DUE + HOUR)], most=1)
    await live.watching.on_records([], lag=dict.fromkeys(live.places, 0))
    assert [fact.labelled for fact in live.facts(WindowJudged)] == [1]
    assert live.own[0].envelope.recorded_us == DUE + HOUR + MINUTE


async def test_another_window_begins_after_the_change(world: Watch) -> None:
    await world.play([*day(0), *day(1)])
    await world.watching.checkpoint()
    world.project = storms(monitoring=usual(window=12 * HOUR))
    await world.started()
    await world.play([one for n in range(4) for one in day(n)])
    found = [(fact.start, fact.end) for fact in world.facts(WindowJudged)]
    assert found[1] == (render(MAY), render(END))
    assert found[2] == (render(MAY + 2 * DAY), render(MAY + 2 * DAY + DAY // 2))


# --- what cannot be taken


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b'{"version":1,"channel":"\xff"}', b'{"version":1,"channel":"post","features":[1],"score":1}'],
)
async def test_a_record_that_is_no_prediction_is_parked_and_holds_nobody(world: Watch, payload: bytes) -> None:
    *head, _ = prediction("b", NOON)
    found = await verdict(world, [prediction("a", NOON), (*head, payload), *marker(DUE)])
    assert (found.predictions, len(world.store.parked)) == (1, 1)
    assert "no prediction or label" in world.store.parked[0].reason


async def test_a_prediction_with_other_inputs_than_its_profile_is_parked(world: Watch) -> None:
    *head, payload = prediction("b", NOON, wind=1.5)
    said = [prediction("a", NOON), (*head, payload.replace(b"[1.5]", b"[1, 2]")), *marker(DUE)]
    assert (await verdict(world, said)).predictions == 1
    assert "2 inputs" in world.store.parked[0].reason


async def test_a_marker_that_is_none_announces_nothing(world: Watch) -> None:
    bad: list[Said] = [(place, recorded, None, b'{"until":"soon"}') for place, recorded, _, _ in marker(NOON)]
    assert (await verdict(world, [prediction("a", NOON), *bad, *marker(DUE)])).predictions == 1


async def test_a_missing_profile_leaves_figures_without_drift(artifacts: Artifacts) -> None:
    world = World(MemoryStore(), artifacts)
    world.address = "sha256:" + "0" * 64
    found = await verdict(await world.begun(), [*day(0), *day(1)])
    assert (found.predictions, "psi" in found.figures, "evidence" in found.figures) == (200, False, False)
    assert "no artifact sha256:000" in found.figures["drift_unknown"]
    assert found.figures["auc"] > 0.6


async def test_an_artifact_that_is_no_profile_leaves_figures_without_drift(artifacts: Artifacts) -> None:
    world = World(MemoryStore(), artifacts)
    world.address = artifacts.put(b'{"features": []}')
    found = await verdict(await world.begun(), [*day(0), *day(1)])
    assert (found.labelled, "psi" in found.figures) == (200, False)


async def test_a_profile_that_went_missing_does_not_stop_an_open_window(world: Watch, tmp_path: Path) -> None:
    await world.play(day(0))
    await world.watching.checkpoint()
    world.artifacts = Artifacts(tmp_path / "nothing")
    await world.started()
    found = await verdict(world, [*day(0), *day(1)])
    assert (found.predictions, found.labelled, "psi" in found.figures) == (200, 200, False)


async def test_a_version_that_is_not_known_yet_is_waited_for(world: Watch, caplog: pytest.LogCaptureFixture) -> None:
    playing = asyncio.create_task(world.play([prediction("a", NOON, version=2), *marker(DUE)]))
    await until(lambda: "version 2 of storm answers, but its promotion was not read yet" in caplog.text)
    await world.told(promoted(2, NOON - HOUR, replaces=1))
    await playing
    assert [fact.version for fact in world.facts(WindowJudged)] == [2]


# --- alerts


def test_drift_opens_one_alert_and_asks_for_one_retraining(drifted: Watch) -> None:
    (opened,) = [fact for fact in drifted.facts(AlertOpened) if fact.kind == "feature_drift"]
    (asked,) = drifted.facts(RetrainingAsked)
    assert (opened.version, opened.response, opened.outcome) == (1, "retrain", "asked")
    assert opened.contributors[0]["name"] == "wind"
    assert (asked.alert, asked.project, asked.kind) == (opened.alert, "weather", "feature_drift")


def test_a_retraining_may_use_what_was_known_when_the_window_closed(drifted: Watch) -> None:
    (asked,) = drifted.facts(RetrainingAsked)
    (event,) = (event for event in drifted.own if event.fact == asked)
    assert asked.cut == render(event.envelope.recorded_us + 1) == render(MAY + 4 * DAY)


def test_an_alert_and_what_it_asks_for_are_one_story(drifted: Watch) -> None:
    alert = drifted.facts(RetrainingAsked)[0].alert
    story = [event for event in drifted.own if event.envelope.correlation == alert]
    assert [type(event.fact) for event in story] == [AlertOpened, RetrainingAsked]
    assert story[1].envelope.causation == story[0].envelope.id
    assert story[0].envelope.causation in {e.envelope.id for e in drifted.own if isinstance(e.fact, WindowJudged)}


def test_alerts_stand_before_the_verdict_they_come_from(drifted: Watch) -> None:
    facts = [event.fact for event in drifted.own]
    opened = drifted.facts(AlertOpened)[0]
    (found,) = [fact for fact in drifted.facts(WindowJudged) if fact.end == opened.window_end]
    assert facts.index(found) > facts.index(opened)


async def test_other_responses_are_recorded_only(artifacts: Artifacts) -> None:
    world = await watching(artifacts, responses={"feature_drift": "investigate"})
    await world.play(drifting())
    assert {(fact.kind, fact.response, fact.outcome) for fact in world.facts(AlertOpened)} == {
        ("feature_drift", "investigate", "recorded"),
        ("prediction_drift", "record", "recorded"),
    }
    assert world.facts(RetrainingAsked) == []


async def test_within_the_cooldown_an_alert_waits_and_then_asks(artifacts: Artifacts) -> None:
    world = await watching(artifacts, responses={"feature_drift": "retrain", "prediction_drift": "retrain"})
    await world.play(drifting(days=7))
    outcomes = {fact.kind: fact.outcome for fact in world.facts(AlertOpened)}
    assert outcomes == {"feature_drift": "asked", "prediction_drift": "cooling down"}
    asked = [event for event in world.own if isinstance(event.fact, RetrainingAsked)]
    assert [fact.kind for fact in world.facts(RetrainingAsked)] == ["feature_drift", "prediction_drift"]
    assert asked[1].envelope.recorded_us - asked[0].envelope.recorded_us == 2 * DAY


async def test_a_version_that_is_not_in_production_opens_no_alert(world: Watch) -> None:
    await world.told(promoted(2, MAY, replaces=1))
    await world.play(drifting())
    assert world.facts(AlertOpened) == []


async def test_a_promotion_closes_the_alerts_of_the_version_it_replaces(world: Watch) -> None:
    await world.play(drifting())
    await world.told(promoted(2, MAY + 6 * DAY, replaces=1))
    opened, closed = world.facts(AlertOpened), world.facts(AlertClosed)
    assert {fact.alert for fact in closed} == {fact.alert for fact in opened}
    assert closed[0].reason == "version 2 took the place of version 1"


async def test_a_promotion_that_is_read_before_the_data_closes_the_same_alerts(
    world: Watch, artifacts: Artifacts
) -> None:
    before = await watching(artifacts)
    promotion = promoted(2, MAY + 6 * DAY, replaces=1)
    await world.play(drifting())
    await world.told(promotion)
    await before.told(promotion)
    await before.play(drifting())
    assert sorted(map(repr, before.own)) == sorted(map(repr, world.own))
    assert before.facts(AlertClosed)
