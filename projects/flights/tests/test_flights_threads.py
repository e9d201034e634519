"""The threads of the demo hold, and one that is torn is seen."""

from pathlib import Path
from zlib import crc32

from projects.flights.demo.decisions import Training
from projects.flights.demo.threads import broken_stories, reached

from mainstem.events.envelope import Event, begin
from mainstem.events.monitoring import AlertOpened, RetrainingAsked
from mainstem.events.registry import VersionApproved, VersionPromoted, VersionRegistered
from mainstem.events.serving import DeploymentActivated
from mainstem.events.training import RunCompleted, TrainingRequested
from mainstem.telemetry import Tracer
from mainstem.testkit.examples import example

SOURCE = b"departed-1"
FACTS = (
    AlertOpened,
    RetrainingAsked,
    TrainingRequested,
    RunCompleted,
    VersionRegistered,
    VersionApproved,
    VersionPromoted,
    DeploymentActivated,
)


def passed_on(folder: Path, services: tuple[str, ...]) -> None:
    """Trace a record through services, as each of them does."""
    mark = crc32(SOURCE)
    parent: bytes | None = f"00-{mark:032x}-{mark | 1:016x}-01".encode()
    for service in ("ingestion", "features", "serving"):
        tracer = Tracer(service, folder)
        if service in services:
            parent = tracer.step(parent, "process", {"event.id": f"{service}-1"})
        tracer.close()


def story(*, torn: type | None = None) -> list[Event]:
    return [
        begin(
            example(fact, **({"version": 2} if fact is DeploymentActivated else {})),
            command_id="other" if fact is torn else "alert",
            source="/t",
            actor="a",
            recorded_us=0,
        )
        for fact in FACTS
    ]


def run(cause: str) -> Training:
    return Training("r", cause, 1, 0.9, 2, "0", "promoted", [])


def test_a_trace_leads_to_the_prediction(tmp_path: Path) -> None:
    passed_on(tmp_path, ("ingestion", "features", "serving"))
    assert reached(tmp_path, [SOURCE]) == {"serving-1"}


def test_a_trace_that_skips_a_service_leads_nowhere(tmp_path: Path) -> None:
    passed_on(tmp_path, ("ingestion", "serving"))
    assert reached(tmp_path, [SOURCE]) == set()


def test_a_story_leads_from_the_alert_to_the_version() -> None:
    assert broken_stories(story(), [run("prediction_drift")]) == []


def test_a_story_with_a_step_of_another_is_torn() -> None:
    assert broken_stories(story(torn=VersionPromoted), [run("prediction_drift")]) == [2]


def test_a_version_that_somebody_asked_for_needs_no_alert() -> None:
    assert broken_stories(story(torn=AlertOpened), [run("request")]) == []
