"""`mainstem project check | apply`: a project folder, evaluated here, handed over as one definition."""

from pathlib import Path
from typing import Annotated

import typer

from mainstem.cli.calls import post
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
    """Evaluate a project folder and put its definition in force; nothing happens when it is in force already."""
    definition = load_folder(folder)
    body = {"definition": definition.model_dump(mode="json"), "at": at}
    answer = post("registry", "/v1/projects", body, by="builder")
    show(_parts(definition), output)
    typer.echo("unchanged: it is in force already" if answer["unchanged"] else "in force", err=True)


def _parts(definition: ProjectDefinition) -> list[dict[str, object]]:
    found = [("project", definition.charter.name, definition.id)]
    found += [("source", name, contract.id) for name, contract in definition.sources.items()]
    found += [("feature set", name, feature_set.id) for name, feature_set in definition.feature_sets.items()]
    found += [("model", name, f"reads {model.feature_set}") for name, model in definition.models.items()]
    return [{"part": part, "name": name, "definition": identity} for part, name, identity in found]
