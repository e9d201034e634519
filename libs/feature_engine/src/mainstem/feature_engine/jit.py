"""Numba when it is installed, plain Python when it is not: the same source, the same bits, another speed."""

from collections.abc import Callable
from typing import TypeVar, cast

try:
    from numba import njit
except ImportError:
    njit = None

F = TypeVar("F", bound=Callable[..., object])


def jit(function: F) -> F:
    """Compile `function` to machine code if numba is there; never changes what it returns (no fast-math)."""
    if njit is None:
        return function
    return cast(F, njit(cache=True, nogil=True, error_model="numpy")(function))
