"""Monitoring's store on PostgreSQL: every table is a fold of events."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from mainstem.events.catalogue import BY_TYPE
from mainstem.events.envelope import Envelope, Event
from mainstem.events.instants import render
from mainstem.events.monitoring import (
    AlertClosed,
    AlertOpened,
    FeatureAlertOpened,
    FeatureSetAlertClosed,
    FeatureSetAlertOpened,
    RetrainingAsked,
    WindowJudged,
)
from mainstem.events.registry import ProjectApplied, VersionPromoted, VersionRegistered
from mainstem.events.serving import DeploymentActivated
from mainstem.monitoring.domain.finding import finding
from mainstem.monitoring.ports import Alert, Book, OpenAlert, Progress, subject
from mainstem.project.definition import ProjectDefinition, parse
from mainstem.storage import Database, Transaction, load, load_snapshot

SQL = load("mainstem.monitoring")

#: A row of a table, or of several, by column.
Row = dict[str, Any]

#: Tables that are folds of the log; `audit replay` rebuilds and compares them.
PROJECTIONS = ("project", "version", "promotion", "activation", "judged_window", "alert", "retraining", "finding")
#: The topics whose facts they fold.
TOPICS = (
    "evt.registry.project",
    "evt.registry.model",
    "evt.serving.deployment",
    "evt.monitoring.window",
    "evt.monitoring.alert",
    "evt.feature.check",
)


class PostgresStore:
    """Keeps `Store`'s promises in one schema, and shows what is kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Book]:
        """Open the book in one transaction."""
        async with self._database.transaction() as tx:
            yield PostgresBook(tx)

    async def state(self, model: str) -> bytes | None:
        """Return the state stored last for a model."""
        return await load_snapshot(self._database, model)

    async def definitions(self) -> list[ProjectDefinition]:
        """Return the definitions in force."""
        return [parse(row["definition"]) for row in await self._rows("definitions")]

    async def monitors(self) -> list[Row]:
        """Return each model declared: the version in production, since when it answers, and the last figures."""
        production = {row["model"]: row for row in await self._rows("production")}
        counts = {row["model"]: row["windows"] for row in await self._rows("window_counts")}
        last = {(row["model"], row["version"]): row for row in await self._rows("last_windows")}
        found = []
        for definition in await self.definitions():
            for model in definition.models:
                version = production[model]["version"] if model in production else None
                row = {
                    "model": model,
                    "project": definition.charter.name,
                    "version": version,
                    "answers_from": production[model]["effective_from"] if model in production else None,
                    "windows": counts.get(model, 0),
                    "last": last.get((model, version)),
                }
                found.append(row)
        return found

    async def windows(self, model: str, limit: int) -> list[Row]:
        """Return the verdicts on a model's windows, the newest first."""
        return await self._rows("windows", model, limit)

    async def alerts(self, model: str | None, is_open: bool | None) -> list[Row]:
        """Return alerts, the newest first; of one model, and only open or only closed ones, when asked so."""
        return [_alert(row) for row in await self._rows("alerts", model, is_open)]

    async def alert(self, prefix: str) -> Row | None:
        """Return the one alert whose id begins like this with what it asked for; None when none or several do."""
        rows = await self._rows("find_alert", prefix)
        if len(rows) != 1:
            return None
        alert = _alert(rows[0])
        return {**alert, "retrainings": await self._rows("retrainings", alert["alert"])}

    async def _rows(self, query: str, *arguments: object) -> list[Row]:
        async with self._database.transaction() as tx:
            return [dict(row) for row in await tx.fetch(SQL[query], *arguments)]


class PostgresBook:
    """Keeps `Book`'s promises in one transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def lock(self, subject: str) -> None:
        """Take the advisory lock of the model or set."""
        await self._tx.execute(SQL["lock"], subject)

    async def record(self, event: Event) -> None:
        """Append and fold what a reader of the log will decode."""
        published = Event(event.envelope, type(event.fact).model_validate_json(event.fact.model_dump_json()))
        await self._tx.append([published])
        await apply(self._tx, published)

    async def has_judged(self, verdict: str) -> bool:
        """Read `judged_window`."""
        return bool(await self._tx.fetch(SQL["judged"], verdict))

    async def profile(self, model: str, version: int) -> str | None:
        """Read `version` where `promotion` knows it."""
        rows = await self._tx.fetch(SQL["profile"], model, version)
        return str(rows[0]["profile"]) if rows else None

    async def definition(self, model: str, version: int) -> str | None:
        """Read `version`."""
        rows = await self._tx.fetch(SQL["definition"], model, version)
        return str(rows[0]["feature_set"]) if rows else None

    async def readers(self, definition: str) -> list[Event]:
        """Read the last rows of `promotion`."""
        return [_event(dict(row)) for row in await self._tx.fetch(SQL["readers"], definition)]

    async def findings(self, definition: str) -> list[Event]:
        """Read `finding`."""
        return [_event(dict(row)) for row in await self._tx.fetch(SQL["findings"], definition)]

    async def definitions(self) -> list[ProjectDefinition]:
        """Read `project`."""
        return [parse(row["definition"]) for row in await self._tx.fetch(SQL["definitions"])]

    async def promotions(self, model: str) -> list[Event]:
        """Read `promotion`."""
        return [_event(dict(row)) for row in await self._tx.fetch(SQL["promotions"], model)]

    async def open_alerts(self, of: str, at_us: int | None = None) -> list[OpenAlert]:
        """Read `alert`."""
        return [
            OpenAlert(_opened(row["fact"]), row["outcome"], row["recorded_us"])
            for row in await self._tx.fetch(SQL["open_alerts"], of, at_us)
        ]

    async def last_request_us(self, model: str) -> int | None:
        """Read `retraining`."""
        (row,) = await self._tx.fetch(SQL["last_request"], model)
        found: int | None = row["recorded_us"]
        return found

    async def save(self, progress: Progress) -> None:
        """Store the snapshot, and park what could not be taken."""
        await self._tx.save_snapshot(progress.model, progress.state)
        for parked in progress.parked:
            await self._tx.park(parked.record, parked.reason)


async def apply(tx: Transaction, event: Event) -> None:
    """Fold one event of TOPICS; those of one topic must come in the order of the log."""
    match event.fact:
        case ProjectApplied() as fact:
            parse(fact.definition)  # whoever wrote it: a definition or nothing
            await tx.execute(SQL["set_project"], fact.project, fact.definition_id, fact.definition)
        case VersionRegistered() as fact:
            version = (fact.model, fact.version, fact.project, fact.profile, fact.feature_set)
            await tx.execute(SQL["add_version"], *version)
        case VersionPromoted() as fact:
            document = fact.model_dump(mode="json")
            await tx.execute(SQL["add_promotion"], event.envelope.id, fact.model, document, _envelope(event))
        case DeploymentActivated() as fact:
            activated = (event.envelope.id, fact.model, fact.version, fact.effective_from)
            await tx.execute(SQL["add_activation"], *activated)
        case WindowJudged() as fact:
            await fold_judged(tx, event, fact)
        case AlertOpened() | FeatureAlertOpened() | FeatureSetAlertOpened() as fact:
            document = fact.model_dump(mode="json")
            opened = (fact.alert, subject(fact), document, fact.outcome, event.envelope.recorded_us)
            await tx.execute(SQL["add_alert"], *opened)
        case RetrainingAsked() as fact:
            asked = (event.envelope.id, fact.alert, fact.model, fact.cut, event.envelope.recorded_us)
            await tx.execute(SQL["add_retraining"], *asked)
        case AlertClosed() | FeatureSetAlertClosed() as fact:
            end = (event.envelope.recorded_us, event.envelope.actor, fact.reason)
            await tx.execute(SQL["close_alert"], fact.alert, *end)
        case _:
            await fold_finding(tx, event)


async def fold_finding(tx: Transaction, event: Event) -> None:
    """Add a finding about a feature set; any other event adds nothing."""
    found = finding(event.fact)
    if found is not None:
        document, recorded_us = found.model_dump(mode="json"), event.envelope.recorded_us
        named = (event.envelope.id, found.TYPE, found.definition)
        await tx.execute(SQL["add_finding"], *named, document, _envelope(event), recorded_us)


async def fold_judged(tx: Transaction, event: Event, fact: WindowJudged) -> None:
    """Add the verdict on a window."""
    await tx.execute(
        SQL["add_window"],
        event.envelope.id,
        fact.model,
        fact.version,
        fact.start,
        fact.end,
        fact.predictions,
        fact.labelled,
        fact.figures,
        render(event.envelope.recorded_us),
    )


def _alert(row: Row) -> Row:
    opened_us, closed_us = row["recorded_us"], row["closed_us"]
    return {
        "model": None,
        "version": None,
        **row["fact"],
        "outcome": row["outcome"],
        "open": closed_us is None,
        "recorded_time": render(opened_us),
        "closed_time": None if closed_us is None else render(closed_us),
        "closed_by": row["closed_by"],
        "closed_reason": row["closed_reason"],
    }


def _envelope(event: Event) -> Row:
    """Return an envelope without its origin: a first fold and a replay need not agree on where in the log it stands."""
    return {**asdict(event.envelope), "origin": None}


def _event(row: Row) -> Event:
    envelope = Envelope(**row["envelope"])
    return Event(envelope, BY_TYPE[envelope.type].model_validate(row["fact"]))


def _opened(document: Row) -> Alert:
    """Return an alert as it was published; only one about a feature set names a definition."""
    if "definition" not in document:
        return AlertOpened.model_validate(document)
    return (FeatureAlertOpened if "model" in document else FeatureSetAlertOpened).model_validate(document)
