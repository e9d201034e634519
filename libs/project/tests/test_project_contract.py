"""A contract says what it means, refuses what contradicts itself, and turns into a stream."""

import pytest
from pydantic import ValidationError

from mainstem import feature_engine, project
from mainstem.feature_engine.expressions import spec_of
from mainstem.project import Risk, boolean, category, fixed, source, text, time

DAY_US = 86_400_000_000
COLUMNS = {
    "sensor": category("the sensor"),
    "site": category("where it hangs", values=["south", "north"]),
    "wind": fixed("wind", unit="mph", lo=0, hi=200, scale=1000, nullable=True),
    "taken": time("when it was read"),
    "wet": boolean("whether it rained"),
    "note": text("remark"),
}


def test_a_contract_becomes_a_stream_without_its_free_text() -> None:
    stream = spec_of(source("reading", key="sensor", columns=COLUMNS).stream())
    assert (stream.name, stream.key) == ("reading", "sensor")
    assert stream.columns == {
        "sensor": feature_engine.category(),
        "site": feature_engine.category(),
        "wind": feature_engine.fixed("mph", scale=1000, lo=0, hi=200),
        "taken": feature_engine.time(),
        "wet": feature_engine.boolean(),
    }


def test_defaults_are_those_of_a_live_source() -> None:
    contract = source("reading", key="sensor", columns=COLUMNS)
    assert (contract.partitions, contract.replay, contract.event_time) == (2, False, "ce_time")
    assert [contract.max_age, contract.ahead, contract.unique_within] == [
        2_592_000_000_000,
        300_000_000,
        604_800_000_000,
    ]
    assert (contract.batch.max_quarantined, contract.batch.max_null) == (1.0, {})


def test_the_order_of_declaration_does_not_change_the_id() -> None:
    backwards = dict(reversed(COLUMNS.items()))
    one, other = (source("reading", key="sensor", columns=columns) for columns in (COLUMNS, backwards))
    assert one.id == other.id


def test_a_contract_cannot_be_changed() -> None:
    contract = source("reading", key="sensor", columns=COLUMNS)
    with pytest.raises(ValidationError, match="frozen"):
        contract.partitions = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"key": "wind"}, "must name a category column"),
        ({"key": "nothing"}, "must name a category column"),
        ({"max_age": "a while"}, "'a while' is not a duration"),
        ({"max_age": "0d"}, "greater than 0"),
        ({"partitions": 0}, "greater than 0"),
        ({"batch": {"max_quarantined": 1.5}}, "less than or equal to 1"),
        ({"batch": {"max_null": {"colour": 0.5}}}, "'colour', which is none of its columns"),
        ({"batch": {"max_gaps": 1}}, "Extra inputs"),
        ({"columns": {}}, "at least 1 item"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        source("reading", **{"key": "sensor", "columns": COLUMNS, **settings})


def test_a_column_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValidationError, match="lies above"):
        fixed("wind", unit="mph", lo=1, hi=0)
    with pytest.raises(ValidationError, match="whole numbers"):
        fixed("steps", unit="1", lo=0, hi=1.5, integer=True)
    with pytest.raises(ValidationError, match="each given once"):
        category("site", values=["north", "north"])


@pytest.mark.parametrize(
    ("scores", "tier"),
    [((1, 1, 1, 1), "low"), ((3, 2, 2, 2), "medium"), ((4, 4, 3, 3), "high"), ((1, 1, 1, 5), "high")],
)
def test_the_rubric_sets_the_tier(scores: tuple[int, int, int, int], tier: str) -> None:
    impact, autonomy, reversibility, exposure = scores
    risk = Risk(impact=impact, autonomy=autonomy, reversibility=reversibility, regulatory_exposure=exposure)
    assert risk.tier == tier


def test_the_identity_of_a_contract_is_pinned() -> None:
    contract = source("reading", key="sensor", columns=COLUMNS)
    assert contract.id == "sha256:f1c4fdb6ee611ed92afed00944419d89260af50346984a3a92c02efd43a7185d"


def test_the_package_offers_what_authors_and_services_need() -> None:
    authors = {"boolean", "category", "fixed", "model", "source", "text", "time", "Estimator", "Gates", "Label"}
    assert authors < set(project.__all__)
    assert all(hasattr(project, name) for name in project.__all__)
