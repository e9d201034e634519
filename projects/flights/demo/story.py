"""What people see: a live line while the year is played, and the story on one screen when it is over."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from projects.flights.data import DAY_US
from projects.flights.demo.decisions import Evidence
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mainstem.events.envelope import Event
from mainstem.events.features import FoldStopped, VectorsChecked
from mainstem.events.monitoring import AlertOpened, FeatureAlertOpened
from mainstem.events.registry import VersionRegistered
from mainstem.events.serving import DeploymentActivated, DeploymentRefused
from mainstem.events.training import RunFailed, TrainingRequested

_WEEK = 7
#: The rate is that of these last seconds: a day is sent at once, then others are waited for.
_RECENT_S = 10.0
#: From this many columns on three tables stand side by side, so that the story is one screen.
_WIDE = 125
#: Columns of numbers, which stand on the right.
_NUMERIC = {"flights", "late", "AUC", "Brier", "records", "rows", "version", "evidence"}
_NUMERIC |= {"CPU s", "share", "MB at most"}


class Telling:
    """Tells how far the year is. On a terminal one line stays below the news; elsewhere a line for each week."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._began = time.monotonic()
        self._events = self._days = self._behind = self._today_us = 0
        #: Instants of the last seconds, each with the events that were sent until then.
        self._recent = deque([(self._began, 0)])
        self._version: int | None = None
        #: Rows that the standing check told of, values in them, and those with other bits.
        self._rows = self._cells = self._differing = 0

    @property
    def played_us(self) -> int:
        """Return up to which instant the year was played."""
        return self._today_us + DAY_US

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def day(self, day_us: int, events: int) -> None:
        """Take note of a day that was played."""
        self._today_us, self._events, self._days = day_us, self._events + events, self._days + 1
        self._recent.append((time.monotonic(), self._events))
        if self._live:
            self._live.update(Text(self._line(), style="bold"))
        elif self._days % _WEEK == 0:
            self._console.print(self._line(), highlight=False, soft_wrap=True)

    def behind(self, flights: int) -> None:
        """Take note of how many flights that left have no feature row yet; called about once a second."""
        self._behind = max(0, flights)
        if self._live:
            self._live.update(Text(self._line(), style="bold"))

    def crash(self, service: str, recovered_s: float) -> None:
        """Tell that a service was killed and is back."""
        words = Text(f"{service} was killed and is ready again after {recovered_s:.1f} s", style="red")
        self._tell(self.played_us, words)

    def event(self, event: Event) -> None:
        """Tell a decision."""
        if isinstance(event.fact, DeploymentActivated):
            self._version = event.fact.version
        if isinstance(event.fact, VectorsChecked):
            self._rows, self._cells = self._rows + event.fact.rows, self._cells + event.fact.cells
            self._differing += event.fact.differing
        news = _news(event)
        if news:
            self._tell(event.envelope.recorded_us, news)

    def _tell(self, at_us: int, news: Text) -> None:
        self._console.print(Text.assemble((f"{_day(at_us)}  ", "dim"), news), highlight=False, soft_wrap=True)

    def _rate(self) -> float:
        """Return the events a second of the last seconds."""
        now = time.monotonic()
        while len(self._recent) > 1 and self._recent[1][0] < now - _RECENT_S:
            self._recent.popleft()
        since, events = self._recent[0]
        return (self._events - events) / max(now - since, 0.1)

    def _line(self) -> str:
        version = f"version {self._version} answers" if self._version else "no version yet"
        taken = time.monotonic() - self._began
        return (
            f"{_day(self._today_us)}  {self._events:>9,} events  {self._rate():>6,.0f}/s  "
            f"{self._behind:>6,} flights behind  {version}  {taken:4.0f} s  "
            f"checked again: {self._rows:,} rows, {self._cells:,} cells, {self._differing:,} differing"
        )


def _news(event: Event) -> Text | None:
    """Return a decision in words; None for what is no news."""
    words, style = "", ""
    match event.fact:
        case TrainingRequested() as fact:
            words = f"run {fact.run[:8]} of {fact.model}, because of: {fact.cause.replace('_', ' ')}"
        case VersionRegistered() as fact if fact.stage == "refused":
            failed = "; ".join(gate.detail for gate in fact.gates if not gate.passed)
            words, style = f"version {fact.version} refused: {failed}", "yellow"
        case VersionRegistered() as fact:
            auc = Evidence.model_validate(fact.evidence).evaluation.auc
            words = f"version {fact.version} passed every gate, AUC {auc:.4f}"
        case RunFailed() as fact:
            words, style = f"run {fact.run[:8]} failed: {fact.reason}", "red"
        case DeploymentActivated() as fact:
            words, style = f"version {fact.version} answers", "green"
        case DeploymentRefused() as fact:
            words, style = f"version {fact.version} was not loaded: {fact.reason}", "red"
        case AlertOpened() as fact:
            evidence = f"evidence {fact.evidence:.1f} against {fact.threshold:.1f}"
            what = f"{fact.kind.replace('_', ' ')} of version {fact.version}"
            words, style = f"alert: {what}, {evidence}: {fact.outcome}", "magenta"
        case _:
            words, style = _wrong(event), "red"
    return Text(words, style=style) if words else None


def _wrong(event: Event) -> str:
    """Return what is wrong with features in words; empty when an event says nothing of the kind."""
    match event.fact:
        case FeatureAlertOpened() as fact:
            return f"alert: {fact.kind.replace('_', ' ')} of version {fact.version}: {fact.about}"
        case VectorsChecked() as fact if fact.first_difference is not None:
            first = fact.first_difference
            return f"{first.feature or 'a row'} of {first.spine_id} differs: {first.about}"
        case FoldStopped() as fact:
            return f"{fact.feature_set} stands still: {fact.reason}"
        case _:
            return ""


def _day(instant_us: int) -> str:
    return str(np.datetime64(instant_us // DAY_US, "D"))


def tell(
    console: Console, summary: Mapping[str, Any], quoted: Mapping[str, Sequence[str]], files: Sequence[str]
) -> None:
    """Tell the whole story; `quoted` holds what commands of the CLI printed, by command."""
    tables = _months(summary["months"]), _reasons(summary["events"]), _processes(summary)
    sides = Table.grid(padding=(0, 4))
    for row in (tables,) if console.width >= _WIDE else (tables[:2], tables[2:]):
        sides.add_row(*row)
    console.print(Text("\nA year of flights, from events alone", style="bold"))
    console.print(_events(summary), highlight=False, soft_wrap=True)
    console.print(sides)
    console.print(_seconds(summary["seconds"]), highlight=False, soft_wrap=True)
    console.print(_runs(summary["training"]))
    console.print(_alerts(summary["alerts"]) if summary["alerts"] else Text("no alerts", style="dim"))
    for command, lines in quoted.items():
        console.print(Text(f"$ {command}", style="cyan"), highlight=False)
        for line in lines:
            console.print(Text(f"  {line}"), highlight=False, soft_wrap=True)
    console.print(Text("Where to look next", style="bold"))
    for line in files:
        console.print(f"  {line}", highlight=False, soft_wrap=True)


def verdict(console: Console, kept: Sequence[str], broken: Sequence[str]) -> None:
    """Tell what did not hold, or that everything did."""
    for sentence in broken:
        console.print(Text(f"BROKEN  {sentence}", style="bold red"), soft_wrap=True, highlight=False)
    if not broken:
        console.print(Text(f"All {len(kept)} promises held.", style="bold green"), highlight=False)


def _events(summary: Mapping[str, Any]) -> str:
    events, features, serving = summary["events"], summary["features"], summary["serving"]
    check, offline = summary["check"], summary["offline"]
    lines = [
        f"{sum(events['sent'].values()):,} events sent, {events['injected']:,} of them damaged on purpose: "
        f"{events['accepted']:,} accepted, {events['quarantined']:,} refused, each for its own reason",
        f"{features['rows']:,} feature rows; {features['cells_checked']:,} values computed again by other code, "
        f"{features['cells_differing']:,} with other bits",
        f"{check['rows']:,} rows checked again by the platform itself as they were published: "
        f"{check['cells']:,} values, {check['differing']:,} with other bits",
        f"{offline['cells']:,} values of the year computed offline: {offline['cells_differing']:,} with other bits; "
        f"AUC offline - served {offline['auc_gap']:.4f}",
        f"{serving['predictions']:,} predictions, one for each flight since the first promotion; "
        f"{serving['http_calls']:,} calls over HTTP and {serving['grpc_calls']:,} over gRPC; "
        f"{serving['named']:,} of them named the flight, the others brought its features and gave the same bits",
        *(
            f"{form}: p50 {took['p50']:.1f} ms, p95 {took['p95']:.1f} ms, p99 {took['p99']:.1f} ms"
            for form, took in serving["latency_ms"].items()
        ),
        f"books of serving: {serving['books']['recorded']:,} recorded = {serving['books']['sent']:,} in the log, "
        f"{serving['books']['dropped']:,} dropped",
    ]
    if summary["kill"]:
        kill = summary["kill"]
        lines.append(
            f"{kill['service']} was killed on {kill['at']}, back after {kill['recovered_s']:.1f} s, nothing lost"
        )
    return "\n".join(lines)


def _months(months: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("month", "flights", "late", "AUC", "Brier", "versions")
    for one in months:
        figures = f"{one['positive_rate']:.3f}", f"{one['auc']:.4f}", f"{one['brier']:.4f}"
        table.add_row(one["month"], f"{one['labelled']:,}", *figures, ", ".join(map(str, one["versions"])))
    return table


def _reasons(events: Mapping[str, Any]) -> Table:
    table = _table("refused for", "records")
    for reason, count in events["reasons"].items():
        table.add_row(reason, f"{count:,}")
    return table


def _processes(summary: Mapping[str, Any]) -> Table:
    table = _table("process", "CPU s", "share", "MB at most")
    seconds, peaks = summary["cpu_seconds"], summary["peak_rss_mb"]
    total = sum(seconds.values())
    for name, taken in seconds.items():
        table.add_row(name, f"{taken:.0f}", f"{taken / total:.0%}", f"{peaks[name]:,}")
    return table


def _seconds(seconds: Mapping[str, float]) -> str:
    return "it took " + " · ".join(f"{name} {taken:,.0f} s" for name, taken in seconds.items())


def _runs(trainings: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("run", "because of", "rows", "AUC", "version", "decision", "why")
    for one in trainings:
        figures = ["" if one[name] is None else f"{one[name]:{form}}" for name, form in (("rows", ","), ("auc", ".4f"))]
        version = "" if one["version"] is None else str(one["version"])
        table.add_row(one["run"][:8], one["cause"], *figures, version, one["decision"], "; ".join(one["reasons"]))
    return table


def _alerts(alerts: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("alert", "version", "what moved", "evidence", "response", "what came of it")
    for one in alerts:
        row = (
            one["at"][:10],
            str(one["version"]),
            one["kind"],
            f"{one['evidence']:.1f}",
            one["response"],
            one["outcome"],
        )
        table.add_row(*row)
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, header_style="bold dim", pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in _NUMERIC else "left")
    return table
