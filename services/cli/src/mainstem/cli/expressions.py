"""Features written as in features.py, from the definition that services see."""

from mainstem.feature_engine import CompiledSet
from mainstem.feature_engine.column_types import ColumnType
from mainstem.feature_engine.definition import AS_OF, DECAY, Aggregate, Feature, Local, Plain, Term

_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_UNITS = (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000))


def expressions(compiled: CompiledSet) -> dict[str, str]:
    """Return each feature as it is computed, by name: `orders.by("shop").count("1h")`."""
    return {feature.name: _expression(feature, compiled) for feature in compiled.definition.features}


def duration(length_us: int) -> str:
    """Return a length of time, whole milliseconds, in its largest whole unit: `90s`, `6h`, `30d`."""
    unit, size_us = next((unit, size_us) for unit, size_us in _UNITS if length_us % size_us == 0)
    return f"{length_us // size_us}{unit}"


def _expression(feature: Feature, compiled: CompiledSet) -> str:
    match feature:
        case Plain(_, term):
            return f"{compiled.spine}.{_term(term, compiled.streams[compiled.spine][term.column])}"
        case Local(_, column, zone, part):
            return f'{compiled.spine}.{column}.local("{zone}").{part}'
        case Aggregate():
            return f'{feature.stream}.by("{feature.key}").{feature.op}({", ".join(_arguments(feature, compiled))})'


def _arguments(feature: Aggregate, compiled: CompiledSet) -> list[str]:
    columns = compiled.streams[feature.stream]
    value = [] if feature.term is None else [_term(feature.term, columns[feature.term.column])]
    span = duration(feature.span)
    if feature.op == DECAY:
        half_life, tick = duration(feature.half_life), duration(feature.tick)
        return [*value, f'half_life="{half_life}"', f'horizon="{span}"', f'tick="{tick}"']
    return [*value, f'ttl="{span}"' if feature.op in AS_OF else f'"{span}"']


def _term(term: Term, kind: ColumnType) -> str:
    """Return a value of a stream, compared with a constant in the column's own unit where it is."""
    if term.comparison is None:
        return term.column
    return f"{term.column} {_SIGNS[term.comparison]} {term.constant / kind.scale:.15g}"
