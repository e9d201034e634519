"""Threads to pull: a trace leads from a source record to its prediction, a story from an alert to a version."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

import numpy as np
from projects.flights.demo.books import Books
from projects.flights.demo.decisions import Training
from projects.flights.demo.player import TRACED_ONE_IN

from mainstem.events.envelope import Event
from mainstem.events.monitoring import AlertOpened, RetrainingAsked
from mainstem.events.registry import VersionApproved, VersionPromoted, VersionRegistered
from mainstem.events.serving import DeploymentActivated
from mainstem.events.training import RunCompleted, TrainingRequested

#: The services that a departure passes on its way to its prediction, in this order.
WAY: Final = ("ingestion", "features", "serving")
#: Spans are written out within five seconds.
PATIENCE_S: Final = 15
_STEPS: Final = (
    AlertOpened,
    RetrainingAsked,
    TrainingRequested,
    RunCompleted,
    VersionRegistered,
    VersionApproved,
    VersionPromoted,
    DeploymentActivated,
)


@dataclass(frozen=True, slots=True)
class Span:
    """A step of a trace: its own id, that of the step before, and the event it made."""

    trace: str
    id: str
    parent: str
    event: str


def traced(books: Books) -> tuple[list[bytes], list[str]]:
    """Return the departures that the player had traced, by the ids it gave them, and the ids of their predictions."""
    departed = books.accepted["flight_departed"]
    chosen = [crc32(source) % TRACED_ONE_IN == 0 for source in departed["cause"].tolist()]
    rows = books.rows["id"][np.isin(books.rows["spine_id"], departed["id"][chosen])]
    predictions = books.stream["id"][np.isin(books.stream["row"], rows)]
    return departed["cause"][chosen].tolist(), [found.decode() for found in predictions.tolist()]


def read_spans(file: Path) -> list[Span]:
    """Return the spans a service wrote."""
    spans = [json.loads(line) for line in file.read_text().splitlines()]
    return [
        Span(s["context"]["trace_id"], s["context"]["span_id"], s["parent_id"], s["attributes"]["event.id"])
        for s in spans
    ]


def reached(folder: Path, sources: Iterable[bytes]) -> set[str]:
    """Follow the traces of source records through all services; return the ids of the predictions they end at."""
    marks = [crc32(source) for source in sources]
    ends = {(f"0x{mark:032x}", f"0x{mark | 1:016x}"): "" for mark in marks}
    for service in WAY:
        spans = read_spans(folder / f"{service}.ndjson")
        ends = {(span.trace, span.id): span.event for span in spans if (span.trace, span.parent) in ends}
    return set(ends.values())


async def untraced(folder: Path, sources: Sequence[bytes], predictions: Sequence[str]) -> list[str]:
    """Return the predictions that no trace leads to once all spans are written out."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        missing = sorted(set(predictions) - reached(folder, sources))
        if not missing or asyncio.get_running_loop().time() > deadline:
            return missing
        await asyncio.sleep(0.5)


def broken_stories(seen: Sequence[Event], runs: Sequence[Training]) -> list[int]:
    """Return the versions that an alert asked for of which not every step, to the answers, bears the alert's story."""
    asked = {run.version for run in runs if run.cause != "request"}
    broken = []
    for event in seen:
        if isinstance(event.fact, DeploymentActivated) and event.fact.version in asked:
            story = {type(other.fact) for other in seen if other.envelope.correlation == event.envelope.correlation}
            if not story.issuperset(_STEPS):
                broken.append(event.fact.version)
    return broken
