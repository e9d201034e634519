"""What commands print: a table for people or JSON for programs, on stdout; words about it go to stderr."""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"


def show(rows: Sequence[Mapping[str, object]], format_: Format) -> None:
    """Print rows with the same keys; as JSON they are one list."""
    if format_ is Format.JSON:
        print(json.dumps(rows, indent=2))
    else:
        _table(rows)


def _table(rows: Sequence[Mapping[str, object]]) -> None:
    from rich.console import Console  # noqa: PLC0415  (slow to import)
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in rows[0] if rows else ():
        table.add_column(name)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console().print(table, soft_wrap=True)
