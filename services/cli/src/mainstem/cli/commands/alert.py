"""`mainstem alert list | show | close`: what moved, what was asked for, and the end of it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from mainstem.cli.calls import get, post
from mainstem.cli.output import Format, show

app = typer.Typer(help="Alerts on models in production: look, close.", no_args_is_help=True)

Alert = Annotated[str, typer.Argument(help="Id of the alert, or a beginning of it that no other has.")]
Row = Mapping[str, Any]
Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]


class Status(StrEnum):
    """Which alerts."""

    OPEN = "open"
    CLOSED = "closed"


@app.command("list")
def list_(
    model: Annotated[str | None, typer.Option(help="Of this model only.")] = None,
    status: Annotated[Status | None, typer.Option(help="Only open or only closed ones.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """List alerts, the newest first."""
    query = urlencode({name: value for name, value in (("model", model), ("status", status)) if value})
    alerts = get("monitoring", f"/v1/alerts?{query}")["alerts"]
    show(alerts if output is Format.JSON else [_line(alert) for alert in alerts], output)


@app.command("show")
def show_(alert: Alert, output: Output = Format.TABLE) -> None:
    """Show one alert: what moved, most first; JSON holds everything."""
    found = get("monitoring", f"/v1/alerts/{alert}")
    if output is Format.JSON:
        show([found], output)
        return
    for name, value in _line(found).items():
        typer.echo(f"{name:<12}{'' if value is None else value}".rstrip())
    columns = ("name", "move", "by", "psi", "evidence")
    show([{name: _short(one[name]) for name in columns} for one in found["contributors"]], output)


@app.command()
def close(
    alert: Alert,
    reason: Annotated[str, typer.Option("-m", "--reason", help="Why it is over.")],
    at: Annotated[str | None, typer.Option(help="Recorded time, RFC 3339, when history is replayed.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Close an alert; it opens anew if a later window still shows the evidence."""
    closed = post("monitoring", f"/v1/alerts/{alert}/close", {"reason": reason, "at": at}, by="operator")
    show([closed if output is Format.JSON else _line(closed)], output)


def _line(alert: Row) -> dict[str, object]:
    names = ("alert", "model", "version", "kind", "window_end", "response", "outcome")
    line = {name: alert[name] for name in names}
    evidence = f"{alert['evidence']:.1f} > {alert['threshold']:.1f}"
    closed = "" if alert["open"] else f"{alert['closed_time']} {alert['closed_by']}: {alert['closed_reason']}"
    return {**line, "evidence": evidence, "closed": closed}


def _short(value: str | float | None) -> str:
    return f"{value:.3f}" if isinstance(value, float) else value or ""
