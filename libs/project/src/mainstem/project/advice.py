"""What an author is told when a document or a call does not fit its model: what was found, and what to do."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from reprlib import Repr
from typing import Final, NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mainstem.project.charter import Charter
from mainstem.project.columns import BooleanColumn, CategoryColumn, FixedColumn, TextColumn, TimeColumn
from mainstem.project.contract import SourceContract
from mainstem.project.errors import Disagreement
from mainstem.project.model import Estimator, Gates, Label, ModelDefinition
from mainstem.project.monitoring import Monitoring
from mainstem.project.serving import Serving

_COLUMNS: Final = (BooleanColumn, CategoryColumn, FixedColumn, TextColumn, TimeColumn)
#: What is written in a file or by a call of its own, by the name that pydantic gives its faults; and what it is called.
_WRITTEN: Final[Mapping[str, tuple[type[BaseModel], str]]] = {
    **{kind.__name__: (kind, "the file") for kind in (Charter, Serving, Monitoring)},
    **{kind.__name__: (kind, f"{kind.model_fields['kind'].default}()") for kind in _COLUMNS},
    **{kind.__name__: (kind, f"{kind.__name__}()") for kind in (Estimator, Gates, Label)},
    "SourceContract": (SourceContract, "source()"),
    "ModelDefinition": (ModelDefinition, "model()"),
}
_NAME: Final = "take small letters, digits and _, a letter first, 63 at most"
_FIXES: Final[Mapping[str, str]] = {
    r"^[a-z][a-z0-9_]{0,62}$": _NAME,
    r"^[a-z][a-z0-9_]{0,62}(\.v([2-9]|[1-9][0-9]{1,3}))?$": "take the name of a feature set, from version 2 on name.vN",
    r"^[A-Z]{3}$": "take the three capital letters of a currency, like 'EUR'",
}
_SHORT: Final = Repr()
_SHORT.maxstring = _SHORT.maxother = 60

Path = tuple[int | str, ...]


class Advice(NamedTuple):
    """What was found, what to do, and where in the document the first fault is."""

    found: str
    fix: str
    place: Path


def advice(error: ValidationError) -> Advice:
    """Return what to tell of all faults; the fix is that of the first, and keys that there are not come first."""
    details = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    kind, name = _WRITTEN.get(error.title, (None, error.title))
    found, meant = [], set[Path]()
    for fault in details:
        place = fault["loc"]
        if fault["type"] == "missing" and place in meant:
            continue
        told = _told(fault, kind, name)
        found.append(told)
        meant.add((*place[:-1], told.close))
    return Advice("; ".join(one.found for one in found), found[0].fix, details[0]["loc"])


class _Told(NamedTuple):
    found: str
    fix: str
    close: str = ""  #: the key that was meant by one that there is not


def _told(fault: ErrorDetails, kind: type[BaseModel] | None, name: str) -> _Told:
    place = fault["loc"]
    match fault["type"]:
        case "extra_forbidden":
            allowed = list(_model_at(kind, place[:-1]))
            close = next(iter(get_close_matches(str(place[-1]), allowed, 1)), "")
            fix = f"write {close}" if close else f"take one of {', '.join(allowed)}"
            return _Told(f"{_section(place[:-1], name)} has no {place[-1]}", fix, close)
        case "missing":
            return _Told(f"{_section(place[:-1], name)} lacks {place[-1]}", f"add {place[-1]}")
        case "literal_error" if place[-1] == "[key]":
            found = f"{_section(place[:-2], name)} has no {fault['input']}"
            return _Told(found, f"take {fault.get('ctx', {})['expected']}")
        case _:
            return _of_value(fault, _dotted(place, name))


def _of_value(fault: ErrorDetails, place: str) -> _Told:
    context, given = fault.get("ctx", {}), _SHORT.repr(fault["input"])
    match fault["type"]:
        case "string_pattern_mismatch":
            return _Told(f"{place} is {given}", _FIXES.get(context["pattern"], f"write it as {context['pattern']}"))
        case "literal_error":
            return _Told(f"{place} is {given}", f"take {context['expected']}")
        case "value_error" if isinstance(context["error"], Disagreement):
            return _Told(context["error"].found, context["error"].fix)
        case "value_error":
            said = fault["msg"].removeprefix("Value error, ")
            return _Told(f"{place}: {said}" if fault["loc"] else said, "correct the value")
        case _:
            return _Told(f"{place} is {given}: {fault['msg']}", "correct the value")


def _model_at(kind: type[BaseModel] | None, place: Path) -> Iterator[str]:
    """Yield the keys that a document of a kind may have at a place."""
    for part in place:
        field = None if kind is None else kind.model_fields.get(str(part))
        kind = None if field is None else _model(field.annotation)
    yield from () if kind is None else kind.model_fields


def _model(annotation: object) -> type[BaseModel] | None:
    kinds: Sequence[object] = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _section(place: Path, name: str) -> str:
    dotted = _dotted(place, name)
    return f"[{dotted}]" if place and name == "the file" else dotted


def _dotted(place: Path, name: str) -> str:
    return ".".join(str(part) for part in place if part != "[key]") or name
