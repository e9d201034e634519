"""A definition that is not in force, held against the sources that are: its feature sets can be computed over these."""

from collections.abc import Iterable, Iterator, Mapping

from mainstem.cli.definitions import in_force
from mainstem.events.errors import Rejected
from mainstem.project import ProjectDefinition

_SHOWN = 5

Document = Mapping[str, object]


def check_sources(definition: ProjectDefinition, names: Iterable[str]) -> None:
    """Raise Rejected, naming what differs, unless these sources of a definition are those in force."""
    there = {name: contract for found in in_force() for name, contract in found.sources.items()}
    for name in names:
        if name not in there:
            known = ", ".join(sorted(there)) or "none yet"
            raise Rejected(f"source {name!r} of the folder is not in force, so it has no records; there are: {known}")
        was, now = (found.model_dump(mode="json") for found in (there[name], definition.sources[name]))
        other = list(_differences(was, now))
        if other:
            more = f" and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
            told = f"source {name!r} of the folder is not the one in force: {'; '.join(other[:_SHOWN])}{more}"
            raise Rejected(f"{told}; the log was taken by the one in force: write it so, or apply the folder first")


def _differences(was: Document, now: Document, path: str = "") -> Iterator[str]:
    for name in sorted(was.keys() | now.keys()):
        match was.get(name), now.get(name):
            case _ if name not in now:
                yield f"{path}{name} is missing"
            case _ if name not in was:
                yield f"{path}{name} is new"
            case Mapping() as before, Mapping() as after:
                yield from _differences(before, after, f"{path}{name}.")
            case before, after if before != after:
                yield f"{path}{name} is {before!r} in force and {after!r} here"
