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
    target,
    time,
    where,
    window,
)
from mainstem.feature_engine.column_types import number_type

COLUMNS = {
    "gate": category(),
    "delay": fixed("min", lo=-180, hi=2880),
    "mass": fixed("kg", scale=1000),
    "planned": time(),
    "full": boolean(),
}
dep = stream("departed", key="flight", columns=COLUMNS)
arr = stream("arrived", key="flight", columns={"delay": fixed("min", lo=-180, hi=2880)})


def compiled(lateness="6h", spine=dep, version=1, **features):
    """Compile a set with the features as attributes in order."""
    return feature_set("test", spine=spine, lateness=lateness, version=version)(type("Test", (), features)).compile()


def test_the_public_names_are_these():
    assert sorted(package.__all__) == [
        "Aggregates", "Assembler", "Batch", "ColumnType", "CompiledSet", "DefinitionError", "Engine", "FIRST_INSTANT",
        "FeatureSet", "HoldBack", "KERNEL", "Kind", "LAST_INSTANT", "NULL", "Released", "Rows", "Shard",
        "SnapshotError", "Stream", "boolean", "category", "feature_set", "fixed", "index_name", "load", "prepare",
        "shard_of", "stream", "table", "target", "time", "where", "window",
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
    made = compiled(late=dep.by("gate").mean(dep.delay > 15.5, "7d"))
    late = {"op": "gt", "args": [{"column": "delay"}, {"number": 155, "scale": 10}]}
    place = {"aggregate": "mean", "stream": "departed", "by": "gate", "at": "gate"}
    delay = {"type": "fixed", "unit": "min", "scale": 1, "lo": -180, "hi": 2880}
    assert made.spec == {
        "feature_set": "test",
        "version": 1,
        "kernel": 2,
        "lateness_us": 21_600_000_000,
        "streams": [{"name": "departed", "key": "flight", "columns": {"delay": delay, "gate": {"type": "category"}}}],
        "features": [{"name": "late", "value": {**place, "value": late, "window_us": 604_800_000_000, "hop_us": 0}}],
        "target": None,
    }
    assert made.id == "sha256:bacf80679956c02d1e54777cfda96539443a4762ece0c81d9181e952a006b06d"


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
        {"x": dep.by("gate").mean("delay", window("1h", hop="5m"))},
        {"x": dep.by("gate", at="flight").mean("delay", "1h")},
        {"x": -dep.by("gate").mean("delay", "1h")},
        {"x": dep.by("gate").mean(dep.delay + 1, "1h")},
        {"x": dep.by("gate").last("delay", ttl="1h")},
        {"x": dep.by("gate").last("delay", ttl=None)},
        {"x": dep.by("gate").mean("delay", "1h"), "lateness": "5h"},
        {"x": dep.by("gate").mean("delay", "1h"), "version": 2},
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
        (arr.by("flight", at="plane").count("1h"), "x: key plane is not a column of departed; .* say at="),
        (dep.by("delay").count("1h"), r"x: key departed.delay is no category; declare it category\(\)"),
        (dep.by("gate").mean("delay", "0h"), "x: the window is not positive"),
        (dep.by("gate").mean("delay", "1 hour"), "x: '1 hour' is not a duration: write a whole number and one of ms s"),
        (dep.by("gate").mean("delay", "101w"), None),
        (dep.by("gate").mean("delay", "36601d"), "x: the window is not positive or above 100 years"),
        (dep.by("gate").mean("delay", window("1h", hop="2h")), "x: the hop is negative or longer than the window"),
        (dep.by("gate").mean("gate", "1h"), "x: mean needs a number or a truth, not a category"),
        (dep.by("gate").max("planned", "1h"), "x: max needs a number or a truth, not a time"),
        (dep.by("gate").distinct("delay", "1h"), "x: distinct needs a category, not a fixed"),
        (dep.by("gate").sum("mass", "1h"), "x: sum of a value that has no declared range; declare lo= and hi="),
        (dep.by("gate").std(dep.delay * dep.delay * dep.delay, "1h"), r"x: std of a value .* beyond 2\*\*31; narrow"),
        (dep.by("gate").mean(dep.delay / 2, "1h"), "x: mean of a quotient; aggregate numerator and denominator"),
        (dep.by("gate").mean(dep.by("gate").count("1h"), "1h"), "x: mean of another aggregate; aggregate the columns"),
        (dep.gate, "x: a feature needs a number or a truth, not a category"),
        (dep.planned, "x: a feature needs a number or a truth, not a time"),
        (dep.gate > 3, "x: a category cannot be compared with a number; compare things of one kind"),
        (dep.gate > "B", "x: categories have no order; compare them by == or !="),
        (dep.full == (dep.delay > 3), "x: truths are not compared; use &"),
        (dep.delay & dep.full, "x: and needs a truth, not a number; take a boolean column or a comparison"),
        (dep.full + 1, r"x: \+ needs a number, not a truth; take a number, .* where\(truth, 1, 0\)"),
        (dep.delay + dep.mass, r"x: cannot add kg and min; bring them to one unit first"),
        (where(dep.delay, 1, 0), "x: where needs a truth, not a number"),
        (where(dep.full, dep.delay, dep.full), r"x: where\(\) cannot choose between a number and a truth"),
        (dep.delay.clip(60, 0), r"x: clip\(\) needs two numbers, the smaller first; write clip\(0, 60\)"),
        (dep.mass * dep.mass * dep.mass, "x: a value on the way could leave 64 bits; declare narrower lo= and hi="),
        (dep.delay + 2**60, r"x: a value could be beyond 2\*\*53, where float64 is no longer exact"),
        (dep.delay * 1e-10, r"x: the scale 10000000000 is beyond 2\*\*30"),
        (dep.delay * float("nan"), "x: nan is no number; write a finite number"),
        (dep.delay + None, r"x: None is no value; ask for it by x.is_null\(\); take a column"),
        (dep.by("gate").mean(arr.delay > 15, "1h"), "x: arrived.delay is not a column of departed"),
        (arr.delay, "x: arrived.delay is not a column of departed; take a column of departed, or an aggregate of arr"),
        (dep.delay.local("UTC").hour, r"x: a number has no local time; take a column declared as time\(\)"),
        (dep.planned.local("Mars/Base").hour, "x: unknown zone 'Mars/Base'"),
        (
            dep.by("gate").decay_mean("delay", half_life="1h", horizon="1h", tick="2h"),
            "x: the tick is not positive or longer",
        ),
        (dep.by("gate").decay_mean("delay", half_life="1h", horizon="1h", tick="0s"), "x: the tick is not positive or"),
        (dep.by("gate").decay_mean("delay", half_life="0h", horizon="1h", tick="1m"), "x: the half_life is not positi"),
        (dep.by("gate").decay_mean("delay", half_life="1h", horizon="0h", tick="1m"), "x: the horizon is not positive"),
        (dep.by("gate").last("delay", ttl="0h"), "x: the ttl is not positive or above 100 years; give a duration"),
        (dep.by("gate").decay_mean("delay", half_life="1h", horizon="1d", tick="1s"), "x: more than 10000 ticks"),
        (dep.by("gate"), "x: .* is not a feature; assign a column"),
        (dep.delay + target(arr.delay > 15, on="flight", wait="1d"), "x: it reads the target, which is not known yet"),
    ],
)
def test_a_mistake_names_the_feature_the_problem_and_the_fix(feature, message):
    if message is None:
        assert compiled(x=feature, y=dep.delay).names
        return
    with pytest.raises(DefinitionError, match=f"^{message}"):
        compiled(x=feature)


@pytest.mark.parametrize(("op", "bound"), [("sum", 2**53), ("mean", 2**53), ("std", 2**31)])
def test_sums_take_what_cannot_overflow_and_nothing_larger(op, bound):
    def summed(largest):
        wide = stream("departed", key="flight", columns={"big": fixed("kg", lo=-largest, hi=largest)})
        return compiled(x=getattr(wide.by("flight"), op)(wide.big * 1, "1h"), spine=wide)

    assert summed(bound).names == ("x",)
    with pytest.raises(DefinitionError, match=r"beyond 2\*\*(31|53)"):
        summed(2 * bound)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (number_type("kg", 0, None, None), "scale 0"),
        (number_type("kg", 1, 2, 1), "lo 2 is above hi 1"),
        (number_type("kg", 1, 0, 2**54), "beyond"),
    ],
)
def test_a_range_that_cannot_be_stored_is_refused_also_when_nobody_wrote_it(kind, message):
    odd = stream("departed", key="flight", columns={"odd": kind})
    with pytest.raises(DefinitionError, match=message):
        compiled(x=odd.odd, spine=odd)


def test_the_target_has_no_part_in_the_identity_and_is_no_feature():
    label = target(arr.delay > 15.5, on="flight", wait="24h")
    with_target, without = (
        compiled(x=dep.by("flight").count("1h"), late=label),
        compiled(x=dep.by("flight").count("1h")),
    )
    assert (with_target.id, with_target.names) == (without.id, ("x",))
    assert with_target.spec["target"] == {
        "name": "late", "stream": "arrived", "on": "flight", "column": "delay",
        "above": {"number": 155, "scale": 10}, "wait_us": 86_400_000_000,
    }  # fmt: skip
    assert load(json.loads(json.dumps(with_target.spec))) == with_target


def test_versions_of_a_set_go_by_labels():
    first, second = compiled(x=dep.delay), compiled(x=dep.delay, version=2)
    assert (first.label, second.label) == ("test", "test.v2")
    assert first.name == second.name == "test"


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"y": target(dep.delay + 1 > 3, on="flight", wait="1d")}, "y: a target is a column of a later record above"),
        (
            {"y": target(arr.delay > 3, on="gaet", wait="1d")},
            "y: departed has no column gaet; join by a category",
        ),
        ({"y": target(arr.late > 3, on="flight", wait="1d")}, "y: arrived has no column late; take a number"),
        ({"y": target(arr.flight > 3, on="flight", wait="1d")}, "y: arrived.flight is a category; take a number"),
        ({"y": target(arr.delay > 3, on="delay", wait="1d")}, "y: departed.delay is a fixed; join by a category"),
        ({"y": target(arr.delay > 3, on="flight", wait="0d")}, "y: the wait is not positive"),
        ({n: target(arr.delay > 3, on="flight", wait="1d") for n in "yz"}, "z: a set has one target"),
    ],
)
def test_a_target_that_means_nothing_is_refused(features, message):
    with pytest.raises(DefinitionError, match=f"^{message}"):
        compiled(x=dep.delay, **features)


@pytest.mark.parametrize(("settings", "message"), [({"lateness": "36601d"}, "lateness"), ({"version": 0}, "version 0")])
def test_a_set_that_means_nothing_is_refused(settings, message):
    with pytest.raises(DefinitionError, match=f"^test: {message}"):
        compiled(x=dep.delay, **settings)


def test_a_set_without_features_is_refused():
    with pytest.raises(DefinitionError, match=r"^test: it has no features; add at least one"):
        compiled()


def test_a_feature_is_no_truth_while_it_is_declared():
    with pytest.raises(TypeError, match=r"use &, \| and ~"):
        _ = dep.delay > 3 and dep.full


def test_two_streams_of_one_name_are_refused():
    twin = stream("departed", key="flight", columns={"gate": category()})
    with pytest.raises(DefinitionError, match="two streams are named departed"):
        compiled(a=dep.delay, b=twin.by("gate").count("1h"))


@pytest.mark.parametrize(
    "damage",
    [
        {"kernel": 1},
        {"version": 0},
        {"streams": []},
        {"features": [{"name": "x", "value": {"op": "pow", "args": [{"column": "delay"}, {"column": "delay"}]}}]},
        {"features": [{"name": "x", "value": {"op": "add", "args": [{"number": 1, "scale": 1}]}}]},
        {"features": [{"name": "x", "value": {"number": 10, "scale": 10}}]},
        {"features": [{"name": "x", "value": {"number": 1, "scale": 1}}]},
        {"features": [{"name": "x"}]},
        {"lateness_us": "6h"},
        {"features": []},
        {"lateness_us": -1},
    ],
)
def test_a_specification_of_another_form_is_refused(damage):
    with pytest.raises(DefinitionError):
        load(compiled(x=dep.delay).spec | damage)
