"""What the language accepts, what the id covers, and how a mistake is explained."""

import json

import pytest

import mainstem.feature_engine as package
from mainstem.feature_engine import (
    DefinitionError,
    boolean,
    category,
    feature_set,
    fixed,
    load,
    stream,
    time,
)

COLUMNS = {
    "gate": category(),
    "delay": fixed("min", lo=-180, hi=2880),
    "mass": fixed("kg", scale=1000),
    "planned": time(),
    "full": boolean(),
}
dep = stream("departed", key="flight", columns=COLUMNS)
arr = stream("arrived", key="flight", columns={"delay": fixed("min", lo=-180, hi=2880)})


def compiled(lateness="6h", spine=dep, **features):
    """Compile a set with the features as attributes in order."""
    return feature_set("test", spine=spine, lateness=lateness)(type("Test", (), features)).compile()


def test_the_public_names_are_these():
    assert sorted(package.__all__) == [
        "Batch", "ColumnType", "CompiledSet", "DefinitionError", "Engine", "FeatureSet", "HoldBack", "KERNEL", "Kind",
        "NULL", "Released", "Rows", "SnapshotError", "Stream", "boolean", "category", "feature_set", "fixed", "load",
        "stream", "time",
    ]  # fmt: skip


def test_features_keep_the_order_of_declaration():
    made = compiled(zulu=dep.delay, alpha=dep.by("gate").count("1h"))
    assert made.names == ("zulu", "alpha")


def test_the_spine_comes_first_and_only_needed_columns_are_asked_for():
    made = compiled(a=arr.by("flight").last("delay", ttl="1d"), b=dep.planned.local("UTC").hour)
    assert {name: sorted(columns) for name, columns in made.streams.items()} == {
        "departed": ["flight", "planned"],
        "arrived": ["delay", "flight"],
    }
    assert list(made.streams) == ["departed", "arrived"]
    assert made.spine == "departed"
    assert made.keys == {"departed": "flight", "arrived": "flight"}


def test_the_specification_is_plain_json_and_pinned():
    made = compiled(late=dep.by("gate").mean(dep.delay > 15, "7d"))
    assert made.spec == {
        "feature_set": "test",
        "kernel": 1,
        "lateness_us": 21_600_000_000,
        "streams": [
            {
                "name": "departed",
                "key": "flight",
                "columns": {
                    "delay": {"type": "fixed", "unit": "min", "scale": 1, "lo": -180, "hi": 2880},
                    "gate": {"type": "category"},
                },
            }
        ],
        "features": [
            {
                "name": "late",
                "op": "mean",
                "stream": "departed",
                "key": "gate",
                "value": {"column": "delay", "gt": 15},
                "window_us": 604_800_000_000,
            }
        ],
    }
    assert made.id == "sha256:6c309c811697a012d71e21c185d6588f0c687bbaad612141127f48d21f1ed885"


def test_a_loaded_specification_has_the_same_id_whatever_its_formatting(compiled):
    text = json.dumps(compiled.spec, indent=4, sort_keys=True)
    assert load(json.loads(text)) == compiled


def test_names_of_variables_and_unused_columns_do_not_change_the_id():
    other = stream("departed", key="flight", columns={"delay": fixed("min", lo=-180, hi=2880), "more": category()})
    assert compiled(x=dep.delay).id == compiled(x=other["delay"], spine=other).id


@pytest.mark.parametrize(
    "changed",
    [
        {"y": dep.by("gate").mean("delay", "1h")},
        {"x": dep.by("gate").mean("delay", "60s")},
        {"x": dep.by("gate").sum("delay", "1h")},
        {"x": dep.by("flight").mean("delay", "1h")},
        {"x": dep.by("gate").mean(dep.delay > 1, "1h")},
        {"x": dep.by("gate").mean("delay", "1h"), "lateness": "5h"},
    ],
)
def test_whatever_changes_a_value_changes_the_id(changed):
    assert compiled(**changed).id != compiled(x=dep.by("gate").mean("delay", "1h")).id


@pytest.mark.parametrize("change", [{"scale": 10}, {"lo": -100}, {"hi": 100}, {"unit": "h"}])
def test_scale_range_and_unit_are_part_of_the_id(change):
    other = stream(
        "departed", key="flight", columns={"delay": fixed(**{"unit": "min", "lo": -180, "hi": 2880} | change)}
    )
    assert compiled(x=dep.delay).id != compiled(x=other.delay, spine=other).id


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (dep.dellay, "x: departed has no column dellay; declare it, or take one of flight, gate"),
        (dep.by("gate").mean("dellay", "1h"), "x: departed has no column dellay"),
        (dep.by("gaet").count("1h"), "x: key gaet is not a column of departed; add the column"),
        (arr.by("gate").count("1h"), "x: key gate is not a column of arrived"),
        (dep.by("delay").count("1h"), r"x: key departed.delay is no category; declare it category\(\)"),
        (dep.by("gate").mean("delay", "0h"), "x: window is not positive"),
        (
            dep.by("gate").mean("delay", "1 hour"),
            "x: '1 hour' is not a duration: write a whole number and one of ms s m",
        ),
        (dep.by("gate").mean("gate", "1h"), "x: mean needs a number, not a category"),
        (dep.by("gate").max("planned", "1h"), "x: max needs a number, not a time"),
        (dep.by("gate").distinct("delay", "1h"), "x: distinct needs a category, not a fixed"),
        (dep.by("gate").sum("mass", "1h"), "x: sum of a column that has no declared range; declare lo= and hi="),
        (dep.gate, "x: a value needs a number, not a category"),
        (dep.gate > 3, "x: a comparison needs a number, not a category"),
        (dep.delay > 15.5, "x: delay is kept to 1/1 and cannot be compared with 15.5; raise the scale"),
        (dep.by("gate").mean(arr.delay > 15, "1h"), "x: arrived.delay is not a column of departed"),
        (arr.delay, "x: arrived.delay is not a column of departed"),
        (dep.delay.local("UTC").hour, r"x: delay is a fixed, not a time; declare it as time\(\)"),
        (dep.planned.local("Mars/Base").hour, "x: unknown zone 'Mars/Base'"),
        (dep.by("gate").decay_mean("delay", half_life="1h", horizon="1h", tick="2h"), "x: half_life and tick must be"),
        (dep.by("gate").decay_mean("delay", half_life="1h", horizon="1d", tick="1s"), "x: more than 10000 ticks"),
        (dep.by("gate"), "x: .* is not a feature; assign a column"),
    ],
)
def test_a_mistake_names_the_feature_the_problem_and_the_fix(feature, message):
    with pytest.raises(DefinitionError, match=f"^{message}"):
        compiled(x=feature)


@pytest.mark.parametrize("op", ["sum", "mean", "std"])
def test_sums_that_could_overflow_are_refused(op):
    wide = stream("departed", key="flight", columns={"big": fixed("kg", lo=0, hi=2**31 + 1)})
    with pytest.raises(DefinitionError, match=r"beyond 2\*\*31; declare lo= and hi=, or lower the scale"):
        compiled(x=getattr(wide.by("flight"), op)("big", "1h"), spine=wide)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (fixed("kg", scale=0), "scale 0"),
        (fixed("kg", lo=2, hi=1), "lo 2 is above hi 1"),
        (fixed("kg", lo=0, hi=2**54), "beyond"),
    ],
)
def test_a_range_that_cannot_be_stored_is_refused(kind, message):
    odd = stream("departed", key="flight", columns={"odd": kind})
    with pytest.raises(DefinitionError, match=message):
        compiled(x=odd.odd, spine=odd)


def test_two_streams_of_one_name_are_refused():
    twin = stream("departed", key="flight", columns={"gate": category()})
    with pytest.raises(DefinitionError, match="two streams are named departed"):
        compiled(a=dep.delay, b=twin.by("gate").count("1h"))


@pytest.mark.parametrize(
    "damage",
    [
        {"kernel": 2},
        {"streams": []},
        {"features": [{"name": "x"}]},
        {"lateness_us": "6h"},
        {"features": []},
        {"lateness_us": -1},
    ],
)
def test_a_specification_of_another_form_is_refused(damage):
    with pytest.raises(DefinitionError):
        load(compiled(x=dep.delay).spec | damage)
