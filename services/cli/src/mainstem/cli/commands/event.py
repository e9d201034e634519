"""`mainstem event tail | show | schema`: what stands on the bus, and how to read it."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from fnmatch import fnmatchcase
from typing import Annotated

import typer

from mainstem.bus.admin import topic_names
from mainstem.bus.reader import LogReader
from mainstem.cli.connection import setting
from mainstem.cli.output import Format, show, tell
from mainstem.events.catalogue import BY_TYPE
from mainstem.events.errors import Rejected
from mainstem.events.export import schema as schema_of
from mainstem.events.record import Record, header

app = typer.Typer(help="Events on the bus: follow, look up, read their schemas.", no_args_is_help=True)

_EVENT_TOPICS = ("evt.*", "state.*", "tel.*")

Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]


@app.command()
def tail(
    topics: Annotated[
        list[str] | None, typer.Argument(help="Topics, or patterns like 'evt.data.*'; all events when left out.")
    ] = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Begin with the oldest event.")] = False,
    type_: Annotated[str | None, typer.Option("--type", help="Only events of this type, as for `schema`.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Print events as they come, until Ctrl-C or the limit."""
    if output is Format.JSON and limit is None:
        raise typer.BadParameter("json is one list, which needs an end: give --limit, or take ndjson")
    wanted = None if type_ is None else event_type(type_)
    try:
        asyncio.run(_tail(topics or _EVENT_TOPICS, from_beginning, wanted, limit, output))
    except KeyboardInterrupt:
        return


@app.command("show")
def show_(
    event_id: Annotated[str, typer.Argument(help="Id of the event; its beginning is enough.", metavar="ID")],
    topic: Annotated[str, typer.Option(help="Topic that it stands in.")],
    output: Output = Format.TABLE,
) -> None:
    """Find an event by its id, reading the topic from its beginning, and show all of it."""
    found = asyncio.run(_find(topic, event_id))
    if output is not Format.TABLE:
        show([found], output)
        return
    tell({name: value for name, value in found.items() if name != "data"})
    typer.echo(f"\n{json.dumps(found['data'], indent=2, ensure_ascii=False)}")


@app.command()
def schema(
    type_: Annotated[str, typer.Argument(help="Type of an event; a part that only it has is enough.", metavar="TYPE")],
) -> None:
    """Print the JSON Schema of a type of event."""
    typer.echo(json.dumps(schema_of(BY_TYPE[event_type(type_)]), indent=2))


def event_type(wanted: str) -> str:
    """Return the full name of a type of event by a part of it, such as `run_completed` or `training.run_completed.v1`.

    Raises Rejected, naming those that come into question, when it is the part of none or of several.
    """
    if wanted in BY_TYPE:
        return wanted
    found = [name for name in BY_TYPE if f".{wanted}." in f".{name}."]
    if len(found) != 1:
        raise Rejected(f"{len(found)} types of event contain {wanted!r}; take one of: {', '.join(found or BY_TYPE)}")
    return found[0]


def as_row(record: Record) -> dict[str, object]:
    """Return a record of any topic as one JSON object: where it stands, its headers by name, its payload as `data`."""
    headers = {name.removeprefix("ce_"): (value or b"").decode(errors="replace") for name, value in record.headers}
    text = (record.value or b"null").decode(errors="replace")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = text
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    return {**place, "key": (record.key or b"").decode(errors="replace"), **headers, "data": data}


async def _tail(
    topics: Sequence[str], from_beginning: bool, type_: str | None, limit: int | None, output: Format
) -> None:
    kept: list[dict[str, object]] = []
    async with aclosing(_follow(topics, from_beginning, type_, limit)) as rows:
        async for row in rows:
            match output:
                case Format.JSON:
                    kept.append(row)
                case Format.NDJSON:
                    print(json.dumps(row), flush=True)
                case Format.TABLE:
                    print(_line(row), flush=True)
    if output is Format.JSON:
        show(kept, output)


async def _follow(
    topics: Sequence[str], from_beginning: bool, type_: str | None, limit: int | None
) -> AsyncGenerator[dict[str, object], None]:
    kafka = setting("MAINSTEM_KAFKA")
    left = limit
    async with LogReader(kafka, await _matching(kafka, topics)) as reader:
        await reader.start()
        if not from_beginning:
            await reader.start(await reader.ends())
        while left != 0:
            fitting = [row for row in map(as_row, await reader.poll()) if type_ in (None, row.get("type"))]
            for row in fitting[:left]:
                yield row
            left = None if left is None else max(0, left - len(fitting))


async def _matching(kafka: str, patterns: Sequence[str]) -> list[str]:
    """Return the topics that there are; raise Rejected for a pattern that fits none of them."""
    names = await topic_names(kafka)
    for pattern in patterns:
        if pattern not in _EVENT_TOPICS and not any(fnmatchcase(name, pattern) for name in names):
            raise Rejected(f"no topic is like {pattern!r}; there are: {', '.join(names)}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


async def _find(topic: str, wanted: str) -> dict[str, object]:
    """Return the event whose id begins like that; a second copy of it is the same event."""
    found: dict[bytes, Record] = {}
    async with LogReader(setting("MAINSTEM_KAFKA"), [topic]) as reader:
        await reader.start()
        async for records in reader.to_end():
            for record in records:
                event_id = header(record, "ce_id") or b""
                if event_id.startswith(wanted.encode()):
                    found.setdefault(event_id, record)
    if len(found) != 1:
        advice = "give more of the id" if found else "is it in another topic?"
        raise Rejected(f"{len(found)} events of {topic} have an id that begins with {wanted!r}; {advice}")
    (record,) = found.values()
    return as_row(record)


def _line(row: Mapping[str, object]) -> str:
    place = f"{row['topic']}/{row['partition']}/{row['offset']}"
    kind = str(row.get("type", "")).removeprefix("mainstem.")
    return f"{row.get('recordedtime', ''):<27}  {place:<36}  {kind:<32}  {row.get('subject', row['key'])}"
