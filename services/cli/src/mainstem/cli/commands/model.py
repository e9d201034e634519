"""`mainstem model list | show | import | approve | promote | rollback`: what was made, what may serve, who decides."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import typer

from mainstem.cli.calls import get, post, send
from mainstem.cli.commands import training
from mainstem.cli.output import Format, show

app = typer.Typer(help="Versions of models: look, import, approve, promote, roll back.", no_args_is_help=True)

Model = Annotated[str, typer.Argument(help="Name of the model.")]
Version = Annotated[int, typer.Argument(help="Number of the version.")]
At = Annotated[str | None, typer.Option(help="Recorded time, RFC 3339, when history is replayed.")]
Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]


@app.command("list")
def list_(output: Output = Format.TABLE) -> None:
    """List the models of all projects and how their versions stand."""
    show(get("registry", "/v1/models")["models"], output)


@app.command("show")
def show_(
    model: Model,
    version: Annotated[int | None, typer.Argument(help="Number of a version; its gates and who decided.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show the versions of a model, or one version with the verdict of every gate; JSON holds everything."""
    path = f"/v1/models/{model}" if version is None else f"/v1/models/{model}/versions/{version}"
    found = get("registry", path)
    if output is not Format.TABLE:
        show([found], output)
    elif version is None:
        show([_line(row) for row in found["versions"]], output)
    else:
        _tell(found)
        show(found["gates"], output)


@app.command("import")
def import_(
    model: Model,
    file: Annotated[Path, typer.Argument(help="ONNX file.", exists=True, dir_okay=False, readable=True)],
    at: Annotated[str | None, typer.Option(help="Recorded time, RFC 3339: what is known by then is used.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it has become a version, or failed.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Bring in a model made elsewhere: the gate for files, then the evaluation and the gates of a run of ours."""
    query = urlencode({name: value for name, value in _command(at).items() if value is not None})
    path = f"/v1/models/{quote(model, safe='')}/imports?{query}"
    answer = send("training", path, file.read_bytes(), by="builder", kind="application/octet-stream")
    if wait:
        answer |= training.outcome(model, answer["run"])
    else:
        typer.echo(f"let in; follow it with `mainstem training show {answer['run'][:8]}`", err=True)
    show([answer], output)


@app.command()
def approve(
    model: Model,
    version: Version,
    comment: Annotated[str, typer.Option("-m", "--comment", help="Why.")] = "",
    promote: Annotated[bool, typer.Option(help="Put it into production at once.")] = True,
    at: At = None,
    output: Output = Format.TABLE,
) -> None:
    """Approve the digest that the version has now; exit code 1 and the rule when one forbids it."""
    path = f"/v1/models/{model}/versions/{version}"
    body = {**_command(at), "onnx": get("registry", path)["onnx"], "comment": comment, "promote": promote}
    _done(post("registry", f"{path}/approve", body, by="approver"), output)


@app.command("promote")
def promote_(model: Model, version: Version, at: At = None, output: Output = Format.TABLE) -> None:
    """Put an approved version into production; exit code 1 and the rule when one forbids it."""
    path = f"/v1/models/{model}/versions/{version}/promote"
    _done(post("registry", path, _command(at), by="operator"), output)


@app.command()
def rollback(
    model: Model,
    to: Annotated[int | None, typer.Option(help="Version to go back to; the one before when left out.")] = None,
    at: At = None,
    output: Output = Format.TABLE,
) -> None:
    """Put an archived version back into production; exit code 1 and the rule when one forbids it."""
    _done(post("registry", f"/v1/models/{model}/rollback", {**_command(at), "to": to}, by="operator"), output)


def _command(at: str | None) -> dict[str, object]:
    return {"command_id": str(uuid4()), "at": at}


def _line(version: Mapping[str, Any]) -> dict[str, object]:
    failed = ", ".join(name for name, passed in version["gates"].items() if not passed)
    line = {name: version[name] for name in ("version", "stage", "auc", "cause", "recorded_time")}
    return {**line, "failed_gates": failed, "approved_by": ", ".join(version["approved_by"])}


def _tell(version: Mapping[str, Any]) -> None:
    said: Sequence[tuple[str, object]] = [
        ("stage", version["stage"]),
        ("digest", version["onnx"]),
        ("run", f"{version['run']} ({version['cause']})"),
        *(("imported", file["onnx"]) for file in [version["evidence"].get("imported")] if file),
        ("built by", ", ".join(version["builders"])),
        *(
            ("approved by", f"{row['approved_by']} {row['recorded_time']} {row['comment']}")
            for row in version["approvals"]
        ),
        *(("refused", f"{row['request']} by {row['requested_by']}: {row['reason']}") for row in version["refusals"]),
    ]
    for name, value in said:
        typer.echo(f"{name:<12}{value}".rstrip())


def _done(answer: Mapping[str, Any], output: Format) -> None:
    """Print a line a fact; say beside it what a rule forbade of the rest."""
    facts = [
        {"fact": fact["type"].split(".")[2], "model": fact["model"], "version": fact["version"]}
        for fact in answer["facts"]
    ]
    show([{**fact, "effective_from": answer["effective_from"]} for fact in facts], output)
    if answer["refused"]:
        typer.echo(f"not promoted: {answer['refused']['reason']}", err=True)
