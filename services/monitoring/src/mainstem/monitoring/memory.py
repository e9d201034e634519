"""The store's twin for unit tests: what is known is read from the list of events."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mainstem.events.envelope import Event
from mainstem.events.monitoring import AlertClosed, FeatureSetAlertClosed, RetrainingAsked
from mainstem.events.registry import ProjectApplied, VersionPromoted, VersionRegistered
from mainstem.monitoring.domain.finding import finding
from mainstem.monitoring.ports import Alert, Book, OpenAlert, Parked, Progress, subject
from mainstem.project.definition import ProjectDefinition, parse


class MemoryStore:
    """Keeps `Store`'s promises in memory. A block that raises leaves everything as it was."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.states: dict[str, bytes] = {}
        self.parked: list[Parked] = []

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Book]:
        """Open the book."""
        before = list(self.events), dict(self.states), list(self.parked)
        try:
            yield MemoryBook(self)
        except BaseException:  # all or nothing, as a transaction: raised again
            self.events, self.states, self.parked = before
            raise

    async def state(self, model: str) -> bytes | None:
        """Return the state stored last for a model."""
        return self.states.get(model)

    async def definitions(self) -> list[ProjectDefinition]:
        """Return the definitions in force."""
        return await MemoryBook(self).definitions()


class MemoryBook:
    """Keeps `Book`'s promises on the lists of a store."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def lock(self, subject: str) -> None:
        """Do nothing: there is one at a time."""

    async def record(self, event: Event) -> None:
        """Append an event that is not there yet."""
        if all(known.envelope.id != event.envelope.id for known in self._store.events):
            fact = type(event.fact).model_validate_json(event.fact.model_dump_json())
            self._store.events.append(Event(event.envelope, fact))

    async def has_judged(self, verdict: str) -> bool:
        """Look for the event."""
        return any(event.envelope.id == verdict for event in self._store.events)

    async def profile(self, model: str, version: int) -> str | None:
        """Return the profile of a version that was promoted."""
        facts = [event.fact for event in self._store.events]
        promoted = {(fact.model, fact.version) for fact in facts if isinstance(fact, VersionPromoted)}
        registered = {(fact.model, fact.version): fact.profile for fact in facts if isinstance(fact, VersionRegistered)}
        return registered.get((model, version)) if (model, version) in promoted else None

    async def definition(self, model: str, version: int) -> str | None:
        """Return the feature set of a version."""
        facts = [event.fact for event in self._store.events if isinstance(event.fact, VersionRegistered)]
        return next((f.feature_set for f in facts if (f.model, f.version) == (model, version)), None)

    async def readers(self, definition: str) -> list[Event]:
        """Return the last promotion of each model, where it is onto the feature set."""
        last = {e.fact.model: (e, e.fact) for e in self._store.events if isinstance(e.fact, VersionPromoted)}
        return [e for m, (e, f) in sorted(last.items()) if await self.definition(m, f.version) == definition]

    async def findings(self, definition: str) -> list[Event]:
        """Return the finding of each type that was recorded last; of two at once, the one with the lower id."""
        events = sorted(self._store.events, key=lambda event: event.envelope.id, reverse=True)
        found = [(finding(event.fact), event) for event in sorted(events, key=lambda event: event.envelope.recorded_us)]
        last = {event.fact.TYPE: event for fact, event in found if fact is not None and fact.definition == definition}
        return [event for _, event in sorted(last.items())]

    async def definitions(self) -> list[ProjectDefinition]:
        """Return the definition that was applied last of each project."""
        applied = {e.fact.project: e.fact for e in self._store.events if isinstance(e.fact, ProjectApplied)}
        return [parse(fact.definition) for _, fact in sorted(applied.items())]

    async def promotions(self, model: str) -> list[Event]:
        """Return the promotions of a model."""
        return [e for e in self._store.events if isinstance(e.fact, VersionPromoted) and e.fact.model == model]

    async def open_alerts(self, of: str, at_us: int | None = None) -> list[OpenAlert]:
        """Return the alerts that no event closed by then."""
        facts = [event.fact for event in self._store.events]
        known = [e for e in self._store.events if at_us is None or e.envelope.recorded_us <= at_us]
        closed = {e.fact.alert for e in known if isinstance(e.fact, AlertClosed | FeatureSetAlertClosed)}
        asked = {fact.alert for fact in facts if isinstance(fact, RetrainingAsked)}
        found = [
            OpenAlert(e.fact, "asked" if e.fact.alert in asked else e.fact.outcome, e.envelope.recorded_us)
            for e in self._store.events
            if isinstance(e.fact, Alert) and subject(e.fact) == of and e.fact.alert not in closed
        ]
        return sorted(found, key=lambda alert: (alert.recorded_us, alert.fact.alert))

    async def last_request_us(self, model: str) -> int | None:
        """Return when the last retraining was asked for."""
        asked = [e for e in self._store.events if isinstance(e.fact, RetrainingAsked) and e.fact.model == model]
        return max((e.envelope.recorded_us for e in asked), default=None)

    async def save(self, progress: Progress) -> None:
        """Keep the state."""
        self._store.states[progress.model] = progress.state
        self._store.parked += progress.parked
