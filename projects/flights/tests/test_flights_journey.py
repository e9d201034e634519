"""The client plays like a source system, waits exactly when a verdict is due, and reads the decisions as they are."""

from collections import Counter
from io import StringIO

import pytest
from projects.flights.data import DAY_US, Events
from projects.flights.demo import decisions
from projects.flights.demo.journey import verdicts_due
from projects.flights.demo.player import Player
from projects.flights.demo.story import Telling
from rich.console import Console

from mainstem.events.data import ProgressReached
from mainstem.events.envelope import Event, begin, follow
from mainstem.events.fact import Fact
from mainstem.events.features import Difference, VectorsChecked
from mainstem.events.instants import parse
from mainstem.events.monitoring import AlertOpened, RetrainingAsked
from mainstem.events.registry import GateResult, VersionPromoted, VersionRegistered
from mainstem.events.serving import DeploymentActivated
from mainstem.events.training import RunFailed, TrainingRequested
from mainstem.project import ProjectDefinition
from mainstem.testkit.records import Log, Taken

MODEL = "arrival_delay"
DAYS = range(parse("2012-12-31T00:00:00Z"), parse("2014-01-04T00:00:00Z"), DAY_US)


def due(project: ProjectDefinition, day_us: int) -> list[int]:
    return verdicts_due(day_us, project.models[MODEL], project.monitoring)


def test_the_first_verdict_is_due_two_days_after_the_first_version(project: ProjectDefinition) -> None:
    first = next(day for day in DAYS if due(project, day))
    assert (first, due(project, first)) == (parse("2013-05-03T00:00:00Z"), [parse("2013-05-02T00:00:00Z")])


def test_every_window_of_the_year_falls_due_once(project: ProjectDefinition) -> None:
    ends = [end for day in DAYS for end in due(project, day)]
    assert ends == list(range(parse("2013-05-02T00:00:00Z"), parse("2014-01-03T00:00:00Z"), 7 * DAY_US))


def test_a_verdict_is_due_on_the_day_whose_announcement_passes_the_wait_for_labels(project: ProjectDefinition) -> None:
    wait = project.models[MODEL].label.wait
    for day in DAYS:
        for end in due(project, day):
            assert day - 1 < end + wait <= day + DAY_US - 1


@pytest.fixture(scope="module")
async def played(honest: dict[str, Events]) -> Log:
    log = Log()
    player = Player(log, honest, dict.fromkeys(honest, 2))
    await player.play(parse("2013-01-01T00:00:00Z"), parse("2013-01-02T00:00:00Z"))
    return log


def is_marker(record: Taken) -> bool:
    return dict(record.headers)["ce_type"] == ProgressReached.TYPE.encode()


def test_a_day_is_played_whole_in_the_order_of_arrival(honest: dict[str, Events], played: Log) -> None:
    known = [dict(r.headers)["ce_recordedtime"] for r in played.of("src.flight_arrived") if not is_marker(r)]
    assert known[:1] == [b"2013-01-01T12:04:00.000000Z"]
    assert max(known) < b"2013-01-02"
    by_partition = {r.partition: [] for r in played.of("src.flight_arrived")}
    for record in played.of("src.flight_arrived"):
        by_partition[record.partition].append(dict(record.headers).get("ce_recordedtime", b"9"))
    assert all(times == sorted(times) for times in by_partition.values())


def test_every_partition_ends_with_the_announcement_that_the_day_is_out(played: Log) -> None:
    last = {(record.topic, record.partition): record for record in played.records}
    assert len(last) == 8
    assert all(is_marker(record) for record in last.values())
    assert {record.value for record in last.values()} == {b'{"until":"2013-01-01T23:59:59.999999Z"}'}


def test_a_flight_stays_in_one_partition(played: Log) -> None:
    places = {(r.topic, r.key, r.partition) for r in played.records if not is_marker(r)}
    assert max(Counter((topic, key) for topic, key, _ in places).values()) == 1


def first(fact: Fact, name: str) -> Event:
    return begin(fact, command_id=name, source="/test", actor="builder", recorded_us=DAYS.start)


def request(run: str, cause: str = "request") -> TrainingRequested:
    return TrainingRequested(run=run, model=MODEL, project="flights", cut="", cause=cause, requested_by="builder")


def registered(run: str, version: int, *gates: GateResult) -> VersionRegistered:
    return VersionRegistered(
        **dict.fromkeys(("cause", "project", "definition", "feature_set", "dataset", "profile"), "x"),
        model=MODEL, version=version, run=run, onnx="sha256:ab", builders=["builder"], gates=list(gates),
        evidence={"rows": 100, "evaluation": {"auc": 0.9}}, stage="refused" if gates else "candidate",
    )  # fmt: skip


FAILED_GATE = GateResult(name="max_auc_loss", passed=False, figure=0.008, limit=0.005, detail="lost 0.0080")


def promoted(version: int) -> VersionPromoted:
    return VersionPromoted(model=MODEL, version=version, replaces=None, promoted_by="approver")


def test_a_run_that_led_to_production_is_told_with_its_figures() -> None:
    seen = [first(fact, str(n)) for n, fact in enumerate([request("r"), registered("r", 1), promoted(1)])]
    assert decisions.trainings(seen) == [decisions.Training("r", "request", 100, 0.9, 1, "ab", "promoted", [])]


def test_a_version_that_a_gate_held_back_is_told_with_the_gate() -> None:
    (told,) = decisions.trainings([first(request("r"), "1"), first(registered("r", 2, FAILED_GATE), "2")])
    assert (told.decision, told.reasons) == ("refused", ["max_auc_loss: lost 0.0080"])


def test_a_run_that_failed_is_told_with_the_reason() -> None:
    failed = RunFailed(run="r", model=MODEL, step="fit", reason="no rows")
    (told,) = decisions.trainings([first(request("r"), "1"), first(failed, "2")])
    assert (told.decision, told.reasons, told.version) == ("failed", ["no rows"], None)


def test_an_alert_is_told_with_what_came_of_the_run_it_asked_for() -> None:
    alert = AlertOpened(
        alert="a", model=MODEL, version=1, kind="performance_loss", evidence=8.0, threshold=5.6, contributors=[],
        window_end="", response="retrain", outcome="asked",
    )  # fmt: skip
    asked = first(RetrainingAsked(alert="a", model=MODEL, project="flights", kind="performance_loss", cut=""), "2")
    run = follow(asked.envelope, request("r", "performance_loss"), source="/test")
    seen = [first(alert, "1"), asked, run, first(registered("r", 2), "3"), first(promoted(2), "4")]
    (told,) = decisions.alerts(seen)
    assert (told.kind, told.outcome) == ("performance_loss", "retrained: version 2 promoted")


def test_versions_answer_in_the_order_of_their_effect() -> None:
    facts = [
        DeploymentActivated(model=MODEL, version=version, onnx="o", effective_from=day, from_offsets={})
        for version, day in ((2, "2013-07-01T00:00:00Z"), (1, "2013-05-01T00:00:00Z"))
    ]
    found = decisions.activations([first(fact, str(n)) for n, fact in enumerate(facts)])
    assert [one.version for one in found] == [1, 2]


def checked(number: int, feature_set: str = "flight_delay", differing: int = 0) -> VectorsChecked:
    first = Difference(spine_id="s", about="other bits", feature="wind") if differing else None
    return VectorsChecked(
        feature_set=feature_set, definition="sha256:f", number=number, until="", entry=number, fraction=0.01,
        rows=200, cells=3_000, differing=differing, first_difference=first,
    )  # fmt: skip


def test_checks_of_a_feature_set_are_added_up_and_the_first_difference_is_kept() -> None:
    facts = [checked(0), checked(0, "another"), checked(1, differing=2), checked(2, differing=1)]
    found = decisions.check([first(fact, str(n)) for n, fact in enumerate(facts)], "flight_delay")
    assert (found.events, found.fraction, found.rows, found.cells, found.differing) == (3, 0.01, 600, 9_000, 3)
    assert (found.first_difference or {})["feature"] == "wind"


def test_while_it_plays_the_check_is_told_and_a_difference_is_news() -> None:
    console = Console(file=StringIO(), width=200)
    with Telling(console) as telling:
        for number, fact in enumerate([checked(0), checked(1, differing=2)]):
            telling.event(first(fact, str(number)))
        for day in range(7):
            telling.day(DAYS.start + day * DAY_US, 10)
    news, line = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "wind of s differs: other bits" in news
    assert line.endswith("checked again: 400 rows, 6,000 cells, 2 differing")
