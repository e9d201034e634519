"""From records to verdicts: a closed window, the alerts it leads to and the state it leaves are one transaction."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import orjson

from mainstem.events.envelope import Event
from mainstem.events.errors import Unavailable
from mainstem.events.fact import Fact
from mainstem.events.ids import child_id
from mainstem.events.instants import render
from mainstem.events.monitoring import AlertOpened, RetrainingAsked, WindowJudged
from mainstem.events.record import Record
from mainstem.events.registry import VersionPromoted
from mainstem.fold.ordered import Partition
from mainstem.monitoring.alerts import close_replaced, happened
from mainstem.monitoring.domain.profile import Profile
from mainstem.monitoring.domain.response import Answer, Standing, answer
from mainstem.monitoring.engine import Closing, Fold, Judged, Stretch
from mainstem.monitoring.ports import Artifacts, Book, Progress, Store
from mainstem.project.monitoring import Monitoring
from mainstem.runtime import steadily
from mainstem.storage import ArtifactCorrupt, ArtifactMissing
from mainstem.telemetry import metrics


class Watching:
    """Watches one model: folds, judges, and stores verdicts together with the state they left."""

    def __init__(self, fold: Fold, project: str, store: Store, artifacts: Artifacts) -> None:
        self._fold = fold
        self._project = project
        self._store = store
        self._artifacts = artifacts
        self._moved = False
        self._one_at_a_time = asyncio.Lock()

    async def on_records(self, records: Sequence[Record], *, lag: Mapping[Partition, int]) -> None:
        """Take a batch and store the verdicts on the windows it completes, alerts included.

        With no records, those that waited for a live source. Waits while a version that answered is not known yet.
        """
        async with self._one_at_a_time:
            fresh, late = self._fold.reader.offer(records), self._fold.late
            metrics.FENCED.inc(len(records) - fresh)
            self._fold.reader.drained(lag)
            stretch = self._fold.read()
            await steadily(lambda: self._learn(stretch))
            closings = self._fold.advance(stretch)
            metrics.LATE.labels(self._fold.model.name).inc(self._fold.late - late)
            self._moved = self._moved or bool(stretch.rows)
            if closings:
                await self._save(closings)

    async def checkpoint(self) -> None:
        """Store the fold as it stands; nothing to do when it has not moved."""
        async with self._one_at_a_time:
            if self._moved:
                await self._save(())

    async def _learn(self, stretch: Stretch) -> None:
        """Get the profiles that a stretch needs; raise Unavailable while the registry's word on a version is out."""
        model = self._fold.model.name
        for version in sorted(stretch.versions):
            async with self._store.transaction() as book:
                address = await book.profile(model, version)
            if address is None:
                raise Unavailable(f"version {version} of {model} answers, but its promotion was not read yet")
            self._fold.learn(version, _profile(self._artifacts, address))

    async def _save(self, closings: Sequence[Closing]) -> None:
        progress = Progress(self._fold.model.name, self._fold.snapshot(), tuple(self._fold.parked))

        async def save() -> None:
            async with self._store.transaction() as book:
                await book.lock(progress.model)
                bench = Bench(book, self._project, progress.model, self._fold.monitoring)
                for closing in closings:
                    await bench.settle(closing)
                await book.save(progress)

        await steadily(save)
        for parked in progress.parked:
            metrics.PARKED.labels(parked.record.topic).inc()
        self._fold.parked.clear()
        self._moved = False


@dataclass(frozen=True, slots=True)
class Bench:
    """Records what closed windows of one model lead to, in one transaction."""

    book: Book
    project: str
    model: str
    monitoring: Monitoring

    async def settle(self, closing: Closing) -> None:
        """Record alerts first and the verdict last: whoever sees the verdict may count on the alerts.

        Promotions that became known later than the window closed have no part in it, but they close its alerts.
        A window that was judged stays judged: a fold without its state reads again what led to it.
        """
        first = closing.judged[0].version if closing.judged else None
        if await self.book.has_judged(self._verdict_id(closing, first)):
            return
        promotions = await self.book.promotions(self.model)
        before = [promotion for promotion in promotions if promotion.envelope.recorded_us <= closing.instant_us]
        later = [promotion for promotion in promotions if promotion not in before]
        for judged in closing.judged:
            if before and judged.version == _version(before[-1]):
                await self._respond(closing, judged)
                for promotion in [event for event in later if _version(event) != judged.version][:1]:
                    await close_replaced(self.book, promotion)
        for of_version in closing.judged or (None,):
            fact = _verdict(self.model, closing, of_version)
            cause = self._cause(closing, fact.version)
            await self._record(closing, fact, self._verdict_id(closing, fact.version), causation=cause, story=cause)

    async def _respond(self, closing: Closing, judged: Judged) -> None:
        """Open alerts on the version in production, and ask for what the project asks for."""
        standing = {
            one.fact.kind: Standing(one.fact.alert, one.outcome == "cooling down")
            for one in await self.book.open_alerts(self.model, closing.instant_us)
            if isinstance(one.fact, AlertOpened) and one.fact.version == judged.version
        }
        last_us = await self.book.last_request_us(self.model)
        found = judged.verdict.alerts if judged.verdict else ()
        verdict_id = self._verdict_id(closing, judged.version)
        for given in answer(found, standing, self.monitoring, last_us, closing.instant_us):
            alert = given.standing.alert if given.standing else child_id(verdict_id, given.alert.kind)[:16]
            opened_id = child_id(alert, AlertOpened.TYPE)
            if given.standing is None:
                opened = _opened(self.model, closing, judged.version, alert, given)
                await self._record(closing, opened, opened_id, causation=verdict_id, story=alert)
            if given.outcome == "asked":
                cut = render(closing.instant_us + 1)
                asked = RetrainingAsked(
                    alert=alert, model=self.model, project=self.project, kind=given.alert.kind, cut=cut
                )
                asked_id = child_id(alert, f"{RetrainingAsked.TYPE}:{render(closing.end_us)}")
                await self._record(closing, asked, asked_id, causation=opened_id, story=alert)

    async def _record(self, closing: Closing, fact: Fact, event_id: str, *, causation: str, story: str) -> None:
        event = happened(fact, event_id, (closing.end_us, closing.instant_us), causation=causation, story=story)
        await self.book.record(event)

    def _verdict_id(self, closing: Closing, version: int | None) -> str:
        return child_id(self._cause(closing, version), WindowJudged.TYPE)

    def _cause(self, closing: Closing, version: int | None) -> str:
        """Return what verdicts are derived from: the end of a window of a version."""
        return f"{self.model}/{version}/{render(closing.end_us)}"


def _opened(model: str, closing: Closing, version: int, alert: str, given: Answer) -> AlertOpened:
    return AlertOpened(
        alert=alert,
        model=model,
        version=version,
        kind=given.alert.kind,
        evidence=given.alert.evidence,
        threshold=given.alert.threshold,
        contributors=[asdict(one) for one in given.alert.contributors],
        window_end=render(closing.end_us),
        response=given.response,
        outcome=given.outcome,
    )


def _verdict(model: str, closing: Closing, judged: Judged | None) -> WindowJudged:
    """Return the verdict on a version, or on a window in which none answered."""
    return WindowJudged(
        model=model,
        version=judged.version if judged else None,
        start=render(closing.start_us),
        end=render(closing.end_us),
        predictions=judged.figures.predictions if judged else 0,
        labelled=judged.figures.labelled if judged else 0,
        figures=_figures(judged) if judged else {},
    )


def _figures(judged: Judged) -> dict[str, object]:
    found = judged.figures
    figures: dict[str, object] = {
        "positive_rate": found.positive_rate,
        "auc": found.auc,
        "brier": found.brier,
        "log_loss": found.log_loss,
        "unlabelled": 1 - found.labelled / found.predictions if found.predictions else 0.0,
        "direct": dict(sorted(judged.direct.items())),
    }
    if judged.verdict is None:
        return {**figures, "drift_unknown": judged.fault}
    return {
        **figures,
        "psi": found.psi,
        "score_psi": found.score_psi,
        "calibration": [asdict(band) for band in found.calibration],
        "evidence": judged.verdict.evidence,
        "alerts": [alert.kind for alert in judged.verdict.alerts],
    }


def _profile(artifacts: Artifacts, address: str) -> Profile | str:
    """Return a profile, or why it cannot be read."""
    try:
        return Profile.parse(orjson.loads(artifacts.get(address)))
    except (ArtifactMissing, ArtifactCorrupt, KeyError, TypeError, ValueError) as fault:
        return f"the reference profile {address} cannot be read ({fault!r}); train the version anew"


def _version(promotion: Event) -> int | None:
    return promotion.fact.version if isinstance(promotion.fact, VersionPromoted) else None
