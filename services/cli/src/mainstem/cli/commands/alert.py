"""`mainstem alert list | show | close`: what moved, what was asked for, and the end of it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from mainstem.cli.calls import get, post
from mainstem.cli.output import Format, show

app = typer.Typer(help="Alerts on models in production and on feature sets: look, close.", no_args_is_help=True)

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
    for name, value in (_line(found) | _set(found)).items():
        typer.echo(f"{name:<12}{'' if value is None else value}".rstrip())
    if "contributors" in found:
        columns = ("name", "move", "by", "psi", "evidence")
        show([{name: _short(one[name]) for name in columns} for one in found["contributors"]], output)
    elif found["difference"] is not None:
        show([_record(one) for one in found["difference"]["records"]], output)


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
    """Return an alert in one line: on a window of a version, on the feature set that it reads, or on the set alone."""
    line = {name: alert[name] for name in ("alert", "model", "version")}
    line |= {"set": alert.get("feature_set"), "kind": alert["kind"]}
    line["until"] = alert["window_end"] if "window_end" in alert else alert["until"]
    line |= {name: alert[name] for name in ("response", "outcome")}
    evidence = f"{alert['evidence']:.1f} > {alert['threshold']:.1f}" if "evidence" in alert else alert["about"]
    closed = "" if alert["open"] else f"{alert['closed_time']} {alert['closed_by']}: {alert['closed_reason']}"
    return {**line, "evidence": evidence, "closed": closed}


def _set(alert: Row) -> dict[str, object]:
    """Return what is told of an alert on a feature set beside its line; nothing for any other."""
    if "definition" not in alert:
        return {}
    told: dict[str, object] = {"set": f"{alert['feature_set']} {alert['definition']}"}
    gap, difference = alert["gap"], alert["difference"]
    if gap is not None:
        place = f"{gap['topic']}/{gap['partition']}"
        told["gap"] = f"{place}: offset {gap['expected_offset']} is due, {gap['found_offset']} is there"
    if difference is not None:
        told["records"] = f"{len(difference['records'])} of {difference['records_in_all']}, the newest:"
    return told


def _record(one: Row) -> dict[str, object]:
    place = f"{one['topic']}/{one['partition']}/{one['offset']}"
    return {"record": place, "event_time": one["event_time"], "value": one["value"], "counts in": one["aggregate"]}


def _short(value: str | float | None) -> str:
    return f"{value:.3f}" if isinstance(value, float) else value or ""
