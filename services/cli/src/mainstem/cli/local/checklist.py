"""Start-up as it happens: a live list on a terminal, one line a change elsewhere."""

import os
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from mainstem.cli.local.state import PlatformState, ProcessState, Status

_MARKS = {Status.READY: "[green]✓[/]", Status.RESTARTING: "[red]↻[/]", Status.STOPPED: "[red]■[/]"}


class Checklist:
    """Shows the states that come while its context lasts, on stderr; a terminal that goes away is no fault."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._began = time.monotonic()
        self._seen: dict[str, Status] = {}
        #: Seconds from the beginning to the last change of each process.
        self._after: dict[str, float] = {}
        in_place = self._console.is_terminal and not os.environ.get("CI")
        self._live = Live(console=self._console, refresh_per_second=10) if in_place else None
        self._over = False

    def __enter__(self) -> Self:
        """Take the terminal, if it is one."""
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last list standing."""
        self._over = True
        with suppress(OSError):
            if self._live:
                self._live.stop()

    def update(self, state: PlatformState) -> None:
        """Show the state; without a terminal, only what changed since the last one."""
        if not self._over:
            with suppress(OSError):
                self._show(state)

    def _show(self, state: PlatformState) -> None:
        changed = [process for process in state.processes if self._seen.get(process.name) is not process.status]
        for process in changed:
            self._seen[process.name] = process.status
            self._after[process.name] = time.monotonic() - self._began
        if self._live:
            self._live.update(self._table(state))
        else:
            for process in changed:
                self._console.print(self._line(process))

    def _line(self, process: ProcessState) -> str:
        return f"{process.name:<10} {process.status:<10} {self._after[process.name]:5.1f} s  {process.address}"

    def _table(self, state: PlatformState) -> Table:
        table = Table(box=None, show_header=False)
        for process in state.processes:
            mark = _MARKS.get(process.status, "[yellow]·[/]")
            took = f"{self._after[process.name]:.1f} s"
            table.add_row(mark, process.name, process.status, process.address, took)
        return table
