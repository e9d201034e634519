"""`mainstem source send`: the records of a file, to be judged like all others."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import orjson
import typer

from mainstem.bus.kafka import KafkaBus
from mainstem.cli import calls
from mainstem.cli.connection import setting
from mainstem.cli.definitions import contract
from mainstem.cli.output import Format, show
from mainstem.cli.progress import bar
from mainstem.cli.record_files import in_batches, open_records
from mainstem.events.envelope import Message
from mainstem.events.errors import MainstemError, Rejected
from mainstem.project.contract import SourceContract

app = typer.Typer(help="Send records of a file to a source.", no_args_is_help=True)

_BATCH_RECORDS = 1_000
_BATCH_BYTES = 4 << 20

Batches = Iterable[list[bytes]]
Done = Callable[[int], None]


class SendingStopped(MainstemError):
    """Not all records of a file were taken; the message says how many and why not the next."""


@app.callback()
def group() -> None:
    """Send records of a file to a source."""


@app.command()
def send(
    name: Annotated[str, typer.Argument(help="Name of the source.")],
    file: Annotated[Path, typer.Argument(help="An .ndjson, .csv or .parquet file.", exists=True, dir_okay=False)],
    id_column: Annotated[
        str | None, typer.Option(help="Column with the id of each record: one sent before is known again.")
    ] = None,
    time_column: Annotated[str | None, typer.Option(help="Column that says when each record happened.")] = None,
    output: Annotated[Format, typer.Option("-o", "--output", help="How to print.")] = Format.TABLE,
) -> None:
    """Send the records of a file to a source; what its contract refuses is found in the quarantine afterwards.

    With an id column they go to Kafka as CloudEvents. The id and time columns stay in the record only if the contract
    has such columns.
    """
    if time_column is not None and id_column is None:
        raise typer.BadParameter("a record with a time of its own needs an id of its own; give --id-column as well")
    records = open_records(file, lambda: contract(name))
    total, taken = records.count(), 0
    batches = in_batches(records.records(), _BATCH_RECORDS, _BATCH_BYTES)
    with bar(f"send {file.name}", total) as advance:

        def done(count: int) -> None:
            nonlocal taken
            taken += count
            advance(count)

        try:
            if id_column is None:
                _over_http(name, batches, done)
            else:
                asyncio.run(_over_kafka(contract(name), id_column, time_column, batches, done))
        except MainstemError as fault:
            raise SendingStopped(f"{fault}; the first {taken} of {total} records of {file} were taken") from fault
    show([{"source": name, "file": str(file), "taken": taken}], output)


def _over_http(source: str, batches: Batches, done: Done) -> None:
    path = f"/v1/sources/{quote(source, safe='')}/records"
    for batch in batches:
        calls.send("ingestion", path, b"[" + b",".join(batch) + b"]", by="operator")
        done(len(batch))


async def _over_kafka(
    source: SourceContract, id_column: str, time_column: str | None, batches: Batches, done: Done
) -> None:
    columns = {"ce_id": id_column} | ({"ce_time": time_column} if time_column else {})
    async with KafkaBus(setting("MAINSTEM_KAFKA"), "mainstem-cli") as bus:
        for batch in batches:
            await bus.publisher.publish([cloud_event(source, record, columns) for record in batch])
            done(len(batch))


def cloud_event(source: SourceContract, record: bytes, columns: dict[str, str]) -> Message:
    """Return a record as a CloudEvent of its source: `columns` says which of its columns goes into which header.

    A column that the contract does not know leaves the record; a null gives no header. Raises Rejected when a record
    has not got the column at all.
    """
    row = orjson.loads(record)
    headers = [("ce_specversion", b"1.0"), ("ce_type", source.name.encode()), ("ce_source", b"/mainstem/cli")]
    for header, column in columns.items():
        if column not in row:
            raise Rejected(f"a record has no column {column!r}, it has: {', '.join(row)}; name one of them")
        value = row[column] if column in source.columns else row.pop(column)
        if value is not None:
            headers.append((header, str(value).encode()))
    key = row.get(source.key)
    return Message(
        f"src.{source.name}", key.encode() if isinstance(key, str) else None, orjson.dumps(row), tuple(headers)
    )
