"""What a process counted, in a form that costs next to nothing to tell, and to add up with what others counted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import add
from typing import Final, NamedTuple, TypeVar

#: The values of labels, in the order in which their instrument names these.
Labels = tuple[str, ...]
#: A sample of the client library: its name, its labels and their values.
Named = tuple[str, tuple[tuple[str, str], ...]]

_K = TypeVar("_K")
_V = TypeVar("_V")


class Example(NamedTuple):
    """A call whose trace was sampled: its trace, what was observed, and when (s since 1970)."""

    trace: str
    value: float
    at: float


class Timed(NamedTuple):
    """What was observed under some labels: how often in each bucket, the sum, and the last example by bucket."""

    counts: list[int]
    sum: float
    examples: dict[int, Example]


@dataclass(frozen=True, slots=True)
class Told:
    """All metrics of a process, or of several: by instrument, and there by labels."""

    counts: dict[str, dict[Labels, int]]
    timings: dict[str, dict[Labels, Timed]]
    #: What the client library counts, and what it says of how things are.
    sampled: dict[str, dict[Named, float]]
    gauges: dict[str, dict[Named, float]]

    def lasting(self) -> "Told":
        """Return what stays true when the process is gone: what it counted, and not how it was."""
        return replace(self, gauges={})


def added(several: Sequence[Told]) -> Told:
    """Return what processes told as one: what has the same name and labels is added up.

    Of what was made or seen at an instant, the oldest was made first, and the newest is the example. Of ages the
    highest counts.
    """
    return Told(
        _merged([each.counts for each in several], lambda _, one, other: one + other),
        _merged([each.timings for each in several], lambda _, one, other: _together(one, other)),
        _merged([each.sampled for each in several], _combined),
        _merged([each.gauges for each in several], _combined),
    )


def _merged(
    several: Sequence[Mapping[str, Mapping[_K, _V]]], combine: Callable[[_K, _V, _V], _V]
) -> dict[str, dict[_K, _V]]:
    total: dict[str, dict[_K, _V]] = {}
    for name, found in (item for each in several for item in each.items()):
        known = total.setdefault(name, {})
        for key, value in found.items():
            known[key] = combine(key, known[key], value) if key in known else value
    return total


def _together(one: Timed, other: Timed) -> Timed:
    examples = dict(one.examples)
    for bucket, example in other.examples.items():
        examples[bucket] = max(examples.get(bucket, example), example, key=lambda each: each.at)
    return Timed(list(map(add, one.counts, other.counts)), one.sum + other.sum, examples)


#: How samples become one whose names end so, if not by addition.
_COMBINED: Final[Sequence[tuple[str, Callable[[float, float], float]]]] = (("_created", min), ("_age_seconds", max))


def _combined(key: Named, one: float, other: float) -> float:
    return next((way for end, way in _COMBINED if key[0].endswith(end)), add)(one, other)
