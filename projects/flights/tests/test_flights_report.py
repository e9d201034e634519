"""The page of the demo is made of a year that never was: whole, alone, and with everything on it."""

import math
from html.parser import HTMLParser

import pytest
from projects.flights.data import DAY_US
from projects.flights.demo.books import Week
from projects.flights.demo.decisions import Activation, Window
from projects.flights.demo.report import Material, page

from mainstem.events.instants import parse, render

START_US = parse("2013-05-02T00:00:00Z")
ENDS = [START_US + week * 7 * DAY_US for week in range(36)]
NAMES = [
    "dep_delay",
    "hour_of_week",
    "distance",
    "origin_mean_1h",
    "origin_std_3h",
    "origin_now",
    "origin_deps_1h",
    "origin_dests_1h",
]
VOID = {"meta"}


def version_at(end_us: int) -> int:
    return 1 + (end_us > ENDS[9]) + (end_us > ENDS[25])


def summary() -> dict[str, object]:
    onnx = "ab" * 32
    return {
        "events": {
            "sent": {"flight_scheduled": 337_026, "flight_departed": 328_771},
            "injected": 1000,
            "accepted": 1_019_474,
            "quarantined": 1001,
            "reasons": {"out_of_range": 101, "too_old": 100, "wrong_type": 100},
        },
        "features": {"rows": 328_521, "cells_checked": 105_000, "cells_differing": 0},
        "check": {"events": 15, "fraction": 0.01, "rows": 3_200, "cells": 48_000, "differing": 0},
        "offline": {"rows": 328_521, "cells": 4_927_815, "cells_differing": 0, "scores": 222_791, "scores_differing": 0,
                    "auc_gap": 0.0},
        "training": [
            {"run": "0a1b2c3d4e", "cause": "request", "rows": 105_427, "auc": 0.9213, "version": 1, "onnx_sha256": onnx,
             "decision": "promoted", "reasons": []},
            {"run": "1a1b2c3d4e", "cause": "performance_loss", "rows": 110_427, "auc": 0.9, "version": 2,
             "onnx_sha256": onnx, "decision": "refused", "reasons": ["max_auc_loss: lost 0.0081, at most 0.0050"]},
        ],
        "serving": {"predictions": 223_101, "by_version": {"1": 1}, "http_calls": 1000, "grpc_calls": 1000,
                    "named": 1000, "latency_ms": {"http by entity": {"p50": 1.2, "p95": 2.3, "p99": 3.4}},
                    "books": {"recorded": 2000, "sent": 2000, "dropped": 0}},
        "months": [{"month": "2013-05", "labelled": 28_128, "positive_rate": 0.22, "auc": 0.93, "brier": 0.067,
                    "versions": [1]}],
        "alerts": [
            {"at": render(ENDS[3] + DAY_US), "version": 1, "kind": "feature_drift", "evidence": 7.2,
             "response": "record", "outcome": "recorded"},
            {"at": render(ENDS[9] + DAY_US), "version": 1, "kind": "feature_drift", "evidence": 9.1,
             "response": "record", "outcome": "recorded"},
            {"at": render(ENDS[9] + DAY_US), "version": 1, "kind": "performance_loss", "evidence": 8.4,
             "response": "retrain", "outcome": "retrained: version 2 <promoted>"},
        ],
        "kill": {"service": "features", "at": "2013-08-12", "recovered_s": 2.4},
        "ledger": {"entries": 3_300_000, "root": "cd" * 32, "verified": True, "replay_equal": True, "tables": 21},
    }  # fmt: skip


def material(**changed: object) -> Material:
    found = {
        "summary": summary(),
        "weeks": [
            Week(end, version_at(end), 6_000, 0.22 + math.sin(n / 5) / 10, 0.92 + math.cos(n / 3) / 50, end - DAY_US)
            for n, end in enumerate(ENDS)
        ],
        "windows": [
            Window(end, 1, {"psi": {name: abs(math.sin(n / 9 + at)) / 3 for at, name in enumerate(NAMES)}})
            for n, end in enumerate(ENDS)
        ],
        "activations": [
            Activation(number, at_us, "") for number, at_us in enumerate((START_US - DAY_US, ENDS[9], ENDS[25]), 1)
        ],
        "features": NAMES,
        "broken": [],
    }  # fmt: skip
    return Material(**{**found, **changed})  # type: ignore[arg-type]


class Tree(HTMLParser):
    """Follows open elements and counts them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counts: dict[str, int] = {}
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def html() -> str:
    return page(material())


def test_every_element_is_closed_and_nothing_is_loaded(html: str) -> None:
    tree = Tree(html)
    assert tree.open == []
    assert tree.links == []
    assert not {"script", "link", "img"} & tree.counts.keys()
    assert "url(" not in html


def test_there_are_three_pictures_with_a_point_for_each_week_and_a_cell_for_each_input(html: str) -> None:
    counts = Tree(html).counts
    assert counts["svg"] == 3
    assert counts["circle"] == 2 * len(ENDS)
    # The first window began before its version.
    assert counts["rect"] == len(NAMES) * (len(ENDS) - 1)


def test_versions_and_alerts_are_marked(html: str) -> None:
    assert html.count(">version 3</text>") == 3
    assert Tree(html).counts["polygon"] == 2 * 3


def test_what_came_of_a_run_is_said_with_its_reason(html: str) -> None:
    assert "max_auc_loss: lost 0.0081, at most 0.0050" in html
    assert "version 2 &lt;promoted&gt;" in html


def test_what_the_standing_check_found_is_said_among_the_proofs(html: str) -> None:
    assert "3,200 rows, 1% of them all" in html
    assert "of 48,000 values 0 have other bits" in html


def test_a_broken_promise_is_said_first() -> None:
    html = page(material(broken=["every row was scored: 7 instead of 8"]))
    assert "Everything that was promised held" not in html
    assert html.index("7 instead of 8") < html.index("<svg")


def test_a_year_that_ended_before_the_first_week_has_no_pictures() -> None:
    assert "<svg" not in page(material(weeks=[], windows=[]))
