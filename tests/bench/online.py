"""Rows of features read without an event, against vectors that somebody has computed, packed and put into a dict.

The engine answers for the moment it is asked about; a vector says what was true when it was written.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from tests.bench.goals import Outcome, interleaved, the_cost

from mainstem.feature_engine import Batch, CompiledSet, Engine
from mainstem.feature_engine.batch import Values

_CALLS = 300
_SECOND_US = 1_000_000
#: By which column of a departure its vectors are found, and how many values each has: one for each index of the engine.
_KEYS = ("origin", "carrier", "dest", "tail", "origin")
_WIDTHS = (5, 2, 1, 2, 2)

Floats = npt.NDArray[np.float64]
Entity = tuple[object, ...]


def reading(compiled: CompiledSet, log: Batch) -> list[Outcome]:
    """Ask for one row, and for a hundred at once."""
    engine = Engine(compiled)
    engine.process(log)
    return [outcome for rows, goal in ((1, 10), (100, 1)) for outcome in _read(engine, log, rows, goal)]


def _read(engine: Engine, log: Batch, rows: int, goal: float) -> list[Outcome]:
    """Ask about departures of the year, each call a second after the one before."""
    spine = engine.compiled.spine
    departed = {name: log.columns[spine][name] for name in engine.compiled.streams[spine]}
    drawn = np.random.default_rng(rows).integers(0, len(departed["origin"]), (_CALLS, rows))
    asked = [{name: _at(column, places) for name, column in departed.items()} for places in drawn.tolist()]
    moments = [np.full(rows, log.arrival[-1] + call * _SECOND_US) for call in range(1, _CALLS + 1)]
    entities = [list(zip(*(columns[key] for key in _KEYS), strict=True)) for columns in asked]
    width = len(engine.compiled.names)
    whole, parts = _packed(entities, width)
    taken = interleaved(
        {
            "ours": (lambda: list(map(engine.read, asked, moments)), _CALLS),
            "whole": (lambda: [_unpack(whole, of, width) for of in entities], _CALLS),
            "parts": (lambda: [_unpack_at_once(parts, of) for of in entities], _CALLS),
        }
    )
    subject = f"online read of {rows} row{'s' if rows > 1 else ''}"
    return [
        the_cost(subject, "a packed vector for each row", taken["ours"], taken["whole"], goal),
        the_cost(subject, "one for each of its five keys", taken["ours"], taken["parts"], goal),
    ]


def _at(values: Values, places: Sequence[int]) -> Values:
    return values[places] if isinstance(values, np.ndarray) else [values[place] for place in places]


def _packed(asked: Sequence[Sequence[Entity]], width: int) -> tuple[dict[Entity, bytes], list[dict[object, bytes]]]:
    """Make vectors up: by entity, and by each of its keys."""
    rng, entities = np.random.default_rng(0), [entity for call in asked for entity in call]
    whole = {entity: rng.random(width).tobytes() for entity in entities}
    parts = [{entity[number]: rng.random(size).tobytes() for entity in entities} for number, size in enumerate(_WIDTHS)]
    return whole, parts


def _unpack(whole: Mapping[Entity, bytes], entities: Sequence[Entity], width: int) -> Floats:
    """Look the vector of each row up and unpack it into the row."""
    found = np.empty((len(entities), width))
    for row, entity in enumerate(entities):
        found[row] = np.frombuffer(whole[entity])
    return found


def _unpack_at_once(parts: Sequence[Mapping[object, bytes]], entities: Sequence[Entity]) -> Floats:
    """Look the five vectors of each row up, and unpack all in one go: the fastest way that was found."""
    packed = [part[key] for entity in entities for part, key in zip(parts, entity, strict=True)]
    return np.frombuffer(b"".join(packed)).reshape(len(entities), -1)
