"""A thousand broken records to find among the honest ones: ten kinds, a hundred of each, always the same thousand.

Each is made from an honest record and looks like one: nothing in it says that it was put there.
Only the book, which stays with whoever asked for the damage, says which they are and why they must be refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np

from mainstem.project import Decoder, Reason, SourceContract
from mainstem.project.columns import FixedColumn

# The folder is a package of whatever name its loader gives it, so it can only be named relatively.
from .data import DAY_US, HOUR_US, MINUTE_US, Events  # noqa: TID252

PER_KIND: Final = 100
SEED: Final = 2013
#: Flight numbers of the honest records end at 8500.
_UNUSED_NUMBERS: Final = range(8501, 10_000)


@dataclass(frozen=True)
class Damage:
    """The broken records by source, and the reason for which each must be quarantined by its id."""

    events: dict[str, Events]
    book: dict[str, Reason]


@dataclass(frozen=True)
class Draft:
    """A copy of an honest record under an id of its own, to be broken."""

    id: str
    key: bytes
    event_us: int
    arrival_us: int
    record: dict[str, object]
    #: The payload, where it is not simply the record.
    payload: bytes | None = None

    def having(self, **fields: object) -> "Draft":
        """Return the draft with other values in its record."""
        return replace(self, record={**self.record, **fields})


Breaker = Callable[[Draft, SourceContract, np.random.Generator], Draft]


def damaged_events(honest: Mapping[str, Events], contracts: Mapping[str, SourceContract]) -> Damage:
    """Return the thousand broken records, spread evenly over the sources and over the year."""
    rng = np.random.default_rng(SEED)
    events: dict[str, Events] = {}
    book: dict[str, Reason] = {}
    for name, source in honest.items():
        drafts = _broken(source, contracts[name], PER_KIND // len(honest), rng)
        book |= {draft.id: reason for draft, reason in drafts}
        events[name] = _collected(name, [draft for draft, _ in drafts])
    return Damage(events, book)


def _broken(
    source: Events, contract: SourceContract, per_kind: int, rng: np.random.Generator
) -> list[tuple[Draft, Reason]]:
    """Break `per_kind` records in each way, at places spread over the whole source."""
    reasons = rng.permutation(np.repeat([reason.value for reason in BREAKERS], per_kind))
    places = np.linspace(0, len(source) - 1, len(reasons) + 2).astype(int)[1:-1]
    decoder = Decoder(contract)
    drafts = []
    for number, (place, code) in enumerate(zip(places.tolist(), reasons.tolist(), strict=True)):
        reason = Reason(code)
        original = _draft(source, _first_good(source, decoder, place))
        copy = original if reason is Reason.DUPLICATE_ID else _renamed(original, contract, number)
        late = replace(copy, arrival_us=copy.arrival_us + int(rng.integers(1, 300)) * 1_000_000)
        drafts.append((BREAKERS[reason](late, contract, rng), reason))
    return drafts


def _first_good(source: Events, decoder: Decoder, place: int) -> int:
    """Return the first place at or after `place` whose record meets the contract: the data has dirt of its own."""
    while True:
        here = slice(place, place + 1)
        times = source.event_time_us[here], source.arrival_us[here]
        if decoder.judge(source.payloads[here], source.keys[here], *times).faults == [None]:
            return place
        place += 1


def _draft(source: Events, place: int) -> Draft:
    return Draft(
        id=source.ids[place],
        key=source.keys[place],
        event_us=int(source.event_time_us[place]),
        arrival_us=int(source.arrival_us[place]),
        record=msgspec.json.decode(source.payloads[place]),
    )


def _renamed(draft: Draft, contract: SourceContract, number: int) -> Draft:
    """Return the draft as another flight of that day, or as a second observation of that hour."""
    if contract.key == "origin":
        return replace(draft, id=draft.id.replace("Z-", f":{number % 60:02}Z-"))
    old = draft.key.decode()
    day, carrier, origin = old[:10], *old[11:].split("-")[::2]
    new = f"{day}-{carrier}-{_UNUSED_NUMBERS[number]}-{origin}"
    return replace(draft, id=draft.id.replace(old, new), key=new.encode()).having(flight=new)


def _cut_short(draft: Draft, _: SourceContract, rng: np.random.Generator) -> Draft:
    payload = msgspec.json.encode(draft.record)
    return replace(draft, payload=payload[: int(rng.integers(1, len(payload)))])


def _drop_field(draft: Draft, contract: SourceContract, rng: np.random.Generator) -> Draft:
    dropped = _required(contract, rng)
    return replace(draft, record={name: value for name, value in draft.record.items() if name != dropped})


def _number_as_text(draft: Draft, contract: SourceContract, rng: np.random.Generator) -> Draft:
    name = str(rng.choice(list(_numbers(contract))))
    return draft.having(**{name: str(draft.record[name])})


def _null_field(draft: Draft, contract: SourceContract, rng: np.random.Generator) -> Draft:
    return draft.having(**{_required(contract, rng): None})


def _beyond_range(draft: Draft, contract: SourceContract, rng: np.random.Generator) -> Draft:
    numbers = _numbers(contract)
    name = str(rng.choice(list(numbers)))
    return draft.having(**{name: int(numbers[name].hi) + int(rng.integers(1, 1000))})


def _unknown_code(draft: Draft, contract: SourceContract, rng: np.random.Generator) -> Draft:
    known = [name for name, column in contract.columns.items() if column.kind == "category" and column.values]
    name = str(rng.choice(known))
    code = f"{draft.record[name]}"[::-1] + "Q"
    return replace(draft, key=code.encode() if name == contract.key else draft.key).having(**{name: code})


def _other_key(draft: Draft, contract: SourceContract, _: np.random.Generator) -> Draft:
    key = {b"EWR": b"JFK", b"JFK": b"LGA", b"LGA": b"EWR"}.get(draft.key, draft.key[:-3] + b"PHL")
    return replace(draft, key=key)


def _from_the_future(draft: Draft, contract: SourceContract, rng: np.random.Generator) -> Draft:
    return replace(draft, event_us=draft.arrival_us + contract.ahead + int(rng.integers(1, 360)) * MINUTE_US)


def _from_long_ago(draft: Draft, contract: SourceContract, rng: np.random.Generator) -> Draft:
    return replace(draft, event_us=draft.arrival_us - contract.max_age - int(rng.integers(1, 60)) * DAY_US)


def _sent_again(draft: Draft, _: SourceContract, rng: np.random.Generator) -> Draft:
    return replace(draft, arrival_us=draft.arrival_us + int(rng.integers(1, 24)) * HOUR_US)


#: How a record is broken, by the reason it must be refused for.
BREAKERS: Final[dict[Reason, Breaker]] = {
    Reason.MALFORMED_JSON: _cut_short,
    Reason.MISSING_FIELD: _drop_field,
    Reason.WRONG_TYPE: _number_as_text,
    Reason.NULL_NOT_ALLOWED: _null_field,
    Reason.OUT_OF_RANGE: _beyond_range,
    Reason.UNKNOWN_CATEGORY: _unknown_code,
    Reason.KEY_MISMATCH: _other_key,
    Reason.EVENT_AFTER_ARRIVAL: _from_the_future,
    Reason.TOO_OLD: _from_long_ago,
    Reason.DUPLICATE_ID: _sent_again,
}


def _required(contract: SourceContract, rng: np.random.Generator) -> str:
    names = [name for name, column in contract.columns.items() if not column.nullable and name != contract.key]
    return str(rng.choice(names))


def _numbers(contract: SourceContract) -> dict[str, FixedColumn]:
    return {name: column for name, column in contract.columns.items() if isinstance(column, FixedColumn)}


def _collected(name: str, drafts: list[Draft]) -> Events:
    drafts = sorted(drafts, key=lambda draft: draft.arrival_us)
    return Events(
        source=name,
        ids=[draft.id for draft in drafts],
        keys=[draft.key for draft in drafts],
        event_time_us=np.array([draft.event_us for draft in drafts], np.int64),
        arrival_us=np.array([draft.arrival_us for draft in drafts], np.int64),
        payloads=[msgspec.json.encode(draft.record) if draft.payload is None else draft.payload for draft in drafts],
    )
