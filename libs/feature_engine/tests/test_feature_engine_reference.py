"""The reference evaluator on values and expressions: every number here was worked out by hand."""

import math

import pytest
from libs.feature_engine.tests.definitions import as_of, column, local, number, op, text, windowed
from libs.feature_engine.tests.reference_world import AMOUNT, RUSH, STARS, at_end, order, reference, value, visit

# Values as they are stored


@pytest.mark.parametrize(
    ("given", "kept"), [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (2.4999999999999996, 2), (7, 7)]
)
def test_a_number_is_rounded_to_the_scale_and_halves_to_even(given, kept):
    assert value(column("large"), large=given) == kept


@pytest.mark.parametrize(("given", "kept"), [(2.675, 2.68), (1.005, 1.0), (0.125, 0.12), (0.375, 0.38)])
def test_what_is_rounded_is_the_float_product(given, kept):
    # 2.675 lies below 267.5/100, but the float64 next to 2.675 * 100 is 267.5; 1.005 * 100 is 100.49999999999999.
    assert value(AMOUNT, amount=given) == kept


@pytest.mark.parametrize(
    ("given", "kept"), [(500.0, 500.0), (500.004, 500.0), (500.01, None), (-50, -50.0), (-51, None)]
)
def test_outside_the_range_is_null_and_both_ends_are_inside(given, kept):
    assert value(AMOUNT, amount=given) == kept


@pytest.mark.parametrize("given", [2**53 + 2, -(2.0**53) - 2, math.inf, -math.inf, math.nan, 10**400, None, "7"])
def test_what_is_no_exact_number_is_null(given):
    assert value(column("large"), large=given) is None
    assert value(column("large"), large=2**53) == 2.0**53


@pytest.mark.parametrize(
    ("given", "kept"), [(True, 1.0), (1, 1.0), (False, 0.0), (0, 0.0), (-1, None), (None, None), (7, None)]
)
def test_truths_are_one_zero_or_null(given, kept):
    assert value(RUSH, rush=given) == kept


@pytest.mark.parametrize(
    ("given", "known"), [(0, 1), (-62_135_510_400_000_000, 1), (2**62, 0), (-(2**63), 0), (None, 0)]
)
def test_times_are_those_of_the_calendar(given, known):
    assert value(op("is_null", column("due")), due=given) == 1 - known


def test_a_missing_column_is_null_and_an_empty_text_is_a_text():
    assert value(op("is_null", column("shop"))) == 1.0
    assert value(op("is_null", column("shop")), shop="") == 0.0


# Exact expressions


def test_a_sum_has_the_common_scale_and_one_division():
    both = op("add", column("quarter"), column("sixth"))
    assert value(both, quarter=0.25, sixth=1 / 6) == 5 / 12
    assert 5 / 12 != 0.25 + 1 / 6


def test_a_difference_of_tenths_is_exact():
    assert value(op("sub", column("tenth"), number(1, 10)), tenth=0.3) == 0.2
    assert 0.3 - 0.1 != 0.2


def test_a_product_has_the_product_of_the_scales():
    assert value(op("mul", column("tenth"), number(3)), tenth=0.1) == 0.3
    assert 0.1 * 3 != 0.3
    assert value(op("mul", AMOUNT, column("weight")), amount=0.07, weight=0.003) == 21 / 100_000


def test_the_negative_of_zero_has_no_sign():
    assert math.copysign(1, value(op("neg", AMOUNT), amount=0)) == 1
    assert value(op("neg", AMOUNT), amount=1.25) == -1.25


@pytest.mark.parametrize(("given", "kept"), [(-1, 0.125), (0.12, 0.125), (0.13, 0.13), (1.5, 1.5), (1.51, 1.5)])
def test_a_clip_keeps_its_bounds_exactly(given, kept):
    assert value(op("clip", AMOUNT, number(125, 1000), number(15, 10)), amount=given) == kept


def test_the_difference_of_times_is_in_seconds():
    elapsed = op("sub", column("due"), column("made"))
    assert value(elapsed, due=1_000_000, made=2_500_000) == -1.5
    assert value(elapsed, due=3, made=2) == 1e-06


@pytest.mark.parametrize(
    ("name", "below", "same", "above"),
    [("lt", 1, 0, 0), ("le", 1, 1, 0), ("gt", 0, 0, 1), ("ge", 0, 1, 1), ("eq", 0, 1, 0), ("ne", 1, 0, 1)],
)
def test_numbers_are_compared_as_rationals(name, below, same, above):
    compared = op(name, op("mul", column("tenth"), number(3)), number(3, 10))
    assert [value(compared, tenth=tenth) for tenth in (0, 0.1, 0.2)] == [below, same, above]


def test_rationals_differ_that_are_one_float():
    # 2**53 + 1/1000 has no float64 of its own.
    wide = op("gt", op("add", column("large"), number(1, 1000)), column("large"))
    assert value(wide, large=2**53) == 1.0


def test_times_are_compared_to_the_microsecond():
    before = op("lt", column("made"), column("due"))
    assert [value(before, made=made, due=10**15) for made in (10**15 - 1, 10**15)] == [1.0, 0.0]


def test_texts_are_equal_or_not():
    assert value(op("eq", column("shop"), text("a")), shop="a") == 1.0
    assert value(op("ne", column("shop"), text("a")), shop="A") == 1.0
    assert value(op("eq", column("shop"), column("item")), shop="", item="") == 1.0
    assert value(op("ne", column("shop"), column("item")), shop="a", item=None) is None


@pytest.mark.parametrize("name", ["add", "sub", "mul", "lt", "le", "gt", "ge", "eq", "ne"])
def test_arithmetic_and_comparison_with_null_are_null(name):
    assert value(op(name, AMOUNT, column("tenth")), amount=1) is None
    assert value(op(name, AMOUNT, column("tenth")), tenth=1) is None


NULL_LOGIC = [  # left, right, and, or
    (0, 0, 0, 0), (0, 1, 0, 1), (0, None, 0, None),
    (1, 0, 0, 1), (1, 1, 1, 1), (1, None, None, 1),
    (None, 0, 0, None), (None, 1, None, 1), (None, None, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right", "both", "either"), NULL_LOGIC)
def test_logic_has_three_values(left, right, both, either):
    one, other = op("gt", column("tenth"), number(0)), op("gt", column("large"), number(0))
    assert value(op("and", one, other), tenth=left, large=right) == both
    assert value(op("or", one, other), tenth=left, large=right) == either
    assert value(op("not", one), tenth=left) == (None if left is None else 1 - left)


@pytest.mark.parametrize(("rush", "chosen"), [(True, 0.5), (False, None), (None, None)])
def test_where_reads_only_what_it_chooses(rush, chosen):
    assert value(op("where", RUSH, column("quarter"), column("sixth")), rush=rush, quarter=0.5) == chosen


def test_where_brings_both_choices_to_one_scale():
    chosen = op("where", RUSH, column("quarter"), column("sixth"))
    assert value(chosen, rush=False, sixth=1 / 6) == 2 / 12
    assert value(op("mul", chosen, number(1, 10)), rush=True, quarter=0.75) == 9 / 120


def test_is_null_is_never_null():
    assert value(op("is_null", op("add", AMOUNT, column("tenth"))), amount=1) == 1.0
    assert value(op("is_null", op("add", AMOUNT, column("tenth"))), amount=1, tenth=1) == 0.0


# Local times


def clock(zone, second, micro=0):
    """Return hour, minute of day, day of week and hour of week."""
    parts = ["hour", "minute_of_day", "day_of_week", "hour_of_week"]
    evaluator = reference(**{part: local(part, zone, column("due")) for part in parts})
    return evaluator.row(order(0, due=second * 1_000_000 + micro))


def test_the_hour_that_new_york_has_twice_is_one_hour():
    # Sunday 2013-11-03: 05:59:59 UTC is 01:59:59 EDT, 06:00 UTC is 01:00 EST, 07:00 UTC is 02:00 EST.
    midnight = 1_383_436_800
    assert clock("America/New_York", midnight + 6 * 3600, -1) == [1, 119, 6, 145]
    assert clock("America/New_York", midnight + 6 * 3600) == [1, 60, 6, 145]
    assert clock("America/New_York", midnight + 7 * 3600) == [2, 120, 6, 146]


def test_the_hour_that_new_york_leaves_out_is_left_out():
    # Sunday 2013-03-10: 06:59:59 UTC is 01:59:59 EST, 07:00 UTC is 03:00 EDT.
    midnight = 1_362_873_600
    assert clock("America/New_York", midnight + 7 * 3600, -1) == [1, 119, 6, 145]
    assert clock("America/New_York", midnight + 7 * 3600) == [3, 180, 6, 147]


def test_lord_howe_moves_by_half_an_hour():
    # Sunday 2013-10-06 02:00 at UTC+10:30 is 02:30 at UTC+11; that is 15:30 UTC of Saturday the 5th.
    change = 1_380_931_200 + 15 * 3600 + 1800
    assert clock("Australia/Lord_Howe", change, -1) == [1, 119, 6, 145]
    assert clock("Australia/Lord_Howe", change) == [2, 150, 6, 146]


def test_the_year_ends_earlier_in_kathmandu():
    # Tuesday 2013-12-31 23:30 UTC is Wednesday 05:15 at UTC+5:45.
    assert clock("UTC", 1_388_532_600) == [23, 1410, 1, 47]
    assert clock("Asia/Kathmandu", 1_388_532_600) == [5, 315, 2, 53]


def test_the_instant_before_1970_is_the_evening_of_a_wednesday():
    assert clock("UTC", 0, -1) == [23, 1439, 2, 71]
    assert reference(it=local("hour", "UTC", column("due"))).row(order(0)) == [None]


# Expressions over features


COUNT = windowed("count", "order", "shop", window=100)
SUM = windowed("sum", "order", "shop", AMOUNT, window=100)
NOTHING = windowed("min", "order", "shop", AMOUNT, window=100)


def over(expression, *amounts, **columns):
    """Return an expression at a record of the shop that comes after records of these amounts."""
    earlier = [order(n, shop="a", amount=amount) for n, amount in enumerate(amounts)]
    return at_end(expression, *earlier, order(50, shop="a", **columns))


def test_each_operation_is_one_of_floats_in_the_order_written():
    tenths = op("add", op("add", SUM, column("tenth")), number(3, 10))
    assert over(tenths, 0.1, tenth=0.2) == 0.1 + 0.2 + 0.3 == 0.6000000000000001
    assert over(op("add", SUM, op("add", column("tenth"), number(3, 10))), 0.1, tenth=0.2) == 0.1 + 0.5 == 0.6


def test_a_division_makes_floats_of_both_sides():
    assert value(op("div", AMOUNT, column("tenth")), amount=0.3, tenth=0.1) == 0.3 / 0.1 == 2.9999999999999996


@pytest.mark.parametrize(("name", "found"), [("sub", -1.0), ("mul", 2.0), ("div", 0.5), ("lt", 1.0), ("ge", 0.0)])
def test_the_operations_of_rows(name, found):
    assert over(op(name, COUNT, number(2)), 5) == found


def test_division_by_zero_is_null_and_so_is_what_is_not_finite():
    assert over(op("div", number(1), COUNT)) is None
    power = op("div", column("large"), number(1))
    for _ in range(4):
        power = op("mul", power, power)
    assert value(power, large=2**53) == 2.0**848
    assert value(op("mul", power, power), large=2**53) is None
    assert value(op("neg", op("mul", power, power)), large=2**53) is None


def test_the_negative_of_no_records_is_the_float_minus_zero():
    assert math.copysign(1, over(op("neg", COUNT))) == -1


@pytest.mark.parametrize(("amount", "kept"), [(0.05, 0.1), (0.1, 0.1), (1.0, 1.0), (2.0, 1.5)])
def test_a_row_is_clipped_to_the_floats_of_its_bounds(amount, kept):
    assert over(op("clip", SUM, number(1, 10), number(15, 10)), amount) == kept


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "lt", "le", "gt", "ge", "eq", "ne"])
def test_a_null_feature_makes_null(name):
    assert over(op(name, COUNT, NOTHING)) is None
    assert over(op(name, NOTHING, COUNT)) is None
    assert over(op("clip", NOTHING, number(0), number(1))) is None


@pytest.mark.parametrize(("left", "right", "both", "either"), NULL_LOGIC)
def test_logic_over_features_has_three_values_too(left, right, both, either):
    one = op("gt", as_of("last", "visit", "shop", STARS, ttl=None), number(0))
    other = op("gt", column("tenth"), number(0))
    log = [visit(0, shop="a", stars=left), order(5, shop="a", tenth=right)]
    assert at_end(op("and", one, other), *log) == both
    assert at_end(op("or", one, other), *log) == either
    assert at_end(op("not", one), *log) == (None if left is None else 1 - left)


def test_where_over_features():
    assert over(op("where", op("gt", COUNT, number(0)), SUM, NOTHING), 2.5) == 2.5
    assert over(op("where", op("gt", COUNT, number(0)), NOTHING, number(-1))) == -1.0
    assert over(op("where", op("gt", NOTHING, number(0)), COUNT, COUNT)) is None
    assert over(op("where", RUSH, COUNT, SUM), 2.5, rush=False) == 2.5


def test_whether_a_feature_is_null():
    assert over(op("is_null", NOTHING)) == 1.0
    assert over(op("is_null", NOTHING), 1.0) == 0.0
