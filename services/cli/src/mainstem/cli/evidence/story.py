"""What is told of an answer: statements with their leaves, the reasons why some cannot be made, and what contradicts.

A statement says under `says` what stands in the entry at its leaf, word for word: a name of its payload, or below it by
slashes, or a header (`ce_…`). What was computed from entries is `derived`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from mainstem.cli.evidence.archive import Found
from mainstem.events.fact import Fact
from mainstem.events.frames import Entry
from mainstem.ledger_service.domain import Placed

FORMAT: Final = "mainstem.explanation.v1"

#: What is told of every answer, in this order; what cannot be told has its reason among the gaps.
FIELDS: Final = (
    "id", "moment", "model", "version", "channel", "actor", "entity", "correlation", "trace", "position", "score",
    "inputs", "feature_set", "features", "records", "row", "accepted_record", "source_record",
    "project", "request", "run", "code", "environment", "dataset", "onnx", "profile", "evaluation", "gates",
    "builders", "approval", "promotion", "rollback", "deployment", "activation", "rollout", "drift", "alerts",
    "outcome", "receipts", "checkpoint",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Statement:
    """What an entry says, and what follows from it."""

    leaf: int | None
    says: Mapping[str, object]
    derived: Mapping[str, object]

    @property
    def document(self) -> dict[str, object]:
        """Return it as a document."""
        return {"leaf": self.leaf, "says": self.says, **({"derived": self.derived} if self.derived else {})}


@dataclass(frozen=True, slots=True)
class Link:
    """An entry that the story rests on, by the part that it plays."""

    name: str
    leaf: int
    topic: str
    partition: int
    offset: int
    event_id: str | None
    recorded: str | None


@dataclass(slots=True)
class Story:
    """The story of one answer."""

    prediction: str
    statements: dict[str, list[Statement]] = field(default_factory=dict)
    gaps: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    #: The entries of the links.
    parts: dict[str, Entry] = field(default_factory=dict)
    #: The records that values rest on.
    leaves: set[int] = field(default_factory=set)

    def link(self, name: str, placed: Placed | Found[Fact]) -> None:
        """Name an entry by the part that it plays."""
        entry = self.parts[name] = placed.entry
        headers = {key: (value or b"").decode(errors="replace") for key, value in entry.headers}
        place = (placed.leaf, entry.topic, entry.partition, entry.offset)
        self.links.append(Link(name, *place, headers.get("ce_id"), headers.get("ce_recordedtime")))

    def say(self, name: str, found: Found[Fact], *names: str, **derived: object) -> None:
        """State what an event says under some names, and what was derived."""
        said = {each: spoken(found.entry, each) for each in names}
        self.statements.setdefault(name, []).append(Statement(found.leaf, said, derived))

    def derive(self, name: str, leaf: int | None, **derived: object) -> None:
        """State what was computed from an entry, or from several."""
        self.statements.setdefault(name, []).append(Statement(leaf, {}, derived))

    def lack(self, reason: str, *names: str) -> None:
        """Give the reason why there is nothing to state of some fields, unless something is."""
        for name in names:
            if name not in self.statements:
                self.gaps.setdefault(name, reason)

    def document(self) -> dict[str, object]:
        """Return the story as a document: each of `FIELDS` is among the statements or among the gaps."""
        told = {name: [each.document for each in self.statements[name]] for name in FIELDS if name in self.statements}
        lacking = {name: self.gaps[name] for name in FIELDS if name in self.gaps}
        links = [
            {"name": one.name, "leaf": one.leaf, "topic": one.topic, "partition": one.partition}
            | {"offset": one.offset, "event_id": one.event_id, "recorded": one.recorded}
            for one in self.links
        ]
        return {
            "format": FORMAT,
            "prediction": self.prediction,
            "fields": told,
            "gaps": lacking,
            "faults": self.faults,
            "links": links,
        }


def placed_at(entry: Entry) -> str:
    """Return where an entry stands."""
    return f"{entry.topic}/{entry.partition}/{entry.offset}"


def spoken(entry: Entry, path: str) -> object:
    """Return what an entry says under a name: a header, or a part of its payload."""
    header = next((value for name, value in reversed(entry.headers) if name == path), None)
    if header is not None:
        return header.decode(errors="replace")
    found = _payload(entry.value or b"null")
    for name in path.split("/"):
        found = found.get(name) if isinstance(found, dict) else None
    return found


@lru_cache(256)
def _payload(value: bytes) -> object:
    found: object = json.loads(value)
    return found
