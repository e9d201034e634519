"""`mainstem prediction explain`: an answer and everything it rests on, each link with its place in the archive."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Annotated

import typer

from mainstem.cli import prediction
from mainstem.cli.archive import open_archive
from mainstem.cli.output import Format

app = typer.Typer(help="Explain an answer from the log.")


@app.callback()
def group() -> None:
    """Explain an answer from the log."""


@app.command()
def explain(
    prediction_id: Annotated[str, typer.Argument(help="Event id of the prediction, or its first eight digits.")],
    output: Annotated[Format, typer.Option("-o", "--output", help="How to print.")] = Format.TABLE,
) -> None:
    """Walk from a prediction to its inputs, its source, its model's history and its label; name what is missing."""
    story = asyncio.run(_explain(prediction_id))
    if output is Format.JSON:
        typer.echo(json.dumps(asdict(story), indent=2))
    else:
        typer.echo("\n".join(_page(story)))


async def _explain(prediction_id: str) -> prediction.Explanation:
    async with open_archive() as store:
        return await prediction.explain(store, prediction_id)


def _page(story: prediction.Explanation) -> Iterator[str]:
    for link in story.links:
        yield f"{link.name.upper()}  {link.topic}/{link.partition}/{link.offset}  leaf {link.leaf}"
        yield f"  event id             {link.event_id or '(none)'}"
        yield f"  recorded             {link.recorded or '(by the broker)'}"
        yield from _fields(link.says, "  ")
        yield ""
    yield "GAPS" if story.gaps else "GAPS  none"
    yield from (f"  {gap}" for gap in story.gaps)


def _fields(says: Mapping[str, object], indent: str) -> Iterator[str]:
    for name, value in says.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{name}"
            yield from _fields(value, f"{indent}  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{indent}{name}"
            yield from (f"{indent}  {json.dumps(item)}" for item in value)
        else:
            yield f"{indent}{name:<20} {value}"
