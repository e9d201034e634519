"""How a function of the language is called: a call that does not fit says what is amiss and how it is written."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial, wraps
from typing import TYPE_CHECKING, NoReturn, ParamSpec, TypeVar, cast, get_args

from mainstem.feature_engine.errors import DefinitionError

P = ParamSpec("P")
R = TypeVar("R")

#: Where a setting belongs that is often given to a call that has none of this name.
_ELSEWHERE: Mapping[str, str] = {
    "hop": "a hop is part of the window, window('1h', hop='5m')",
    "ttl": "a ttl= belongs to last and age",
    "at": "an at= belongs to by()",
    "window": "last and age have a ttl= instead, decay_mean a horizon=",
}
_ITSELF = ("self", "cls")


def written(example: str, *, besides: str = "") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function of the language refuse a call that does not fit it by DefinitionError, with how it is written.

    `example` is such a call. A method also refuses to be a value, as it is where its () were forgotten; `besides`
    says what else may have been meant then.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        form = _form(function, example, besides)

        @wraps(function)
        def call(*args: P.args, **settings: P.kwargs) -> R:
            form.check(args[form.bound :], settings)
            return function(*args, **settings)

        return cast("Callable[P, R]", Method(call, form)) if "self" in form.itself else call

    return decorate


def by_names(call: str, settings: Sequence[str], given: Sequence[object]) -> None:
    """Raise DefinitionError for values that are given without a name to a call that has only `settings`."""
    _Form(call, (), tuple(settings), (), f"{call}({settings[0]}=...)").check(given, dict.fromkeys(settings))


@dataclass(frozen=True, slots=True)
class _Form:
    """How a call is written; `plain` values may stand without a name, those in `optional` may be left out."""

    name: str
    plain: tuple[str, ...]
    named: tuple[str, ...]
    optional: tuple[str, ...]
    example: str
    besides: str = ""
    itself: tuple[str, ...] = ()

    @property
    def bound(self) -> int:
        """How many values Python gives by itself."""
        return len(self.itself)

    @property
    def fix(self) -> str:
        """What to write instead."""
        needed = [name if name in self.plain else f"{name}=..." for name in self._all if name not in self.optional]
        options = [f"{name}=..." for name in self.optional]
        rest = f"[{', ' if needed else ''}{', '.join(options)}]" if options else ""
        form = f"{self.name}({', '.join(needed)}{rest})"
        return f"write {form}" if form == self.example else f"write {form}, like {self.example}"

    @property
    def _all(self) -> tuple[str, ...]:
        return (*self.plain, *self.named)

    def check(self, given: Sequence[object], settings: Mapping[str, object]) -> None:
        """Raise DefinitionError unless the call fits."""
        meant = {name: self._meant(name) for name in settings if name not in self._all}
        problems = [*self._surplus(given), *self._twice(given, settings)]
        problems += [_unknown(name, close) for name, close in meant.items()]
        problems += self._missing(given, {*settings, *meant.values()})
        if problems:
            raise DefinitionError(f"{self.name}()", ", ".join(problems), self.fix)

    def _meant(self, name: str) -> str | None:
        return next(iter(get_close_matches(name, self._all, 1)), None)

    def _surplus(self, given: Sequence[object]) -> Iterator[str]:
        if len(given) > len(self.plain):
            names = [f"{name}=" for name in self.named]
            by_name = f" ({', '.join(names)} by name)" if names else ""
            count = "no value" if not self.plain else f"{len(self.plain)} value{'s' * (len(self.plain) > 1)}"
            yield f"it takes {count} without a name, not {len(given)}{by_name}"

    def _twice(self, given: Sequence[object], settings: Mapping[str, object]) -> Iterator[str]:
        for name in self.plain[: len(given)]:
            if name in settings:
                yield f"{name} is given twice"

    def _missing(self, given: Sequence[object], there: set[str | None]) -> Iterator[str]:
        there |= {*self.plain[: len(given)], *self.optional}
        lacking = [name if name in self.plain else f"{name}=" for name in self._all if name not in there]
        if lacking and len(given) <= len(self.plain):
            yield f"it lacks {' and '.join(lacking)}"


def _unknown(name: str, close: str | None) -> str:
    meant = _ELSEWHERE.get(name) if close is None else f"{close}= is meant"
    return f"it has no {name}=" + (f" ({meant})" if meant else "")


def _form(function: Callable[..., object], example: str, besides: str) -> _Form:
    parameters = list(inspect.signature(function).parameters.values())
    itself = tuple(each.name for each in parameters[:1] if each.name in _ITSELF)
    plain: list[str] = []
    named: list[str] = []
    optional: list[str] = []
    for each in parameters[len(itself) :]:
        if each.kind is each.VAR_KEYWORD:
            settings = get_args(each.annotation)[0]
            named += sorted(settings.__annotations__, key=list(settings.__annotations__).index)
            optional += sorted(settings.__optional_keys__, key=named.index)
            continue
        (named if each.kind is each.KEYWORD_ONLY else plain).append(each.name)
        if each.default is not each.empty:
            optional.append(each.name)
    name = example.partition("(")[0]
    return _Form(name, tuple(plain), tuple(named), tuple(optional), example, besides, itself)


class Method:
    """A method of the language, as its class has it: what an instance has of it is `Uncalled`."""

    def __init__(self, call: Callable[..., object], form: _Form) -> None:
        self._call = call
        self._form = form
        self.__doc__ = call.__doc__
        self.__wrapped__ = call

    def __get__(self, of: object, _: type) -> object:
        return self if of is None else Uncalled(partial(self._call, of), self._form)


class Uncalled:
    """A method of the language without its (): no value, which whatever is done with it but a call says."""

    def __init__(self, call: Callable[..., object], form: _Form) -> None:
        self._call = call
        self._form = form
        self.__doc__ = call.__doc__

    def __call__(self, *args: object, **settings: object) -> object:
        """Call it, which is what it is for."""
        return self._call(*args, **settings)

    if not TYPE_CHECKING:  # a type checker sees the method itself

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("__"):
                raise AttributeError(name)
            raise self.refusal(f"{self._form.name}()")

    def refusal(self, place: str) -> DefinitionError:
        """Return the error for its use as a value."""
        besides = f"; {self._form.besides}" if self._form.besides else ""
        return DefinitionError(place, f"the method {self._form.name} is used without its ()", self._form.fix + besides)

    def _refuse(self, *_: object) -> NoReturn:
        raise self.refusal(f"{self._form.name}()")

    __hash__ = object.__hash__
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __invert__ = __bool__ = __getitem__ = _refuse
    __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = __and__ = __or__ = __xor__ = _refuse
    __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rand__ = __ror__ = _refuse
