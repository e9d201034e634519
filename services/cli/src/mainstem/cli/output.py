"""What commands print: a table for people or JSON for programs, on stdout; words about it go to stderr."""

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum

_WIDEST = 10_000


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"


def show(rows: Sequence[Mapping[str, object]], format_: Format) -> None:
    """Print rows with the same keys; as JSON they are one list, as NDJSON one object a line."""
    if format_ is Format.JSON:
        print(json.dumps(rows, indent=2))
    elif format_ is Format.NDJSON:
        for row in rows:
            print(json.dumps(row))
    else:
        _table(rows)


def tell(facts: Mapping[str, object]) -> None:
    """Print one thing to people, a line for each of its facts; those that are None are left out."""
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        if value is not None:
            print(f"{name:<{width}}{value}")


def _table(rows: Sequence[Mapping[str, object]]) -> None:
    from rich.console import Console  # noqa: PLC0415  (slow to import)
    from rich.table import Table  # noqa: PLC0415

    if not rows:
        print("nothing to show", file=sys.stderr)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    # What a record holds is shown whole and as it is: not cut to the width of the screen, no brackets taken for markup.
    Console(width=_WIDEST, markup=False, emoji=False).print(table, soft_wrap=True)
