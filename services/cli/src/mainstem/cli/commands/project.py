"""`mainstem project check | apply`: a project folder, evaluated here, handed over as one definition."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mainstem.cli.calls import CallRefused, post
from mainstem.cli.output import Format, show
from mainstem.project import ProjectDefinition, load_folder

app = typer.Typer(help="Validate a project folder; put its definition in force.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="The project folder.", exists=True, file_okay=False, metavar="DIR")]
Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]


@app.command()
def check(folder: Folder, output: Output = Format.TABLE) -> None:
    """Evaluate a project folder and list what it defines; the first fault is named with file, line and fix."""
    show(_parts(load_folder(folder)), output)


@app.command()
def apply(
    folder: Folder,
    at: Annotated[str | None, typer.Option(help="Recorded time, RFC 3339, when history is replayed.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Evaluate a project folder and put its definition in force; nothing happens when it is in force already.

    A definition that would change a feature set under a model version is refused, with the list of what it would break.
    """
    definition = load_folder(folder)
    body = {"definition": definition.model_dump(mode="json"), "at": at}
    try:
        answer = post("registry", "/v1/projects", body, by="builder")
    except CallRefused as refused:
        if impact := refused.problem.get("impact"):
            show(_broken(impact) if output is Format.TABLE else impact, output)
        raise
    show(_parts(definition), output)
    typer.echo("unchanged: it is in force already" if answer["unchanged"] else "in force", err=True)


def _parts(definition: ProjectDefinition) -> list[dict[str, object]]:
    found = [("project", definition.charter.name, definition.id)]
    found += [("source", name, contract.id) for name, contract in definition.sources.items()]
    found += [("feature set", name, feature_set.id) for name, feature_set in definition.feature_sets.items()]
    found += [("model", name, f"reads {model.feature_set}") for name, model in definition.models.items()]
    return [{"part": part, "name": name, "definition": identity} for part, name, identity in found]


def _broken(impact: Sequence[dict[str, Any]]) -> list[dict[str, object]]:
    """Return what would break, a line for each version, dataset and consumer group."""
    return [
        {"feature set": broken["feature_set"], "breaks": kind, "which": which, "": more}
        for broken in impact
        for kind, which, more in [
            *(("model version", f"{one['model']} {one['version']}", one["stage"]) for one in broken["versions"]),
            *(("dataset", address, "") for address in broken["datasets"]),
            *(
                ("consumer group", one["group"], "the platform's own" if one["platform"] else "")
                for one in broken["consumer_groups"]
            ),
        ]
    ]
