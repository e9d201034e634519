"""What is no part of the language, and what to write instead: said at once, so that a traceback has the line."""

from collections.abc import Iterable
from typing import NoReturn


class Unwritten:
    """The operators that expressions do not have; each raises TypeError with what to write instead."""

    def __pow__(self, other: object) -> NoReturn:
        _none("power", "multiply, x * x")

    def __mod__(self, other: object) -> NoReturn:
        _none("remainder", "take a part of .local(zone), or let the source send it as a column")

    def __floordiv__(self, other: object) -> NoReturn:
        _none("whole division", "divide by /, or let the source send it as a column")

    def __xor__(self, other: object) -> NoReturn:
        _none("^", "of truths write (a | b) & ~(a & b), of numbers x * x")

    def __rand__(self, other: object) -> NoReturn:
        raise TypeError("a number is no truth: & and | bind before a comparison, so write (a > 10) & (b < 5)")

    def __abs__(self) -> NoReturn:
        _none("abs()", "write where(x < 0, -x, x)")

    def __round__(self, digits: object = None) -> NoReturn:
        _none("round()", "declare the column with the scale= it is to have; row expressions are not rounded")

    def __float__(self) -> NoReturn:
        raise TypeError("a feature is no number yet: write + - * /, clip() and where(), no functions of math")

    def __divmod__(self, other: object) -> NoReturn:
        _none("divmod()", "divide by /, or let the source send both as columns")

    def __lshift__(self, other: object) -> NoReturn:
        _none("<< and >>", "multiply or divide by the power of two")

    def __matmul__(self, other: object) -> NoReturn:
        _none("@", "a feature is one number: write + - * /")

    def __array__(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a feature is no array: write + - * /, clip() and where(), no functions of numpy")

    #: A number of numpy leaves the operation to the feature, a function of numpy refuses it.
    __array_ufunc__ = None
    __rpow__, __rmod__, __rfloordiv__, __rxor__ = __pow__, __mod__, __floordiv__, __xor__
    __rdivmod__, __rmatmul__ = __divmod__, __matmul__
    __rshift__ = __rlshift__ = __rrshift__ = __lshift__
    __int__ = __float__
    __ror__ = __rand__


class Unread:
    """The operators that a target does not have: no value is made of what is not known yet."""

    def __add__(self, other: object) -> NoReturn:
        raise TypeError("no value is made of a target, which is not known yet: compute inside target(...)")

    __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = __and__ = __or__ = __xor__ = __add__
    __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rand__ = __ror__ = __lt__ = __le__ = __gt__ = __ge__ = __add__

    def __neg__(self) -> NoReturn:
        self.__add__(None)

    __invert__ = __neg__


def lacks(thing: str, name: str, there: Iterable[str]) -> AttributeError:
    """Return the error for an attribute that a thing of the language does not have; `there` are those it has."""
    return AttributeError(f"{thing} has no {name}: take one of {', '.join(there)}")


def _none(what: str, instead: str) -> NoReturn:
    raise TypeError(f"a feature has no {what}: {instead}")
