"""Groups of commands that are imported when they are called, so that `mainstem --help` stays quick."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group
from typing_extensions import override


def lazy_group(table: Mapping[str, tuple[str, str]]) -> type[TyperGroup]:
    """Make a group class that also holds the groups of the table: name to (module, line of help).

    A module of the table holds a `typer.Typer` named `app`. Errors of ours end a command with exit code 1 and one
    message on stderr instead of a traceback.
    """

    class LazyGroup(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            for name, (module, line) in table.items():
                self.add_command(_Later(name, module, line))

        @override
        def invoke(self, ctx: Any) -> Any:
            try:
                return super().invoke(ctx)
            except _ours() as error:
                typer.echo(f"mainstem: {error}", err=True)
                raise typer.Exit(1) from error

    return LazyGroup


class _Later(TyperCommand):
    """Stands for a group in the help and gives way to it when it is called."""

    def __init__(self, name: str, module: str, line: str) -> None:
        super().__init__(name, help=line)
        self._module = module

    @override
    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return get_group(import_module(self._module).app).make_context(info_name, args, parent, **extra)


def _ours() -> tuple[type[Exception], ...]:
    # An `except` clause is evaluated only when something was raised, and this import is slow.
    from mainstem.events.errors import MainstemError  # noqa: PLC0415

    return (MainstemError,)
