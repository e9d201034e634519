"""The year on one page: a self-contained HTML file with pictures and tables, nothing loaded from anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from projects.flights.data import DAY_US
from projects.flights.demo.books import Week
from projects.flights.demo.charts import Axis, Curve, Mark, curves, heat, tag
from projects.flights.demo.decisions import Activation, Window

from mainstem.events.instants import parse

KINDS: Final = {
    "feature_drift": "inputs moved",
    "prediction_drift": "scores moved",
    "performance_loss": "performance lost",
}

Row = Sequence[str]


@dataclass(frozen=True)
class Material:
    """What the page is made of."""

    summary: Mapping[str, Any]
    weeks: Sequence[Week]
    windows: Sequence[Window]
    activations: Sequence[Activation]
    features: Sequence[str]
    broken: Sequence[str]


def page(material: Material) -> str:
    """Return the whole page."""
    summary = material.summary
    body = [
        _head(material),
        *_pictures(material),
        tag("h2", "Training runs"),
        _table(
            ("run", "cause", "rows", "AUC held out", "version", "decision", "why"),
            [_training(one) for one in summary["training"]],
            numeric={2, 3, 4},
        ),
        tag("h2", "Alerts"),
        _table(
            ("log time", "version", "what moved", "evidence (ln e)", "response", "what came of it"),
            [_alert(one) for one in summary["alerts"]],
            numeric={1, 3},
        ),
        tag("div", _months(summary["months"]) + _reasons(summary["events"]), class_="pair"),
        tag("h2", "Proof"),
        _proof(summary),
    ]
    style = f"<style>{Path(__file__).with_name('report.css').read_text()}</style>"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">{style}'
    title = "<title>A year of flights</title>"
    return (
        f'<!doctype html><html lang="en"><head>{head}{title}</head><body><main>{"".join(body)}</main></body></html>\n'
    )


def _head(material: Material) -> str:
    events, serving = material.summary["events"], material.summary["serving"]
    sent = sum(events["sent"].values())
    verdict = (
        tag("p", "Everything that was promised held.", class_="verdict good")
        if not material.broken
        else tag("div", _list(material.broken), class_="verdict bad")
    )
    figures = [
        (f"{sent:,}", "events played"),
        (f"{events['quarantined']:,}", "refused, each for its reason"),
        (f"{material.summary['features']['rows']:,}", "feature rows"),
        (f"{serving['predictions']:,}", "predictions"),
        (str(len(material.activations)), "versions in service"),
    ]
    tiles = "".join(tag("div", tag("b", number) + tag("span", name)) for number, name in figures)
    title = tag("h1", "A year of flights out of New York") + tag(
        "p",
        "The flights of 2013, played in the order in which they became known. A model says at departure whether a "
        "flight will arrive more than 15 minutes late; it learns from January to April and answers from May on.",
        class_="lead",
    )
    return title + verdict + tag("div", tiles, class_="tiles")


def _pictures(material: Material) -> list[str]:
    weeks, summary = material.weeks, material.summary
    if not weeks:
        return []
    width = min((b.end_us - a.end_us for a in weeks for b in weeks if b.end_us > a.end_us), default=7 * DAY_US)
    axis = Axis(min(week.end_us for week in weeks) - width, max(week.end_us for week in weeks))
    marks = [_mark(alert) for alert in summary["alerts"] if parse(alert["at"]) < axis.end_us]
    auc = {(week.end_us, week.version): week.auc for week in weeks}
    rate = {(week.end_us, week.version): week.positive_rate for week in weeks}
    worst, most = min(0.85, min(auc.values()) // 0.05 * 0.05), max(0.5, max(rate.values()) // 0.1 * 0.1 + 0.1)
    since = {one.version: one.effective_us for one in material.activations}
    psi = {  # part of a week is no week: its hours alone would stand out
        window.end_us: window.figures.get("psi", {})
        for window in material.windows
        if window.end_us <= axis.end_us and window.end_us - width >= since.get(window.version, 0)
    }

    def drawn(curve: Curve) -> str:
        return tag("figure", curves(axis, curve, weeks, material.activations, marks))

    return [
        _caption("How well it tells late flights from others", "Area under the ROC curve by week, one line a version."),
        drawn(Curve("AUC by week", auc, worst, 1.0, 0.05)),
        _legend(),
        _caption("How many came late", "Share of flights that arrived more than 15 minutes late, by week."),
        drawn(Curve("Share of late flights by week", rate, 0.0, most, 0.1)),
        _caption(
            "How far its inputs moved",
            "Stability index of each input against the reference of its version, up to 1.",
        ),
        tag("figure", heat(axis, psi, material.features, material.activations)),
    ]


def _caption(title: str, about: str) -> str:
    return tag("h2", escape(title)) + tag("p", escape(about), class_="about")


def _legend() -> str:
    kinds = "".join(tag("span", tag("i", "", class_=f"key {kind}") + name) for kind, name in KINDS.items())
    return tag("p", tag("span", "Alerts:") + kinds, class_="legend")


def _mark(alert: Mapping[str, Any]) -> Mark:
    about = f"{alert['at'][:10]} version {alert['version']}: {KINDS.get(alert['kind'], alert['kind'])}"
    return Mark(parse(alert["at"]), f"alert {alert['kind']}", f"{about}; {alert['outcome']}")


def _training(one: Mapping[str, Any]) -> Row:
    return (
        tag("code", escape(one["run"][:8])),
        escape(KINDS.get(one["cause"], one["cause"])),
        _number(one["rows"]),
        _figure(one["auc"], 4),
        _number(one["version"]),
        tag("span", one["decision"], class_=f"pill {one['decision']}"),
        escape("; ".join(one["reasons"])),
    )


def _alert(one: Mapping[str, Any]) -> Row:
    kind = tag("i", "", class_=f"key {one['kind']}") + escape(KINDS.get(one["kind"], one["kind"]))
    return (
        one["at"][:10],
        str(one["version"]),
        kind,
        f"{one['evidence']:.1f}",
        one["response"],
        escape(one["outcome"]),
    )


def _months(months: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            one["month"],
            f"{one['labelled']:,}",
            f"{one['positive_rate']:.3f}",
            f"{one['auc']:.4f}",
            f"{one['brier']:.4f}",
            ", ".join(map(str, one["versions"])),
        )
        for one in months
    ]
    head = ("month", "flights", "late", "AUC", "Brier", "versions")
    return tag("section", tag("h2", "Months") + _table(head, rows, numeric={1, 2, 3, 4}))


def _reasons(events: Mapping[str, Any]) -> str:
    rows = [(tag("code", escape(reason)), f"{count:,}") for reason, count in events["reasons"].items()]
    return tag("section", tag("h2", "Refused records") + _table(("reason", "records"), rows, numeric={1}))


def _proof(summary: Mapping[str, Any]) -> str:
    features, ledger, kill = summary["features"], summary["ledger"], summary["kill"]
    check, offline = summary["check"], summary["offline"]
    lines = [
        f"{features['cells_checked']:,} feature values were computed again from their definition, by other code: "
        f"{features['cells_differing']:,} have other bits.",
        f"{check['rows']:,} rows, {check['fraction']:.0%} of them all, the platform itself held against the log "
        f"as they were published: of {check['cells']:,} values {check['differing']:,} have other bits.",
        f"Of {offline['cells']:,} values computed offline for the whole year {offline['cells_differing']:,} have other "
        f"bits than were served, and of {offline['scores']:,} scores {offline['scores_differing']:,}: "
        f"AUC offline − served is {offline['auc_gap']:.4f} in every month.",
        f"{summary['serving']['http_calls']:,} answers over HTTP and {summary['serving']['grpc_calls']:,} over gRPC "
        "stand in the log once. Those that brought the features equal those on the stream, bit for bit; "
        f"the features of {summary['serving']['named']:,} that named the flight are those that other code gives, "
        "as the log was then.",
    ]
    if kill:
        lines.append(f"{kill['service']} was killed on {kill['at']} and was back after {kill['recovered_s']:.1f} s.")
    if ledger:
        lines.append(
            f"The ledger holds {ledger['entries']:,} entries, root <code>{escape(ledger['root'][:16])}…</code>, "
            f"{'verified' if ledger['verified'] else 'NOT verified'}; the {ledger['tables']} tables of the services, "
            f"rebuilt from it alone, are {'equal' if ledger['replay_equal'] else 'NOT equal'}."
        )
    return tag("ul", "".join(tag("li", sentence) for sentence in lines), class_="proof")


def _list(sentences: Sequence[str]) -> str:
    return tag("ul", "".join(tag("li", escape(sentence)) for sentence in sentences))


def _table(head: Row, rows: Sequence[Row], numeric: set[int]) -> str:
    if not rows:
        return tag("p", "None.", class_="about")
    styles = ["number" if at in numeric else "words" for at in range(len(head))]
    cells = [[tag("td", cell, class_=style) for cell, style in zip(row, styles, strict=True)] for row in rows]
    names = "".join(tag("th", escape(name), class_=style) for name, style in zip(head, styles, strict=True))
    body = "".join(tag("tr", "".join(row)) for row in cells)
    return tag("div", tag("table", tag("thead", tag("tr", names)) + tag("tbody", body)), class_="scroll")


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
