"""Which category columns share their numbers: those of one name, and those whose values meet."""

from collections.abc import Iterator

from mainstem.feature_engine.column_types import Kind
from mainstem.feature_engine.definition import Column, Definition, Expression, Operation, parts


def domains(definition: Definition) -> dict[str, str]:
    """Return, for each category column, the name of its domain: the first name among those it meets.

    Columns meet when one is looked up by the other (`by` and `at`), or compared with it.
    """
    names = {n for s in definition.streams for n, kind in s.columns.items() if kind.kind is Kind.CATEGORY}
    groups = {name: {name} for name in names}
    for one, other in _meetings(definition):
        if {one, other} <= names:  # what is a category here may be a number in another stream
            groups[one] |= groups[other]
            for name in groups[one]:
                groups[name] = groups[one]
    return {name: min(group) for name, group in groups.items()}


def _meetings(definition: Definition) -> Iterator[tuple[str, str]]:
    for aggregate in definition.aggregates:
        yield aggregate.by, aggregate.at
        if aggregate.value is not None:
            yield from _compared(aggregate.value)
    for feature in definition.features:
        yield from _compared(feature.value)


def _compared(expression: Expression) -> Iterator[tuple[str, str]]:
    for part in parts(expression):
        match part:
            case Operation("eq" | "ne", (Column(one), Column(other))):
                yield one, other
            case _:
                pass
