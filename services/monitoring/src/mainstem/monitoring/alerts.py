"""Alerts that no window leads to: on a feature set that is found wrong and on what reads it; and the end of alerts."""

from collections.abc import Sequence
from dataclasses import replace

from mainstem.events.envelope import Envelope, Event
from mainstem.events.fact import Fact
from mainstem.events.ids import child_id
from mainstem.events.instants import render
from mainstem.events.monitoring import AlertClosed, FeatureAlertOpened, FeatureSetAlertClosed, FeatureSetAlertOpened
from mainstem.events.registry import ProjectApplied, VersionPromoted
from mainstem.monitoring.domain.finding import finding, on_set, on_version
from mainstem.monitoring.ports import Book, OpenAlert
from mainstem.project.definition import ProjectDefinition, parse

SOURCE = "/mainstem/monitoring"


async def close_replaced(book: Book, promotion: Event) -> None:
    """Close the alerts that a promotion ends; any other event closes nothing.

    An alert on a version ends with the version, one on its feature set when a version that reads another takes over.
    """
    if not isinstance(promotion.fact, VersionPromoted):
        return
    fact, cause = promotion.fact, promotion.envelope
    await book.lock(fact.model)
    definition = await book.definition(fact.model, fact.version)
    for alert in await book.open_alerts(fact.model):
        on = alert.fact
        if isinstance(on, FeatureSetAlertOpened):
            continue
        stays = isinstance(on, FeatureAlertOpened) and on.definition == definition
        if on.version != fact.version and not stays:
            reason = f"version {fact.version} took the place of version {on.version}"
            await book.record(closed(alert, reason, cause=cause.id, actor=SOURCE, recorded_us=cause.recorded_us))


async def redeclare(book: Book, event: Event) -> None:
    """Close the alerts on sets that no project declares any more, and open them on sets declared anew with findings.

    To be called before the event is folded; any but ProjectApplied does nothing.
    """
    if not isinstance(event.fact, ProjectApplied):
        return
    before, cause = await book.definitions(), event.envelope
    others = [definition for definition in before if definition.charter.name != event.fact.project]
    was, now = _declared(before), _declared([*others, parse(event.fact.definition)])
    for gone in sorted(was - now):
        await book.lock(gone)
        for alert in await book.open_alerts(gone):
            reason = f"project {event.fact.project} was applied without it, and no other declares the set"
            await book.record(closed(alert, reason, cause=cause.id, actor=SOURCE, recorded_us=cause.recorded_us))
    for new in sorted(now - was):
        for found in await book.findings(new):
            await _open_on_set(book, found, event)


async def warn(book: Book, event: Event) -> None:
    """Open the alerts that a finding about a feature set leads to, or a promotion onto a set with a finding.

    The set gets one if a project declares it, and each model whose version in production reads it, whichever of the
    two comes first. While it is open another finding of its kind is no news, but for a set that stands still at another
    place. Any other event opens nothing.
    """
    found = finding(event.fact)
    if found is not None:
        if found.definition in _declared(await book.definitions()):
            await _open_on_set(book, event, event)
        for promotion in await book.readers(found.definition):
            await _open_on_version(book, event, promotion)
    elif isinstance(event.fact, VersionPromoted):
        definition = await book.definition(event.fact.model, event.fact.version)
        for before in await book.findings(definition) if definition else ():
            await _open_on_version(book, before, event)


def _declared(definitions: Sequence[ProjectDefinition]) -> set[str]:
    """Return the identities of the feature sets in some definitions."""
    return {feature_set.id for definition in definitions for feature_set in definition.feature_sets.values()}


async def _open_on_set(book: Book, cause: Event, known: Event) -> None:
    """Open an alert on the set of a finding unless one of its kind is open: the finding's own, or one for a project.

    `known` is what made the finding matter: itself, or that a project declared the set anew.
    """
    found, at_us = finding(cause.fact), max(cause.envelope.recorded_us, known.envelope.recorded_us)
    assert found is not None  # noqa: S101  (whoever calls has looked)
    await book.lock(found.definition)
    alert = child_id(cause.envelope.id, f"{FeatureSetAlertOpened.TYPE}:{known.envelope.id}")[:16]
    fact = on_set(found, alert=alert, until=render(cause.envelope.recorded_us))
    standing = [one.fact for one in await book.open_alerts(found.definition)]
    if (fact.kind, fact.gap) not in {(one.kind, one.gap) for one in standing if isinstance(one, FeatureSetAlertOpened)}:
        await _record(book, fact, alert, cause, at_us)


async def _open_on_version(book: Book, cause: Event, promotion: Event) -> None:
    """Open an alert on the version that a promotion put into production, unless one of its kind is open."""
    found = finding(cause.fact)
    assert found is not None  # noqa: S101  (whoever calls has looked)
    assert isinstance(promotion.fact, VersionPromoted)  # noqa: S101
    model, at_us = promotion.fact.model, max(cause.envelope.recorded_us, promotion.envelope.recorded_us)
    await book.lock(model)
    alert = child_id(cause.envelope.id, f"{FeatureAlertOpened.TYPE}:{model}")[:16]
    until = render(cause.envelope.recorded_us)
    fact = on_version(found, alert=alert, until=until, model=model, version=promotion.fact.version)
    standing = [one.fact for one in await book.open_alerts(model) if isinstance(one.fact, FeatureAlertOpened)]
    if (fact.kind, fact.definition) not in {(one.kind, one.definition) for one in standing}:
        await _record(book, fact, alert, cause, at_us)


async def _record(book: Book, fact: Fact, alert: str, cause: Event, at_us: int) -> None:
    """Record that an alert was opened at `at_us` for a finding."""
    event_id, times_us = child_id(alert, fact.TYPE), (cause.envelope.recorded_us, at_us)
    await book.record(happened(fact, event_id, times_us, causation=cause.envelope.id, story=alert))


def closed(alert: OpenAlert, reason: str, *, cause: str, actor: str, recorded_us: int) -> Event:
    """Return the end of an alert; it is never recorded before its beginning."""
    on = alert.fact
    fact = (
        FeatureSetAlertClosed(alert=on.alert, feature_set=on.feature_set, reason=reason)
        if isinstance(on, FeatureSetAlertOpened)
        else AlertClosed(alert=on.alert, model=on.model, reason=reason)
    )
    at_us = max(recorded_us, alert.recorded_us)
    event = happened(fact, child_id(fact.alert, fact.TYPE), (at_us, at_us), causation=cause, story=fact.alert)
    return Event(replace(event.envelope, actor=actor), fact)


def happened(fact: Fact, event_id: str, times_us: tuple[int, int], *, causation: str, story: str) -> Event:
    """Return an event of monitoring that happened and was recorded at `times_us`."""
    return Event(
        Envelope(
            id=event_id,
            type=fact.TYPE,
            source=SOURCE,
            subject=fact.key,
            time_us=times_us[0],
            recorded_us=times_us[1],
            correlation=story,
            causation=causation,
            actor=SOURCE,
        ),
        fact,
    )
