"""Many tables in one argument: each array that a call is given by itself costs it 50 ns, which is much for one row.

Compiled code is given a line (address, lines, columns) for each table; plain Python a list of the tables.
"""

from collections.abc import Sequence
from typing import TypeAlias, cast

import numpy as np

from mainstem.feature_engine.jit import COMPILES
from mainstem.feature_engine.kernel.fields import Ints

Given: TypeAlias = Ints
"""What the kernel finds tables in, by number. A line of one may stand for another."""

if not COMPILES:

    def described(tables: Sequence[Ints]) -> Given:
        """Return what the kernel finds these tables in."""
        return cast(Given, list(tables))

    def table(given: Given, number: int) -> Ints:
        """Return a table."""
        return cast(Ints, given[number])

else:
    from numba import types
    from numba.extending import intrinsic
    from numba.np.arrayobj import make_array, populate_array

    def described(tables: Sequence[Ints]) -> Given:
        """Return what the kernel finds these tables in; they must be kept for as long as it is used."""
        return np.array([(each.ctypes.data, *each.shape) for each in tables], np.int64).reshape(-1, 3)

    @intrinsic
    def table(typing, given, number):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 (numba calls it)
        """Return a table."""
        kind = types.Array(types.int64, 2, "C")

        def lower(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            def whole(value: int) -> object:
                return context.get_constant(types.intp, value)

            lines, found = make_array(signature.args[0])(context, builder, args[0]), make_array(kind)(context, builder)
            places = [builder.add(builder.mul(args[1], whole(3)), whole(field)) for field in range(3)]
            address, *shape = [builder.load(builder.gep(lines.data, [place])) for place in places]
            populate_array(
                found,
                data=builder.inttoptr(address, found.data.type),
                shape=shape,
                strides=[builder.mul(shape[1], whole(8)), whole(8)],
                itemsize=whole(8),
                meminfo=None,
            )
            return found._getvalue()

        return kind(given, types.intp), lower


class Tables:
    """Tables by number, kept for the kernel, which is given `given`."""

    def __init__(self, tables: Sequence[Ints]) -> None:
        self._kept = list(tables)
        self.given = described(self._kept)

    def __getitem__(self, number: int) -> Ints:
        """Return a table."""
        return self._kept[number]

    def __setitem__(self, number: int, table: Ints) -> None:
        """Put another table in the place of one; a row by itself is a table of one line."""
        self._kept[number] = np.atleast_2d(np.ascontiguousarray(table, np.int64))
        self.given[number] = described(self._kept[number : number + 1])[0]
