"""Numba when it is installed, plain Python when it is not: the same source, the same bits, another speed.

Compiled code is cached beside the sources. A function's cache is stale once any file of the kernel has changed, not
only its own, since what it calls is compiled into it.
"""

import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any, TypeVar, cast

try:
    from numba import config, njit
    from numba.core.caching import CompileResultCacheImpl, FunctionCache, InTreeCacheLocator, UserWideCacheLocator
except ImportError:
    COMPILES = False
else:
    COMPILES = not config.DISABLE_JIT  # numba's own switch counts as if it were not there

F = TypeVar("F", bound=Callable[..., object])


def stamp() -> str:
    """Return a digest of the kernel's sources, and of this file."""
    sources = [*files("mainstem.feature_engine.kernel").iterdir(), files("mainstem.feature_engine") / "jit.py"]
    found = {source.name: source.read_bytes() for source in sources if source.name.endswith(".py")}
    return hashlib.sha256(b"".join(name.encode() + found[name] for name in sorted(found))).hexdigest()


if not COMPILES:

    def jit(function: F) -> F:
        """Return the function as it is."""
        return function

    entry = jit
else:
    #: No fast-math. Nothing is allocated inside, so references need no count: atomic, they took half of the time.
    _OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}

    class _Whole:
        """Stamps compiled code with all sources."""

        def get_source_stamp(self) -> str:
            """Return the digest of all sources."""
            return stamp()

    class _InTree(_Whole, InTreeCacheLocator):  # type: ignore[misc]  # numba has no types
        """Beside the sources."""

    class _UserWide(_Whole, UserWideCacheLocator):  # type: ignore[misc]  # numba has no types
        """Where the sources cannot be written to."""

    class _Impl(CompileResultCacheImpl):  # type: ignore[misc]  # numba has no types
        _locator_classes = [_InTree, _UserWide]  # noqa: RUF012 (numba reads it so)

    class _Cache(FunctionCache):  # type: ignore[misc]  # numba has no types
        _impl_class = _Impl

    def jit(function: F) -> F:
        """Compile `function` into whoever calls it; never changes what it returns (no fast-math)."""
        return cast(F, njit(**_OPTIONS, forceinline=True)(function))

    def entry(function: F) -> F:
        """Compile `function` as one that Python calls, and keep the machine code for the next process."""
        compiled = njit(**_OPTIONS)(function)
        compiled._cache = _Cache(function)
        return cast(F, compiled)
