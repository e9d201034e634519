"""`mainstem training start | list | show`: runs, what asked for them, and what each step left behind."""

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote
from uuid import uuid4

import typer

from mainstem.cli.calls import CallRefused, get, post
from mainstem.cli.output import Format, show, tell

app = typer.Typer(help="Training runs: start, look.", no_args_is_help=True)

_POLL_S = 0.2

Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]


@app.command()
def start(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    at: Annotated[str | None, typer.Option(help="Recorded time, RFC 3339: what is known by then is used.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the run has made a version, or failed.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Ask for a run; it uses the rows and labels that are known now, or at a time that you give."""
    body = {"model": model, "command_id": str(uuid4()), "at": at}
    answer = post("training", "/v1/runs", body, by="builder")
    if wait:
        answer |= outcome(model, answer["run"])
    else:
        typer.echo(f"asked for; follow it with `mainstem training show {answer['run'][:8]}`", err=True)
    show([answer], output)


def outcome(model: str, run: str) -> dict[str, object]:
    """Return the version that a run made, once it did; tell its steps meanwhile. Raises CallRefused when it failed."""
    told, waiting = 0, None
    while True:
        found = get("training", f"/v1/runs/{run}")
        for step in found["steps"][told:]:
            typer.echo(f"{step['step']} done", err=True)
        told = len(found["steps"])
        if found["waiting"] not in (None, waiting):
            waiting = found["waiting"]
            typer.echo(f"waiting: {waiting}", err=True)
        if found["status"] == "failed":
            raise CallRefused(f"run {run} failed: {found['reason']}")
        versions = get("registry", f"/v1/models/{quote(model, safe='')}")["versions"]
        made = [version for version in versions if version["run"] == run]
        if made:
            return {name: made[0][name] for name in ("version", "stage", "auc")}
        time.sleep(_POLL_S)


@app.command("list")
def list_(output: Output = Format.TABLE) -> None:
    """List all runs, the earliest first."""
    show(get("training", "/v1/runs")["runs"], output)


@app.command("show")
def show_(
    run: Annotated[str, typer.Argument(help="Id of the run; its beginning is enough.")], output: Output = Format.TABLE
) -> None:
    """Show a run and its steps; JSON holds everything."""
    found = get("training", f"/v1/runs/{quote(run, safe='')}")
    if output is not Format.TABLE:
        show([found], output)
        return
    tell({name: value for name, value in found.items() if name != "steps"})
    typer.echo()
    show([_line(step) for step in found["steps"]], output)


def _line(step: Mapping[str, Any]) -> dict[str, object]:
    """Return a step in a line: the names of what it wrote, and those of its figures that are single numbers."""
    figures = {name: value for name, value in step["figures"].items() if isinstance(value, int | float | str)}
    return {"step": step["step"], "wrote": ", ".join(step["outputs"]), "figures": json.dumps(figures)[1:-1]}
