"""`mainstem dataset build | list | show`: what models learn from, frozen, and known by its content address."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Annotated, Any, Final
from urllib.parse import quote
from uuid import uuid4

import typer

from mainstem.cli.calls import CallRefused, get, post
from mainstem.cli.expressions import duration
from mainstem.cli.output import Format, show, tell
from mainstem.cli.progress import bar

app = typer.Typer(help="Datasets: build, look, check against the manifest.", no_args_is_help=True)

_POLL_S: Final = 0.2
_SHORT: Final = 12
#: What a table says of a dataset; JSON holds everything.
_SHOWN: Final = ("model", "feature_set_label", "cut", "rows", "held_out", "unlabelled", "requested_by")

Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]
Found = dict[str, Any]


@app.command()
def build(
    model: Annotated[str | None, typer.Argument(help="Name of the model that is to learn from it.")] = None,
    again: Annotated[
        str | None, typer.Option(metavar="DATASET", help="Build this dataset anew, as its model was when it was built.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="Recorded time, RFC 3339: what is known by then is in it.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it is built, or failed.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Ask for the rows and labels that are known now, or at a time that you give, frozen in a file.

    The same project definition, model, time and log give the same dataset, whoever asks and however often.
    A dataset whose file is lost or damaged is built `--again`, whatever its model reads by now.
    """
    if (model is None) == (again is None) or (again is not None and at is not None):
        raise typer.BadParameter("name a model, with --at if you like, or a dataset with --again")
    about = {"model": model, "at": at} if again is None else {"again": again}
    answer = post("training", "/v1/datasets", {"command_id": str(uuid4()), **about}, by="builder")
    if wait:
        built = _outcome(answer["request"])
        show([_row(built, output)], output)
        _same(answer.get("again"), built["dataset"])
    else:
        typer.echo(f"asked for; follow it with `mainstem dataset show {answer['request'][:8]}`", err=True)
        show([answer], output)


def _same(wanted: str | None, built: str) -> None:
    """Raise CallRefused when a dataset that was built again is another one."""
    if wanted is not None and wanted != built:
        why = (
            "the code that builds datasets, or the log, is not what it was; compare content, code and positions of both"
        )
        raise CallRefused(f"{wanted} was to be built again, and {built} came out: {why}")


def _outcome(request: str) -> Found:
    """Return the dataset of a request, once it is built; show how far it is meanwhile. Raises CallRefused if none."""
    waiting = None
    with _Bar() as progress:
        while True:
            found = get("training", f"/v1/datasets/{request}")
            asked = found["request"]
            if found["dataset"] is not None:
                return dict(found["dataset"])
            if asked["status"] == "failed":
                raise CallRefused(f"request {request} for a dataset of {asked['model']!r} failed: {asked['reason']}")
            if asked["waiting"] not in (None, waiting):
                waiting = asked["waiting"]
                typer.echo(f"waiting: {waiting}", err=True)
            progress.at(asked["read"], asked["of"])
            time.sleep(_POLL_S)


class _Bar(ExitStack):
    """A bar that is shown as soon as somebody knows how much there is to read."""

    def __init__(self) -> None:
        super().__init__()
        self._advance: Callable[[int], None] | None = None
        self._read = 0

    def at(self, read: int | None, there: int | None) -> None:
        """Show that so many records of so many were read."""
        if read is None or there is None:
            return
        if self._advance is None:
            self._advance = self.enter_context(bar("reading the log", there))
        self._advance(max(0, read - self._read))
        self._read = max(read, self._read)


@app.command("list")
def list_(output: Output = Format.TABLE) -> None:
    """List all datasets, the earliest cut first, then the requests that led to none yet."""
    found = get("training", "/v1/datasets")
    show([_row(row, output) for row in [*found["datasets"], *found["requests"]]], output)


@app.command("show")
def show_(
    dataset: Annotated[
        str, typer.Argument(help="Id of the dataset, or of a request for one; its beginning is enough.")
    ],
    output: Output = Format.TABLE,
) -> None:
    """Show the manifest of a dataset and hash its rows anew; exit code 1 when they are gone or not what it says."""
    found = get("training", f"/v1/datasets/{quote(dataset, safe='')}")
    if found["dataset"] is None:
        _show_request(found["request"], output)
        return
    row = found["dataset"]
    checked = get("training", f"/v1/datasets/{row['dataset']}/check")
    verdict = {name: checked[name] for name in ("verdict", "found")}
    if output is not Format.TABLE:
        show([{**row, "manifest": found["manifest"], "check": verdict}], output)
    else:
        tell({**_facts(row, found["manifest"]), "check": f"{verdict['verdict']}: {verdict['found']}"})
        if found["manifest"] is not None:
            typer.echo()
            show(list(_positions(found["manifest"])), output)
    if verdict["verdict"] != "holds":
        typer.echo(f"build it again: mainstem dataset build --again {_short(row['dataset'])}", err=True)
        raise typer.Exit(1)


def _show_request(asked: Found, output: Format) -> None:
    if output is Format.TABLE:
        tell(asked)
    else:
        show([asked], output)


def _row(row: Found, output: Format) -> dict[str, object]:
    """Return a dataset, or a request for one, in a line: the same names for both."""
    built = "status" not in row
    line = {
        "dataset": row["dataset"],
        "request": row["request"],
        "status": "built" if built else row["status"],
        **{name: row.get(name) for name in _SHOWN},
    }
    if output is Format.TABLE:
        note = None if built else row["reason"] or row["waiting"]
        return {**line, "dataset": row["dataset"] and _short(row["dataset"]), "note": note}
    rest = ("project", "definition", "feature_set", "parquet", "content", "reason", "waiting")
    return {**line, **{name: row.get(name) for name in rest}}


def _short(address: str) -> str:
    return address.removeprefix("sha256:")[:_SHORT]


def _facts(row: Mapping[str, Any], manifest: Mapping[str, Any] | None) -> dict[str, object]:
    """Return what the manifest says, for people; of a dataset without one what the event said that built it."""
    if manifest is None:
        return dict(row)
    label = manifest["label"]
    return {
        "dataset": row["dataset"],
        "file": row["parquet"],
        "built for": f"{row['request']} ({row['requested_by']})",
        "format": manifest["format"],
        "model": manifest["model"],
        "project": manifest["project"],
        "definition": manifest["definition"],
        "feature set": f"{manifest['feature_set']['label']} {manifest['feature_set']['id']}",
        "label": f"{label['source']}.{label['column']} > {label['above']:g}, by {label['key']}, "
        f"waited for {duration(label['wait'])}",
        "cut": manifest["cut"],
        "fit": " to ".join(manifest["fit"]),
        "evaluation": " to ".join(manifest["evaluation"]),
        "rows": f"{manifest['rows']} ({manifest['held_out']} held out), and {manifest['unlabelled']} without a label",
        "content": manifest["content"],
        "code": manifest["code"],
        "cluster": manifest["positions"]["cluster"],
    }


def _positions(manifest: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    for topic, found in manifest["positions"]["topics"].items():
        for partition, read in sorted(found["partitions"].items(), key=lambda item: int(item[0])):
            yield {"topic": topic, "id": found["id"], "partition": partition, **read}
