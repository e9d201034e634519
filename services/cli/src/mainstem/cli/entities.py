"""Entities that values are read of, as people write them: `origin=JFK`, or a JSON object a line."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mainstem.events.errors import Rejected
from mainstem.feature_engine import ColumnType, Kind

Entity = dict[str, object]

_TRUTHS = {"true": True, "false": False}


def entity_of(pairs: Sequence[str], columns: Mapping[str, ColumnType]) -> Entity:
    """Return an entity of pairs `column=value`, nothing after the sign being null; raise Rejected for what is none.

    A column that is not among `columns` is taken for a text: whoever is asked knows best what is wrong with it.
    """
    entity: Entity = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not (name and sign):
            raise Rejected(f"{pair!r} is no column with its value; write it like origin=JFK")
        entity[name] = _value(name, text, columns[name].kind if name in columns else Kind.CATEGORY)
    return _sendable(entity, " ".join(pairs))


def entities_in(file: Path) -> list[Entity]:
    """Return the entities of a file, a JSON object a line; raise Rejected, naming the line, for what is none."""
    found: list[Entity] = []
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        if line.strip():
            found.append(_object(line, f"{file}:{number}"))
    return found


def _object(line: bytes, where: str) -> Entity:
    try:
        found = json.loads(line)
    except ValueError as fault:
        raise Rejected(f"{where} is no JSON: {fault}; write an object a line") from fault
    if not isinstance(found, dict):
        raise Rejected(f'{where} is no JSON object; write it like {{"origin": "JFK"}}')
    return _sendable(found, where)


def _sendable(entity: Entity, where: str) -> Entity:
    """Return an entity that can be sent; raise Rejected for half a surrogate pair, or a number that is not finite."""
    try:
        json.dumps(entity, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as fault:
        raise Rejected(f"{where!a} cannot be sent: {fault}; write Unicode text and finite numbers") from fault
    return entity


def _value(name: str, text: str, kind: Kind) -> object:
    if not text:
        return None
    if kind is Kind.BOOLEAN:
        if text not in _TRUTHS:
            raise Rejected(f"{name} is true or false, not {text!r}")
        return _TRUTHS[text]
    return _number(name, text) if kind is Kind.FIXED else text


def _number(name: str, text: str) -> int | float:
    try:
        return int(text) if text.lstrip("+-").isdecimal() else float(text)
    except ValueError as fault:
        raise Rejected(f"{name} is a number, not {text!r}") from fault
