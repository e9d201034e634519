"""From records to verdicts, in memory: the same whatever the polls and wherever a crash falls."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from mainstem.events.errors import Unavailable
from mainstem.events.instants import render
from mainstem.events.monitoring import AlertClosed, AlertOpened, RetrainingAsked, WindowJudged
from mainstem.monitoring.memory import MemoryStore
from mainstem.storage import Artifacts
from mainstem.testkit.waiting import until

MAY = 1_367_366_400_000_000
HOUR = 3_600_000_000
DAY = 24 * HOUR
NOON = MAY + 12 * HOUR
#: The window of the first of May ends, and six hours later it is complete.
END, DUE = MAY + DAY, MAY + 30 * HOUR


class Flickering(MemoryStore):
    """Loses every third transaction at its end."""

    def __init__(self):
        super().__init__()
        self.left, self.lost = 100, 0

    @asynccontextmanager
    async def transaction(self):
        async with super().transaction() as book:
            yield book
            self.left -= 1
            if self.left % 3 == 1 and self.left < 0:
                self.lost += 1
                raise Unavailable("the store is away")


def drifting(say, days=5):
    """Two quiet days, then the wind rises; enough days after for the last window to be judged."""
    return [one for n in range(days) for one in say.day(n, shift=1.0 if n >= 2 else 0.0)]


async def verdict(world, said):
    """The verdict on the first of May."""
    return of_first((await (await world.begun()).play(said)).facts(WindowJudged))


def of_first(judged):
    return next(fact for fact in judged if fact.end == render(END))


# --- windows


async def test_a_window_counts_predictions_and_labels_of_its_version(world, say):
    found = await verdict(world(), [*say.day(0), *say.day(1)])
    assert (found.version, found.predictions, found.labelled, found.start) == (1, 200, 200, render(MAY))
    assert found.figures["auc"] > 0.6
    assert found.figures["unlabelled"] == 0


@pytest.mark.parametrize("seed", range(1, 7))
async def test_polls_change_no_event(world, say, seed):
    said = drifting(say)
    plain = await (await world().begun()).play(said, most=10_000)
    other = await (await world().begun()).play(said, seed=seed)
    assert other.own == plain.own
    assert len(plain.facts(WindowJudged)) == 5


@pytest.mark.parametrize("seed", range(10))
async def test_a_crash_anywhere_changes_no_event(world, say, seed):
    said = drifting(say)
    plain = await (await world().begun()).play(said, most=10_000)
    other = await (await world().begun()).play(said, seed=seed, crashes=0.3)
    assert other.own == plain.own
    assert plain.facts(AlertOpened)


async def test_a_store_that_was_away_changes_no_event(world, say):
    said = drifting(say)
    plain = await (await world().begun()).play(said)
    other = await world(store=Flickering()).begun()
    other.store.left = 0
    await other.play(said)
    assert other.own == plain.own
    assert other.store.lost > 1


async def test_a_window_is_recorded_at_the_first_instant_past_its_wait(world, say):
    said = [say.prediction("a", NOON), *say.marker(DUE - 1), *say.marker(DUE + 5), *say.marker(DUE + 9)]
    made = await (await world().begun()).play(said)
    envelope = made.own[-1].envelope
    assert (envelope.time_us, envelope.recorded_us) == (END, DUE + 5)


@pytest.mark.parametrize("crashes", [0.0, 0.05])
@pytest.mark.parametrize(
    ("known", "counted"), [(-6 * HOUR + HOUR // 30, 1), (HOUR, 1), (6 * HOUR, 1), (6 * HOUR + 1, 0)]
)
async def test_a_label_counts_until_the_wait_is_over_whichever_comes_first(world, say, known, counted, crashes):
    hourly = [say.prediction(f"other {n}", MAY + n * HOUR // 2) for n in range(6, 48)]
    said = [say.prediction("a", NOON), say.label("a", NOON + known, 20), *hourly, *say.marker(DUE)]
    made = await (await world().begun()).play(said, most=2, checkpoints=1.0, crashes=crashes)
    assert of_first(made.facts(WindowJudged)).labelled == counted


async def test_a_label_counts_in_the_window_of_its_prediction(world, say):
    said = [say.prediction("a", END - 1), say.label("a", END + 2 * HOUR, 20), *say.marker(DUE + DAY)]
    found = (await (await world().begun()).play(said)).facts(WindowJudged)
    assert [(fact.version, fact.labelled) for fact in found] == [(1, 1), (None, 0)]


async def test_a_label_far_before_a_prediction_is_not_its_label(world, say):
    said = [say.label("a", NOON - 7 * HOUR, 20), say.prediction("a", NOON), *say.marker(DUE)]
    assert (await verdict(world(), said)).labelled == 0


async def test_a_null_label_decides_nothing_and_a_later_one_does(world, say):
    said = [say.prediction("a", NOON), say.label("a", NOON + HOUR, None), say.label("a", NOON + 2 * HOUR, 20)]
    found = await verdict(world(), [*said, *say.marker(DUE)])
    assert (found.labelled, found.figures["positive_rate"]) == (1, 1.0)


async def test_a_label_decides_all_predictions_on_its_entity(world, say):
    said = [say.prediction("a", NOON), say.prediction("a", NOON + HOUR, part=1), say.label("a", NOON + 2 * HOUR, 10)]
    found = await verdict(world(), [*said, *say.marker(DUE)])
    assert (found.labelled, found.figures["positive_rate"]) == (2, 0.0)


async def test_direct_calls_are_counted_by_channel_and_not_judged(world, say):
    said = [say.prediction("a", NOON), say.prediction("b", NOON, channel="http"), say.label("b", NOON + HOUR, 20)]
    found = await verdict(world(), [*said, *say.marker(DUE)])
    assert (found.predictions, found.labelled, found.figures["direct"]) == (1, 0, {"http": 1})


async def test_a_window_in_which_nobody_answered_is_told(world, say):
    found = (await (await world().begun()).play([say.label("a", NOON, 20), *say.marker(DUE)])).facts(WindowJudged)
    assert [(fact.version, fact.predictions, fact.end) for fact in found] == [(None, 0, render(END))]


async def test_versions_that_change_in_a_window_are_judged_apart(world, say):
    said = [say.prediction("a", NOON), say.prediction("b", NOON + 1, version=2), say.label("b", NOON + HOUR, 20)]
    made = await world().begun()
    await made.told(say.promoted(2, NOON, replaces=1))
    found = (await made.play([*said, *say.marker(DUE)])).facts(WindowJudged)
    assert [(fact.version, fact.predictions, fact.labelled) for fact in found] == [(1, 1, 0), (2, 1, 1)]


async def test_a_prediction_after_its_window_is_closed_counts_nowhere(world, say):
    late = say.prediction("b", NOON, recorded=DUE + 2)
    made = await (await world().begun()).play([say.prediction("a", NOON), *say.marker(DUE), late, *say.marker(DUE + 9)])
    assert [fact.predictions for fact in made.facts(WindowJudged)] == [1]
    assert made.fold.late == 1


async def test_live_records_close_a_window_as_they_pass_it(world, say):
    said = [say.prediction("a", NOON), say.label("a", NOON + HOUR, 20), say.prediction("b", DUE + HOUR)]
    made = await (await world(replay=False).begun()).play(said, most=1)
    await made.watching.on_records([], lag=dict.fromkeys(made.places, 0))
    (event,) = made.own
    assert (event.fact.labelled, event.envelope.recorded_us) == (1, DUE + HOUR + 60_000_000)


async def test_another_window_begins_after_the_change(world, say):
    made = await (await world().begun()).play([*say.day(0), *say.day(1)])
    await made.watching.checkpoint()
    made.project = say.definition(window=12 * HOUR)
    await made.started()
    await made.play([one for n in range(4) for one in say.day(n)])
    found = [(fact.start, fact.end) for fact in made.facts(WindowJudged)]
    assert found[1] == (render(MAY), render(END))
    assert found[2] == (render(MAY + 2 * DAY), render(MAY + 2 * DAY + DAY // 2))


# --- what cannot be taken


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"version":1,"channel":"post","features":[1],"score":1}'])
async def test_a_record_that_is_no_prediction_is_parked_and_holds_nobody(world, say, payload):
    place, recorded, time, _ = say.prediction("b", NOON)
    made = await world().begun()
    found = await verdict(made, [say.prediction("a", NOON), (place, recorded, time, payload), *say.marker(DUE)])
    assert (found.predictions, len(made.store.parked)) == (1, 1)
    assert "no prediction or label" in made.store.parked[0].reason


async def test_a_prediction_with_other_inputs_than_its_profile_is_parked(world, say):
    place, recorded, time, payload = say.prediction("b", NOON, wind=1.5)
    said = [say.prediction("a", NOON), (place, recorded, time, payload.replace(b"[1.5]", b"[1, 2]"))]
    made = world()
    assert (await verdict(made, [*said, *say.marker(DUE)])).predictions == 1
    assert "2 inputs" in made.store.parked[0].reason


async def test_a_marker_that_is_none_announces_nothing(world, say):
    bad = [(place, recorded, None, b'{"until":"soon"}') for place, recorded, _, _ in say.marker(NOON)]
    assert (await verdict(world(), [say.prediction("a", NOON), *bad, *say.marker(DUE)])).predictions == 1


async def test_a_missing_profile_leaves_figures_without_drift(world, say):
    made = world()
    made.address = "sha256:" + "0" * 64
    found = await verdict(made, [*say.day(0), *say.day(1)])
    assert (found.predictions, "psi" in found.figures, "evidence" in found.figures) == (200, False, False)
    assert "no artifact sha256:000" in found.figures["drift_unknown"]
    assert found.figures["auc"] > 0.6


async def test_an_artifact_that_is_no_profile_leaves_figures_without_drift(world, say):
    made = world()
    made.address = made.artifacts.put(b'{"features": []}')
    found = await verdict(made, [*say.day(0), *say.day(1)])
    assert (found.labelled, "psi" in found.figures) == (200, False)


async def test_a_profile_that_went_missing_does_not_stop_an_open_window(world, say, tmp_path):
    made = await (await world().begun()).play(say.day(0))
    await made.watching.checkpoint()
    made.artifacts = Artifacts(tmp_path / "nothing")
    await made.started()
    found = of_first((await made.play([*say.day(0), *say.day(1)])).facts(WindowJudged))
    assert (found.predictions, found.labelled, "psi" in found.figures) == (200, 200, False)


async def test_a_version_that_is_not_known_yet_is_waited_for(world, say, caplog):
    made = await world().begun()
    playing = asyncio.create_task(made.play([say.prediction("a", NOON, version=2), *say.marker(DUE)]))
    await until(lambda: "version 2 of storm answers, but its promotion was not read yet" in caplog.text)
    await made.told(say.promoted(2, NOON - HOUR, replaces=1))
    await playing
    assert [fact.version for fact in made.facts(WindowJudged)] == [2]


# --- alerts


async def test_drift_opens_one_alert_and_asks_for_one_retraining(world, say):
    made = await (await world().begun()).play(drifting(say))
    (opened,) = [fact for fact in made.facts(AlertOpened) if fact.kind == "feature_drift"]
    (asked,) = made.facts(RetrainingAsked)
    assert (opened.version, opened.response, opened.outcome) == (1, "retrain", "asked")
    assert opened.contributors[0]["name"] == "wind"
    assert (asked.alert, asked.project, asked.kind) == (opened.alert, "weather", "feature_drift")


async def test_a_retraining_may_use_what_was_known_when_the_window_closed(world, say):
    made = await (await world().begun()).play(drifting(say))
    (asked,) = [event for event in made.own if isinstance(event.fact, RetrainingAsked)]
    assert asked.fact.cut == render(asked.envelope.recorded_us + 1) == render(MAY + 4 * DAY)


async def test_an_alert_and_what_it_asks_for_are_one_story(world, say):
    made = await (await world().begun()).play(drifting(say))
    alert = made.facts(RetrainingAsked)[0].alert
    story = [event for event in made.own if event.envelope.correlation == alert]
    assert [type(event.fact) for event in story] == [AlertOpened, RetrainingAsked]
    assert story[1].envelope.causation == story[0].envelope.id
    assert story[0].envelope.causation in {e.envelope.id for e in made.own if isinstance(e.fact, WindowJudged)}


async def test_alerts_stand_before_the_verdict_they_come_from(world, say):
    made = await (await world().begun()).play(drifting(say))
    at = next(at for at, event in enumerate(made.own) if isinstance(event.fact, AlertOpened))
    window_end = made.own[at].fact.window_end
    judged = [at for at, e in enumerate(made.own) if isinstance(e.fact, WindowJudged) and e.fact.end == window_end]
    assert judged > [at]


async def test_other_responses_are_recorded_only(world, say):
    made = await (await world(responses={"feature_drift": "investigate"}).begun()).play(drifting(say))
    assert {(fact.kind, fact.response, fact.outcome) for fact in made.facts(AlertOpened)} == {
        ("feature_drift", "investigate", "recorded"),
        ("prediction_drift", "record", "recorded"),
    }
    assert made.facts(RetrainingAsked) == []


async def test_within_the_cooldown_an_alert_waits_and_then_asks(world, say):
    responses = {"feature_drift": "retrain", "prediction_drift": "retrain"}
    made = await (await world(responses=responses).begun()).play(drifting(say, days=7))
    outcomes = {fact.kind: fact.outcome for fact in made.facts(AlertOpened)}
    assert outcomes == {"feature_drift": "asked", "prediction_drift": "cooling down"}
    asked = [event for event in made.own if isinstance(event.fact, RetrainingAsked)]
    assert [event.fact.kind for event in asked] == ["feature_drift", "prediction_drift"]
    assert asked[1].envelope.recorded_us - asked[0].envelope.recorded_us == 2 * DAY


async def test_a_version_that_is_not_in_production_opens_no_alert(world, say):
    made = await world().begun()
    await made.told(say.promoted(2, MAY, replaces=1))
    assert (await made.play(drifting(say))).facts(AlertOpened) == []


async def test_a_promotion_closes_the_alerts_of_the_version_it_replaces(world, say):
    made = await (await world().begun()).play(drifting(say))
    await made.told(say.promoted(2, MAY + 6 * DAY, replaces=1))
    opened, closed = made.facts(AlertOpened), made.facts(AlertClosed)
    assert {fact.alert for fact in closed} == {fact.alert for fact in opened}
    assert closed[0].reason == "version 2 took the place of version 1"


async def test_a_promotion_that_is_read_before_the_data_closes_the_same_alerts(world, say):
    after, before = await world().begun(), await world().begun()
    promotion = say.promoted(2, MAY + 6 * DAY, replaces=1)
    await after.play(drifting(say))
    await after.told(promotion)
    await before.told(promotion)
    await before.play(drifting(say))
    assert sorted(map(repr, before.own)) == sorted(map(repr, after.own))
    assert before.facts(AlertClosed)
