"""The reference evaluator on aggregates, lateness and what it keeps: every number here was worked out by hand."""

import doctest
import math

import pytest
from libs.feature_engine.tests.definitions import (
    as_of,
    column,
    decay_mean,
    number,
    op,
    random_specification,
    specification,
    windowed,
)
from libs.feature_engine.tests.random_logs import random_log
from libs.feature_engine.tests.reference_world import (
    AMOUNT,
    RUSH,
    STARS,
    STREAMS,
    at_end,
    order,
    reference,
    rows,
    visit,
)

from mainstem.feature_engine.reference import Contribution, Reference, wording

CENTURY = 366 * 100 * 86_400_000_000
COUNT_10 = windowed("count", "visit", "shop", window=10)
LAST = as_of("last", "visit", "shop", STARS, ttl=None)


def seen(expression, *stars, at=100):
    """Return an expression at `at`, after visits of (time, stars)."""
    visits = [visit(t, shop="a", stars=value) for t, value in stars]
    return at_end(expression, *visits, order(at, shop="a"))


def of_amounts(aggregate, *amounts):
    """Return an aggregate of a column over amounts."""
    log = [order(n, shop="a", amount=amount, large=amount) for n, amount in enumerate(amounts)]
    return at_end(aggregate, *log, order(50, shop="a"))


def over_amounts(name, value=AMOUNT):
    return windowed(name, "order", "shop", value, window=100)


# Which records count


@pytest.mark.parametrize(("t", "count"), [(89, 0), (90, 1), (99, 1), (100, 0), (101, 0)])
def test_a_window_holds_its_beginning_and_not_its_end(t, count):
    assert seen(COUNT_10, (t, 1)) == count


def test_a_record_is_answered_before_it_is_applied_and_ties_do_not_count():
    count = windowed("count", "order", "shop", window=10)
    assert rows(reference(n=count), *(order(t, shop="a") for t in (5, 5, 6, 5, 6))) == [[0], [0], [2], [0], [3]]


def test_asking_for_a_row_applies_nothing():
    evaluator = reference(n=windowed("count", "order", "shop", window=10))
    assert [evaluator.row(order(t, shop="a")) for t in (1, 2, 3)] == [[0], [0], [0]]


def test_a_record_that_comes_later_in_the_order_does_not_count_though_it_happened_before():
    log = [visit(95, shop="a"), order(100, shop="a"), visit(94, shop="a"), order(100, shop="a")]
    assert rows(reference(n=COUNT_10), *log) == [[1], [2]]


def test_a_record_that_comes_twice_counts_twice():
    assert seen(COUNT_10, (95, 1), (95, 1)) == 2


def test_only_records_of_the_same_key_count_and_the_empty_text_is_one():
    log = [visit(1, shop=""), visit(2, shop="a"), visit(3, shop=None), visit(4, shop="")]
    assert at_end(COUNT_10, *log, order(5, shop="")) == 2


def test_without_a_key_nothing_counts():
    values = {"count": None, "distinct": column("town")} | dict.fromkeys(["sum", "mean", "std", "min", "max"], STARS)
    every = {name: windowed(name, "visit", "shop", value, window=10) for name, value in values.items()}
    every["last"], every["age"] = LAST, as_of("age", "visit", "shop", STARS, ttl=None)
    every["decay_mean"] = decay_mean("visit", "shop", STARS, horizon=10, half_life=1, tick=1)
    expected = [0, 0, 0, *[None] * 7]
    log = [visit(1, shop="a", stars=1, town="x"), visit(1, shop=None, stars=1, town="x")]
    for spine in (order(2, shop=None), order(2, shop="nobody"), order(2)):
        assert rows(reference(**every), *log, spine) == [expected]


def test_the_key_may_be_looked_up_under_another_name():
    log = [visit(1, shop="a"), visit(2, shop="b"), visit(3, shop="b")]
    elsewhere = windowed("count", "visit", "shop", window=10, at="item")
    assert at_end(elsewhere, *log, order(4, shop="a", item="b")) == 2


@pytest.mark.parametrize(
    ("at", "t", "count"),
    [
        (21, 8, 1), (21, 7, 0),  # 21 - 10 = 11, and the hop before it begins at 8
        (22, 12, 1), (22, 11, 0),  # 22 - 10 = 12 is a whole hop itself
        (-1, -12, 1), (-1, -13, 0),  # -11 lies in the hop that begins at -12
        (21, 21, 0),
    ],
)  # fmt: skip
def test_a_window_with_a_hop_begins_at_a_whole_hop(at, t, count):
    assert seen(windowed("count", "visit", "shop", window=10, hop=4), (t, 1), at=at) == count


# What they come to


def test_nulls_count_as_records_only():
    log = [(95, 2), (96, None), (97, 6)]  # 6 stars are out of range
    assert seen(COUNT_10, *log) == 3
    of_stars = (windowed(name, "visit", "shop", STARS, window=10) for name in ("sum", "mean", "min", "std"))
    assert [seen(each, *log) for each in of_stars] == [2, 2, 2, None]


def test_the_sum_is_divided_once():
    assert of_amounts(over_amounts("sum"), 0.1, 0.2, 0.3) == 0.6
    assert 0.1 + 0.2 + 0.3 != 0.6
    assert of_amounts(over_amounts("sum")) == 0.0


def test_the_mean_is_one_division():
    assert of_amounts(over_amounts("mean"), 0.1, 0.2, 0.3, 0.4) == 100 / 400
    assert of_amounts(over_amounts("mean"), 0.01, 0.01, 0.02) == 4 / 300
    assert of_amounts(over_amounts("mean"), None) is None


def test_the_deviation_is_that_of_a_sample():
    # 100, 200, 450: 3 * 252500 - 750**2 = 195000, over 3 * 2 * 100**2.
    assert of_amounts(over_amounts("std"), 1, 2, 4.5) == math.sqrt(3.25)
    assert of_amounts(over_amounts("std"), 1, 1) == 0.0
    assert of_amounts(over_amounts("std"), 1) is None


def test_the_least_and_the_greatest():
    assert of_amounts(over_amounts("min"), 2, -0.5, 3) == -0.5
    assert of_amounts(over_amounts("max"), 2, -0.5, 3) == 3.0


def test_different_texts_are_counted_once():
    log = [visit(t, shop="a", town=town) for t, town in enumerate(["x", "X", "", None, "x", ""])]
    assert at_end(windowed("distinct", "visit", "shop", column("town"), window=10), *log, order(9, shop="a")) == 3


def test_a_sum_of_large_numbers_goes_to_the_nearest_float_and_ties_to_even():
    large = over_amounts("sum", column("large"))
    assert of_amounts(large, 2**53, 1) == 2.0**53
    assert of_amounts(large, 2**53, 1, 2) == 2.0**53 + 4
    assert of_amounts(large, 2**53, 2, 1, 1, 1) == 2.0**53 + 4
    assert of_amounts(large, *[2**53 - 1] * 3) == 27021597764222976.0 - 4 == float(3 * (2**53 - 1))


def test_numerator_and_denominator_are_floats_before_they_are_divided():
    # 2**54 + 1 becomes 2**54, whose third is 6004799503160661.33; that of 2**54 + 1 would be ...661.67.
    mean = of_amounts(over_amounts("mean", column("large")), 2**53, 2**53, 1)
    assert mean == 6_004_799_503_160_661
    assert (2**54 + 1) / 3 == 6_004_799_503_160_662


def test_the_deviation_of_large_numbers_is_exact():
    # Of 3, 2 and 0 above 2**31 - 3: 3 * 13 - 25 = 14 over 6.
    assert of_amounts(over_amounts("std", column("large")), 2**31, 2**31 - 1, 2**31 - 3) == math.sqrt(14 / 6)


def test_a_truth_is_a_number_in_an_aggregate():
    happy = windowed("mean", "visit", "shop", op("gt", STARS, number(3)), window=10)
    assert seen(happy, (95, 3), (96, 4), (97, None), (98, 5), (99, 5)) == 3 / 4
    log = [order(n, shop="a", rush=rush) for n, rush in enumerate([True, False, True, None])]
    assert at_end(over_amounts("sum", RUSH), *log, order(9, shop="a")) == 2


def test_an_expression_in_an_aggregate_has_the_scale_of_its_arithmetic():
    product = over_amounts("sum", op("mul", AMOUNT, number(1, 10)))
    assert of_amounts(product, 0.1, 0.2) == 30 / 1000


# The last value and its age


def test_the_last_value_is_the_one_that_happened_last():
    assert seen(LAST, (95, 1), (97, 2), (96, 3)) == 2


def test_of_two_at_one_time_the_later_in_the_order_is_the_last():
    assert seen(LAST, (97, 1), (97, 2), (96, 3)) == 2


def test_the_last_value_is_not_null_and_not_of_now_or_later():
    assert seen(LAST, (95, 1), (97, None), (100, 3), (101, 4)) == 1
    assert seen(LAST, (95, None)) is None


@pytest.mark.parametrize(("t", "found"), [(89, None), (90, 3), (99, 3)])
def test_a_value_exactly_as_old_as_the_ttl_counts(t, found):
    assert seen(as_of("last", "visit", "shop", STARS, ttl=10), (t, 3)) == found


def test_a_value_that_is_too_old_is_not_replaced_by_an_older_one_nor_hidden_by_a_null():
    assert seen(as_of("last", "visit", "shop", STARS, ttl=10), (80, 5), (91, 3), (95, None)) == 3
    assert seen(as_of("last", "visit", "shop", STARS, ttl=10), (80, 5), (89, 3)) is None


def test_the_age_is_in_seconds_since_the_last_value_of_any_type():
    age = as_of("age", "visit", "shop", STARS, ttl=None)
    assert seen(age, (1_000_000, 1), (2_000_000, None), at=2_500_000) == 1.5
    assert seen(age, (1, 1), at=4) == 3 / 1_000_000
    log = [visit(7, shop="a", town="x"), visit(8, shop="a", at=3), order(9, shop="a")]
    assert at_end(as_of("age", "visit", "shop", column("town"), ttl=2), *log) == 2 / 1_000_000
    assert at_end(as_of("age", "visit", "shop", column("at"), ttl=1), *log) == 1 / 1_000_000


# The decayed mean

DECAYED = decay_mean("visit", "shop", STARS, horizon=50, half_life=2, tick=1)


def test_weights_are_whole_numbers():
    # One tick is half a half-life: 2**23.5 = 11863283.2, and two are 2**23.
    assert seen(DECAYED, (99, 1), (98, 4)) == (11_863_283 * 1 + 8_388_608 * 4) / (11_863_283 + 8_388_608)


def test_ages_count_in_whole_ticks():
    by_tens = decay_mean("visit", "shop", STARS, horizon=50, half_life=10, tick=10)
    assert seen(by_tens, (91, 1), (90, 3)) == (2 * 1 + 1 * 3) / 3  # 9 µs are no tick, 10 are one
    assert seen(by_tens, (81, 1), (80, 3)) == (2 * 1 + 1 * 3) / 3


@pytest.mark.parametrize(("t", "found"), [(49, None), (50, 4), (99, 4), (100, None)])
def test_the_horizon_is_a_window(t, found):
    assert seen(decay_mean("visit", "shop", STARS, horizon=50, half_life=20, tick=1), (t, 4)) == found


def test_a_weight_of_one_half_is_zero_and_weights_of_nothing_make_null():
    assert seen(DECAYED, (52, 3)) == 3  # 24 half-lives: weight 1
    assert seen(DECAYED, (50, 3)) is None  # 25: one half, to even
    assert seen(DECAYED, (50, 3), (52, 5)) == 5
    assert seen(DECAYED, (51, 3), (52, 5)) == (1 * 3 + 1 * 5) / 2  # 24 and a half: 0.707, rounded up


# Lateness


@pytest.mark.parametrize(("late_by", "count"), [(0, 1), (20, 1), (21, 0)])
def test_a_record_is_too_late_by_its_own_arrival(late_by, count):
    log = [visit(95, late_by, shop="a"), order(100, 20, shop="a")]
    assert rows(reference(20, n=COUNT_10), *log) == [[count]]


def test_what_others_bring_makes_no_record_late():
    log = [visit(10**12, -(10**12), shop="a"), visit(95, shop="a"), order(100, shop="a")]
    assert rows(reference(0, n=COUNT_10), *log) == [[1]]


def test_a_spine_record_that_is_too_late_has_a_row_without_aggregates():
    features = {"n": COUNT_10, "none": op("is_null", COUNT_10), "amount": AMOUNT, "sum": op("add", COUNT_10, AMOUNT)}
    features["kept"] = op("where", op("is_null", COUNT_10), AMOUNT, COUNT_10)
    evaluator = reference(20, **features)
    evaluator.apply(visit(95, shop="a"))
    assert evaluator.row(order(100, 20, shop="a", amount=1.5)) == [1, 0, 1.5, 2.5, 1]
    assert evaluator.row(order(100, 21, shop="a", amount=1.5)) == [None, 1, 1.5, None, 1.5]


def test_a_spine_record_that_is_too_late_is_not_applied():
    evaluator = reference(20, n=windowed("count", "order", "shop", window=10))
    assert rows(evaluator, order(95, 21, shop="a"), order(100, 16, shop="a")) == [[None], [0]]


# What is kept


def keeping_all(spec):
    """Return the same set with a count over a century beside each aggregate, so that nothing may go."""
    spine, more = spec["streams"][0]["name"], []
    groups = {(s["name"], c) for s in spec["streams"] for c, kind in s["columns"].items() if kind["type"] == "category"}
    at = next(column for stream, column in sorted(groups) if stream == spine)
    for number_, (stream, by) in enumerate(sorted(groups)):
        everything = windowed("count", stream, by, window=CENTURY, at=at)
        more.append({"name": f"all{number_}", "value": everything})
    return spec | {"features": [*spec["features"], *more]}


def test_dropping_changes_no_value():
    dropped = 0
    for seed in range(60):
        spec = random_specification(seed)
        if not any("aggregate" in str(feature) for feature in spec["features"]):
            continue
        lean, full = Reference(spec), Reference(keeping_all(spec))
        for record in random_log(spec, seed, 400):
            if record.stream == spec["streams"][0]["name"]:
                assert lean.row(record) == full.row(record)[: len(spec["features"])], (seed, record.place)
            lean.apply(record)
            full.apply(record)
        dropped += len(full) > 2 * len(lean)
    assert dropped > 10


def test_a_value_for_ever_outlives_what_is_dropped():
    evaluator = reference(10, last=LAST, n=COUNT_10)
    rows(evaluator, visit(1, shop="a", stars=4), *(visit(t, shop="a") for t in range(2, 2000)))
    assert evaluator.row(order(2000, shop="a")) == [4, 10]
    assert len(evaluator) < 100


def test_without_lateness_a_window_is_kept_and_no_more():
    evaluator = reference(0, n=COUNT_10)
    rows(evaluator, *(visit(t, shop="a") for t in range(10_000)))
    assert evaluator.row(order(10_000, shop="a")) == [10]
    assert len(evaluator) < 50


# The records behind a value


def test_each_record_behind_an_aggregate_is_listed_with_its_value():
    evaluator = reference(mean=windowed("mean", "visit", "shop", STARS, window=10))
    log = [(97, 3), (95, 5), (89, 1), (96, None)]
    rows(evaluator, *(visit(t, 0, f"v{t}", shop="a", stars=stars) for t, stars in log))
    mean = "visit.by(shop).mean(stars, window=10us)"
    assert evaluator.behind(order(100, 0, "o", shop="a"), "mean") == [
        Contribution(mean, "v95", 95, 5.0),
        Contribution(mean, "v97", 97, 3.0),
        Contribution("shop", "o", 100, "a"),
    ]


def test_all_aggregates_of_an_expression_are_listed_once_with_the_columns_of_the_spine():
    busy = op("add", op("where", op("gt", COUNT_10, number(0)), LAST, AMOUNT), COUNT_10)
    evaluator = reference(it=busy)
    rows(evaluator, visit(95, 0, 1, shop="a", stars=2), visit(95, 0, 2, shop="a", stars=2))
    behind = evaluator.behind(order(100, 0, 3, shop="a", amount=1.5), "it")
    assert [(each.of, each.place, each.value) for each in behind] == [
        ("visit.by(shop).count(window=10us)", 1, 1.0),
        ("visit.by(shop).count(window=10us)", 2, 1.0),
        ("visit.by(shop).last(stars, ttl=any)", 2, 2.0),
        ("shop", 3, "a"),
        ("amount", 3, 1.5),
    ]


def test_a_dropped_value_still_names_its_record():
    evaluator = reference(10, last=LAST)
    rows(evaluator, visit(1, 0, "first", shop="a", stars=4), *(visit(t, shop="a") for t in range(2, 500)))
    assert evaluator.behind(order(500, shop="a"), "last")[0] == Contribution(
        "visit.by(shop).last(stars, ttl=any)", "first", 1, 4.0
    )


def test_behind_a_spine_record_that_is_too_late_is_only_what_it_carries():
    evaluator = reference(0, it=op("add", COUNT_10, AMOUNT))
    evaluator.apply(visit(95, shop="a"))
    late = order(100, 1, "o", shop="a", amount=2)
    assert [each.of for each in evaluator.behind(late, "it")] == ["shop", "amount"]


def test_a_feature_that_is_not_there_has_nothing_behind_it():
    with pytest.raises(KeyError, match="other"):
        reference(it=AMOUNT).behind(order(1), "other")


# What it does not read


def test_another_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel 1: this evaluator reads kernel 2"):
        Reference(specification(STREAMS, {"it": AMOUNT}, 0) | {"kernel": 1})


@pytest.mark.parametrize(
    "strange",
    [{"op": "log", "args": [AMOUNT]}, {"aggregate": "median", "stream": "order"}, {"aggregate": "last"}, {}, 7],
)
def test_an_expression_of_no_known_form_is_refused(strange):
    spec = specification(STREAMS, {"it": AMOUNT}, 0)
    with pytest.raises(ValueError, match="must be one that the compiler writes"):
        Reference(spec | {"features": [{"name": "it", "value": strange}]})


def test_arrivals_that_fall_are_refused():
    evaluator = reference(it=AMOUNT)
    evaluator.apply(order(5, place="first"))
    with pytest.raises(ValueError, match=r"'second' arrived at 4, an earlier one at 5: give .* in applied order"):
        evaluator.apply(order(4, place="second"))
    with pytest.raises(ValueError, match="arrived at 4"):
        evaluator.row(order(4))


def test_a_record_of_a_stream_that_is_not_in_the_set_is_refused():
    with pytest.raises(KeyError, match="visit"):
        reference(it=AMOUNT).apply(visit(1))


def test_a_record_of_another_stream_has_no_row():
    with pytest.raises(ValueError, match="a record of visit has no row: the spine is order"):
        reference(it=AMOUNT).row(visit(1))


def test_the_examples_in_the_docstrings_are_true():
    result = doctest.testmod(wording)
    assert (result.failed, result.attempted) == (0, 1)
