"""`mainstem quarantine list | show | redrive`: records that broke their contract, why, and their corrections."""

import base64
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from mainstem.cli.calls import get, post
from mainstem.cli.output import Format, show, tell
from mainstem.events.errors import Rejected
from mainstem.project.reasons import ADVICE, Reason

app = typer.Typer(help="Refused records: look, and send corrections.", no_args_is_help=True)


class Status(StrEnum):
    """Whether a record still waits for a correction."""

    OPEN = "open"
    REDRIVEN = "redriven"


Id = Annotated[str, typer.Argument(help="Id of the quarantined record; its beginning is enough.", metavar="ID")]
Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]


@app.command("list")
def list_(
    source: Annotated[str | None, typer.Option(help="Only of this source.")] = None,
    reason: Annotated[Reason | None, typer.Option(help="Only for this reason.")] = None,
    status: Annotated[Status | None, typer.Option(help="Only those that wait, or only those corrected.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, the newest first.")] = 50,
    output: Output = Format.TABLE,
) -> None:
    """List quarantined records, those that arrived last first."""
    wanted = {"source": source, "reason": reason, "status": status, "limit": limit}
    query = urlencode({name: value for name, value in wanted.items() if value is not None})
    rows = get("ingestion", f"/v1/quarantine?{query}")["quarantined"]
    show(rows if output is not Format.TABLE else [_line(row) for row in rows], output)


@app.command("show")
def show_(quarantine_id: Id, output: Output = Format.TABLE) -> None:
    """Show a quarantined record: why it was refused, what to do about it, and what it held."""
    found = get("ingestion", f"/v1/quarantine/{quote(quarantine_id, safe='')}")
    payload = base64.b64decode(found["payload"])
    text = payload.decode(errors="replace")
    advice = ADVICE[Reason(found["reason"])]
    if output is not Format.TABLE:
        show([{**found, "payload": text, "advice": advice}], output)
        return
    tell(_facts(found, advice))
    cut = "" if len(payload) == found["payload_bytes"] else f", the first {len(payload)} of {found['payload_bytes']}"
    typer.echo(f"\nthe record as it came ({len(payload)} bytes{cut}):\n{_pretty(text)}")


@app.command()
def redrive(
    quarantine_id: Id,
    record: Annotated[typer.FileText, typer.Option(help="File with the corrected record, JSON; - for stdin.")],
    output: Output = Format.TABLE,
) -> None:
    """Send a correction in place of a quarantined record, at its original event and arrival time."""
    body = {"record": _read(record)}
    answer = post("ingestion", f"/v1/quarantine/{quote(quarantine_id, safe='')}/redrive", body, by="operator")
    show([answer], output)
    short = answer["quarantine_id"][:12]
    typer.echo(
        f"sent; it is judged like any record: `mainstem quarantine show {short}` names what came of it", err=True
    )


def _read(file: typer.FileText) -> dict[str, object]:
    try:
        record = json.load(file)
    except ValueError as fault:
        raise Rejected(f"{file.name} is no JSON: {fault}; write the corrected record as one object") from fault
    if not isinstance(record, dict):
        raise Rejected(f"{file.name} holds no object; write the corrected record as one object")
    return record


def _line(row: Mapping[str, Any]) -> dict[str, object]:
    return {
        "quarantine_id": row["quarantine_id"][:12],
        "source": row["source"],
        "reason": row["reason"],
        "detail": row["detail"],
        "recorded_time": row["recorded_time"],
        "status": Status.OPEN if row["accepted_id"] is None else Status.REDRIVEN,
    }


def _facts(found: Mapping[str, Any], advice: str) -> dict[str, object]:
    return {
        "quarantine id": found["quarantine_id"],
        "came as": f"src.{found['source']}/{found['part']}/{found['offset']}",
        "record id": found["record_id"],
        "happened": found["event_time"],
        "arrived": found["recorded_time"],
        "refused for": f"{found['reason']}: {found['detail']}",
        "what to do": advice,
        "corrected by": found["accepted_id"],
    }


def _pretty(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
