"""The envelope: who, when, why and in which order, around one fact."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec

from mainstem.events.ids import child_id
from mainstem.events.instants import parse, render

if TYPE_CHECKING:  # whoever passes messages on needs no models
    from mainstem.events.fact import Fact

#: Header pairs in the order in which they are written.
Headers = tuple[tuple[str, bytes], ...]

SPEC_VERSION: Final = b"1.0"
CONTENT_TYPE: Final = b"application/json"


@dataclass(frozen=True, slots=True)
class Envelope:
    """The attributes of an event (CloudEvents 1.0 and our extensions); times in µs since 1970, UTC."""

    id: str
    type: str
    source: str
    subject: str
    time_us: int
    recorded_us: int
    correlation: str
    causation: str
    actor: str
    tenant: str = "default"
    origin: str | None = None
    traceparent: str | None = None

    def headers(self) -> Headers:
        """Return the Kafka headers of the CloudEvents binary mode."""
        pairs = [
            ("ce_specversion", SPEC_VERSION),
            ("content-type", CONTENT_TYPE),
            ("ce_id", self.id.encode()),
            ("ce_type", self.type.encode()),
            ("ce_source", self.source.encode()),
            ("ce_subject", self.subject.encode()),
            ("ce_time", render(self.time_us).encode()),
            ("ce_recordedtime", render(self.recorded_us).encode()),
            ("ce_dataschema", dataschema(self.type).encode()),
            ("ce_tenant", self.tenant.encode()),
            ("ce_correlationid", self.correlation.encode()),
            ("ce_causationid", self.causation.encode()),
            ("ce_actor", self.actor.encode()),
        ]
        if self.origin is not None:
            pairs.append(("ce_origin", self.origin.encode()))
        if self.traceparent is not None:
            pairs.append(("traceparent", self.traceparent.encode()))
        return tuple(pairs)


@dataclass(frozen=True, slots=True)
class Event:
    """One fact in its envelope."""

    envelope: Envelope
    fact: "Fact"

    def at_origin(self, origin: str) -> "Event":
        """Return the same event with its place in the writer's own order."""
        return Event(replace(self.envelope, origin=origin), self.fact)


class Message(msgspec.Struct, frozen=True, gc=False):
    """What a topic takes. `partition` None leaves the choice to the key."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None = None


def dataschema(event_type: str) -> str:
    """Return the path below `schemas/` of the JSON Schema of a type: `training/run_completed.v1.json`."""
    _, context, fact, version = event_type.split(".")
    return f"{context}/{fact}.{version}.json"


def begin(fact: "Fact", *, command_id: str, source: str, actor: str, recorded_us: int) -> Event:
    """Return the first event of a story, caused by a command from outside. Its id is derived from the command's."""
    return Event(
        Envelope(
            id=child_id(command_id, fact.TYPE),
            type=fact.TYPE,
            source=source,
            subject=fact.key,
            time_us=recorded_us,
            recorded_us=recorded_us,
            correlation=command_id,
            causation=command_id,
            actor=actor,
        ),
        fact,
    )


def follow(cause: Envelope, fact: "Fact", *, source: str, actor: str | None = None, name: str = "") -> Event:
    """Return the event that `cause` led to; `name` tells apart several of one type from one cause.

    It is recorded when its cause was (log time), carries the same correlation and is traced below it.
    """
    return Event(
        Envelope(
            id=child_id(cause.id, f"{fact.TYPE}:{name}"),
            type=fact.TYPE,
            source=source,
            subject=fact.key,
            time_us=cause.recorded_us,
            recorded_us=cause.recorded_us,
            correlation=cause.correlation,
            causation=cause.id,
            actor=actor or source,
            tenant=cause.tenant,
            traceparent=cause.traceparent,
        ),
        fact,
    )


def named(headers: tuple[tuple[str, bytes | None], ...]) -> dict[str, bytes]:
    """Return headers by name; one that is null, as Kafka allows, counts as absent."""
    return {name: value for name, value in headers if value is not None}


def read_envelope(headers: Headers) -> Envelope:
    """Return the envelope of a record of ours; raise KeyError or ValueError naming what is missing or wrong."""
    found = named(headers)
    return Envelope(
        id=found["ce_id"].decode(),
        type=found["ce_type"].decode(),
        source=found["ce_source"].decode(),
        subject=found["ce_subject"].decode(),
        time_us=parse(found["ce_time"].decode()),
        recorded_us=parse(found["ce_recordedtime"].decode()),
        correlation=found["ce_correlationid"].decode(),
        causation=found["ce_causationid"].decode(),
        actor=found["ce_actor"].decode(),
        tenant=found.get("ce_tenant", b"default").decode(),
        origin=found["ce_origin"].decode() if "ce_origin" in found else None,
        traceparent=found["traceparent"].decode() if "traceparent" in found else None,
    )
