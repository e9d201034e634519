"""Alerts that no window leads to: closed when their version is replaced, opened when its feature set is found wrong."""

from dataclasses import replace

from mainstem.events.envelope import Envelope, Event, Fact
from mainstem.events.ids import child_id
from mainstem.events.instants import render
from mainstem.events.monitoring import AlertClosed, FeatureAlertOpened
from mainstem.events.registry import VersionPromoted
from mainstem.monitoring.domain.finding import finding, opened
from mainstem.monitoring.ports import Book, OpenAlert

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
        stays = isinstance(alert.fact, FeatureAlertOpened) and alert.fact.definition == definition
        if alert.fact.version != fact.version and not stays:
            reason = f"version {fact.version} took the place of version {alert.fact.version}"
            await book.record(closed(alert, reason, cause=cause.id, actor=SOURCE, recorded_us=cause.recorded_us))


async def warn(book: Book, event: Event) -> None:
    """Open the alerts that a finding about a feature set leads to, or a promotion onto a set with a finding.

    Each model whose version in production reads the set gets one, whichever of the two comes first. While it is open
    another finding of its kind is no news; any other event opens nothing.
    """
    found = finding(event.fact)
    if found is not None:
        for promotion in await book.readers(found.definition):
            await _open(book, event, promotion)
    elif isinstance(event.fact, VersionPromoted):
        definition = await book.definition(event.fact.model, event.fact.version)
        for before in await book.findings(definition) if definition else ():
            await _open(book, before, event)


async def _open(book: Book, cause: Event, promotion: Event) -> None:
    """Open an alert on the version that a promotion put into production, unless one of its kind is open."""
    found = finding(cause.fact)
    assert found is not None  # noqa: S101  (whoever calls has looked)
    assert isinstance(promotion.fact, VersionPromoted)  # noqa: S101
    model, at_us = promotion.fact.model, max(cause.envelope.recorded_us, promotion.envelope.recorded_us)
    await book.lock(model)
    alert = child_id(cause.envelope.id, f"{FeatureAlertOpened.TYPE}:{model}")[:16]
    until = render(cause.envelope.recorded_us)
    fact = opened(found, alert=alert, model=model, version=promotion.fact.version, until=until)
    standing = [one.fact for one in await book.open_alerts(model) if isinstance(one.fact, FeatureAlertOpened)]
    if (fact.kind, fact.definition) not in {(one.kind, one.definition) for one in standing}:
        event_id = child_id(alert, FeatureAlertOpened.TYPE)
        await book.record(
            happened(fact, event_id, (cause.envelope.recorded_us, at_us), causation=cause.envelope.id, story=alert)
        )


def closed(alert: OpenAlert, reason: str, *, cause: str, actor: str, recorded_us: int) -> Event:
    """Return the end of an alert; it is never recorded before its beginning."""
    fact = AlertClosed(alert=alert.fact.alert, model=alert.fact.model, reason=reason)
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
