"""A feature set that is chosen, or read from a folder that is not in force."""

import shutil
from pathlib import Path

import pytest

from mainstem.cli.definitions import chosen
from mainstem.cli.drafts import check_sources
from mainstem.events.errors import Rejected
from mainstem.project import ProjectDefinition, load_folder
from mainstem.testkit.projects import shop, storms

FLIGHTS = Path(__file__).parents[3] / "projects" / "flights"


@pytest.fixture
def force(services):
    """Put definitions in force."""

    def put(*definitions):
        services.on("GET /v1/projects", {"projects": [{"project": one.charter.name} for one in definitions]})
        for one in definitions:
            services.on(f"GET /v1/projects/{one.charter.name}", {"definition": one.model_dump(mode="json")})
        return services

    return put


def changed(definition, source, **fields):
    document = definition.model_dump(mode="json")
    document["sources"][source] |= fields
    return ProjectDefinition.model_validate(document)


def test_sources_as_they_are_in_force_will_do(force):
    force(shop(window="2h"), storms())
    check_sources(shop(), ["orders", "payments"])


def test_a_source_that_is_not_in_force_is_named(force):
    force(storms())
    with pytest.raises(Rejected, match=r"source 'orders' .* has no records; there are: outcome, reading$"):
        check_sources(shop(), ["orders"])


def test_what_differs_is_named_with_both_sides(force):
    force(shop())
    columns = shop().model_dump(mode="json")["sources"]["orders"]["columns"]
    columns["weight"]["hi"] = 20.0
    columns["till"] = columns["shop"]
    with pytest.raises(Rejected) as refused:
        check_sources(changed(shop(), "orders", columns=columns, unique_within=7), ["payments", "orders"])
    told = (
        "columns.till is new; columns.weight.hi is 50.0 in force and 20.0 here; "
        "unique_within is 604800000000 in force and 7 here; the log was taken by the one in force"
    )
    assert f"source 'orders' of the folder is not the one in force: {told}" in str(refused.value)


def test_a_source_that_no_chosen_set_reads_may_differ(force):
    force(shop())
    check_sources(changed(shop(), "payments", partitions=4), ["orders"])


def test_where_there_is_one_set_it_need_not_be_chosen():
    assert chosen([shop()], None) == (shop(), "buying")
    assert chosen([shop(), storms()], "gusts") == (storms(), "gusts")


@pytest.mark.parametrize(
    ("definitions", "label", "why"),
    [
        ([shop(), storms()], None, "there are several feature sets: buying, gusts; choose one with --feature-set"),
        ([shop(), storms()], "gust", "no feature set 'gust'; there are: buying, gusts"),
        ([], None, "there are: none yet, apply a project first"),
    ],
)
def test_a_set_that_cannot_be_told_is_refused(definitions, label, why):
    with pytest.raises(Rejected, match=why):
        chosen(definitions, label)


def test_a_folder_with_other_sources_is_not_computed(force, tmp_path):
    services = force(load_folder(FLIGHTS))
    shutil.copytree(FLIGHTS, tmp_path / "flights", ignore=shutil.ignore_patterns("demo", "data*", "__pycache__"))
    sources = tmp_path / "flights" / "sources.py"
    sources.write_text(sources.read_text().replace("hi=6000", "hi=5000"))
    done = services.run("feature", "backfill", "--project", tmp_path / "flights", "--out", tmp_path / "x.parquet")
    assert done.exit_code == 1
    assert "columns.distance.hi is 6000.0 in force and 5000.0 here" in done.stderr


def test_a_feature_that_no_set_has_is_refused_with_those_there_are(force):
    done = force(shop(), storms()).run("feature", "trace", "abc", "winds")
    assert done.exit_code == 1
    assert "no feature 'winds'; buying has amount, orders, paid, paid_last; gusts has wind" in done.stderr


def test_a_feature_that_several_sets_have_needs_the_set(force):
    done = force(storms(), storms("tower", mark="tower_")).run("feature", "trace", "abc", "wind")
    assert done.exit_code == 1
    assert "several feature sets have a feature 'wind': gusts, tower_gusts; choose one" in done.stderr
