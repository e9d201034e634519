"""A history as text: a line for each entry of the log, in the order of the leaves.

`python -m tests.contract.golden FOLDER` writes the history of the platform that runs, and the digests of the tables
that follow from it: what later releases must still read the same way. Of topics with many entries it has the first.
"""

import asyncio
import json
import os
import sys
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mainstem.cli.archive import open_archive, open_schema
from mainstem.cli.connection import setting
from mainstem.cli.folding import foldings
from mainstem.cli.replay import replay
from mainstem.events.frames import Entry
from mainstem.ledger_service.domain import entries_of
from mainstem.ledger_service.store import PostgresStore

HISTORY, TABLES = "history.ndjson", "tables.json"
#: Families of topics of whose partitions the first entries will do.
_MANY, _FIRST = ("src.", "evt.data.", "evt.feature.", "tel.prediction."), 15


async def main() -> None:
    """Write what stands in the archive, and what follows from it."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)  # noqa: ASYNC240  (nothing else runs)
    entries = await _entries()
    (folder / HISTORY).write_text("".join(f"{written(entry)}\n" for entry in entries))
    url = setting("MAINSTEM_DATABASE_URL")
    async with open_schema(url, "golden", "mainstem.ledger_service") as database, database.connection() as connection:
        await connection.execute("create database golden")
    found = await tables(entries, urlsplit(url)._replace(path="/golden").geturl())
    (folder / TABLES).write_text(json.dumps(found, indent=1) + "\n")


async def _entries() -> list[Entry]:
    found, counts = list[Entry](), Counter[tuple[str, int]]()
    async with open_archive() as store, store.snapshot() as archive:
        async for block in archive.blocks():
            for entry in entries_of(block):
                counts[entry[:2]] += 1
                if not entry.topic.startswith(_MANY) or counts[entry[:2]] <= _FIRST:
                    found.append(entry)
    return found


async def tables(entries: Sequence[Entry], url: str) -> dict[str, list[object]]:
    """Archive entries in an empty database; return rows and digest of each table that follows from them."""
    async with open_schema(url, "ledger", "mainstem.ledger_service") as database:
        store = PostgresStore(database)
        for _, run in groupby(entries, key=lambda entry: entry[:2]):  # so they keep their order
            await store.archive(list(run))
    os.environ["MAINSTEM_DATABASE_URL"] = url
    report = await replay(None, list(foldings()), url)
    return {f"{one.service}.{one.table}": [one.rebuilt.rows, one.rebuilt.sha256] for one in report.tables}


def written(entry: Entry) -> str:
    """Return the line of an entry."""
    headers = [[name, _text(value)] for name, value in entry.headers]
    return json.dumps([*entry[:4], _text(entry.key), _text(entry.value), headers], ensure_ascii=False)


def read(file: Path) -> Iterator[Entry]:
    """Yield the entries of a history."""
    for line in file.read_text().splitlines():
        topic, partition, offset, timestamp, key, value, headers = json.loads(line)
        pairs = tuple((name, _bytes(each)) for name, each in headers)
        yield Entry(topic, partition, offset, timestamp, _bytes(key), _bytes(value), pairs)  # type: ignore[arg-type]


def _text(data: bytes | None) -> Any:
    """Return text as it is; what is none, in a list, as base64."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return [b64encode(data).decode()]


def _bytes(said: Any) -> bytes | None:
    if said is None:
        return None
    return b64decode(said[0]) if isinstance(said, list) else said.encode()


if __name__ == "__main__":
    asyncio.run(main())
