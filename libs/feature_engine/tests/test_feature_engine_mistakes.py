"""What an author may write by mistake, and what is said about it: the place, the problem and what to do."""

import copy
import json
import math
from datetime import timedelta

import numpy as np
import pytest

from mainstem.feature_engine import (
    DefinitionError,
    Engine,
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
from mainstem.feature_engine.reference import Reference
from mainstem.project import category as contract_category
from mainstem.project import fixed as contract_fixed
from mainstem.project import source

NAN = math.nan
money = fixed("eur", scale=100, lo=0, hi=500)
order = stream(
    "order",
    key="order",
    columns={
        "shop": category(),
        "amount": money,
        "weight": fixed("kg", scale=10, lo=0, hi=100),
        "open": fixed("eur"),
        "limit": fixed("1", lo=0, hi=1000),
        "rush": boolean(),
        "due": time(),
    },
)
visit = stream("visit", key="visit", columns={"shop": category(), "stars": fixed("star", lo=0, hi=5)})
refund = stream("refund", key="order", columns={"shop": category(), "amount": money})
shop, visits, refunds = order.by("shop"), visit.by("shop"), refund.by("shop")
mean, stars = shop.mean("amount", "1h"), visits.mean("stars", "1h")


def compiled(name="orders", spine=order, lateness="1h", version=1, **features):
    """Compile a set with the features as attributes in order."""
    features = features or {"x": order.amount}
    return feature_set(name, spine=spine, lateness=lateness, version=version)(type("Orders", (), features)).compile()


def said(make, *args, **settings):
    """Return what a definition error says, with the three things that every one has."""
    with pytest.raises(DefinitionError) as caught:
        make(*args, **settings)
    error = caught.value
    assert str(error) == f"{error.feature}: {error.problem}; {error.fix}"
    assert error.feature and error.problem and error.fix
    return str(error)


# Durations


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (shop.count(3600), "x: 3600 is not a duration; write a text like '90s', '6h' or '30d'"),
        (shop.mean("amount", order.amount), "x: the column order.amount is not a duration; write a text"),
        (shop.count(window("1h", hop="0s")), "x: the hop of a window is 0; take a hop within the window, or write the"),
        (shop.count(window("1h", hop=5)), "x: 5 is not a duration; write a text"),
        (shop.last("amount", ttl=timedelta(hours=1)), "x: datetime.timedelta(seconds=3600) is not a duration; write"),
        (shop.decay_mean("amount", half_life=1, horizon="1h", tick="1m"), "x: 1 is not a duration; write a text"),
        (shop.count("１h"), "x: '１h' is not a duration: write a whole number and one of ms s m h d w"),
        (
            shop.last("amount", ttl=window("1h", hop="5m")),
            "x: the ttl of last is a window with a hop; write a duration, ttl='6h'; a hop belongs to the windows",
        ),
        (
            shop.decay_mean("amount", half_life="1h", horizon=window("1h", hop="5m"), tick="1m"),
            "x: the horizon of decay_mean is a window with a hop; write a duration, horizon='6h'",
        ),
    ],
)
def test_what_is_no_duration_is_refused(feature, message):
    assert said(compiled, x=feature).startswith(message)


def test_the_lateness_and_the_wait_are_durations():
    assert said(compiled, lateness=6).startswith("orders: 6 is not a duration; write a text like '90s'")
    late = target(refund.amount > 0, on="order", wait=2)
    assert said(compiled, x=order.amount, y=late).startswith("y: 2 is not a duration; write a text like '90s'")


# Types of columns


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lo": math.nan}, "fixed('kg'): nan is no finite number; write lo= and hi= in the unit"),
        ({"lo": math.inf}, "fixed('kg'): inf is no finite number; write lo= and hi= in the unit"),
        ({"hi": "5"}, "fixed('kg'): '5' is no finite number; write lo= and hi= in the unit"),
        ({"hi": True}, "fixed('kg'): True is a truth; write lo= and hi= in the unit"),
        ({"scale": "100"}, "fixed('kg'): scale '100' is no whole number; write scale=100 to keep hundredths"),
        ({"scale": 1.5}, "fixed('kg'): scale 1.5 is no whole number; write scale=100 to keep hundredths"),
        ({"unit": None}, "fixed(None): it has no unit; write the unit as a text, 'eur'; what is counted has '1'"),
        (
            {"unit": "\ud800"},
            r"fixed('\ud800'): it has no unit; write the unit as a text, 'eur'; what is counted has '1'",
        ),
        ({"scale": 0}, "fixed('kg'): scale 0 is not in 1..2**30; write scale=100 to keep hundredths"),
        ({"scale": 2**40}, "fixed('kg'): scale 1099511627776 is not in 1..2**30; write scale=100 to keep hundredths"),
        ({"lo": 5, "hi": 1}, "fixed('kg'): lo 5 is above hi 1; swap them"),
        ({"hi": 2**54}, "fixed('kg'): range times scale is beyond 2**53; narrow the range or lower the scale"),
        ({"unit": ""}, "fixed(''): it has no unit; write the unit as a text, 'eur'; what is counted has '1'"),
    ],
)
def test_a_number_that_cannot_be_kept_is_refused_where_it_is_declared(settings, message):
    assert said(lambda: fixed(**{"unit": "kg"} | settings)) == message


def test_a_range_that_is_rounded_to_one_number_is_refused_where_it_is_read():
    small = stream("small", key="order", columns={"shop": category(), "share": fixed("1", lo=0, hi=0.4)})
    message = "x: at its scale 1 the range of share holds one number, 0; take a larger scale, or a wider range"
    assert said(compiled, x=small.share, spine=small) == message
    assert said(compiled, x=small.by("shop").mean("share", "1h")) == message


@pytest.mark.parametrize("kind", [category, fixed])
def test_a_type_is_called(kind):
    message = f"order.x: the function {kind.__name__} is no column type; call category(), time(), boolean() or fixed("
    assert said(stream, "order", key="order", columns={"x": kind}).startswith(message)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": 5}, "stream(): the name of the stream is 5, no text; write a text like 'order'"),
        ({"key": order.shop}, "order: the key is the column order.shop, no text; write a text like 'order'"),
        ({"columns": {5: category()}}, "order: the name of a column is 5, no text; write a text like 'amount'"),
        ({"name": "\ud800"}, r"stream(): the name of the stream '\ud800' is no Unicode text; write it without"),
    ],
)
def test_the_names_of_a_stream_are_texts(given, message):
    given = {"name": "order", "key": "order", "columns": {}} | given
    assert said(lambda: stream(given["name"], key=given["key"], columns=given["columns"])).startswith(message)


# Values


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (order.rush == True, "x: True is no value; take the truth itself, or ~ of it"),  # noqa: E712
        (order.amount == None, "x: None is no value; ask for it by x.is_null(); take a column, a number"),  # noqa: E711
        (
            order.amount is None,
            "x: False is not a feature; write x.is_null() for `x is None`, and compare by == and !=",
        ),
        (money, "x: the type of a column is not a feature; assign a column"),
        ((order.amount,), "x: a tuple (a comma at the end makes one) is not a feature; assign a column"),
        (order.amount > NAN, "x: nan is no number; write a finite number"),
        (mean * 10**400, "x: int too large to convert to float; write a finite number"),
        (order.shop == "\ud800", r"x: the constant '\ud800' is no Unicode text; write it without lone surrogates"),
        (order.amount + order, "x: the stream order is no value; take a column, a number, a text or an aggregate"),
        (order.amount + shop, "x: a group of order is no value; take a column, a number"),
        (order.amount > category, "x: the function category is no value; take a column, a number"),
        (order.amount > order.due.local("UTC"), "x: a local time is no value; take a column, a number"),
        (order, "x: the stream order is not a feature; assign a column, an expression or an aggregate of `by(...)`"),
        (order.due.local("UTC"), "x: a local time is not a feature; assign a column"),
        (shop.mean(visit, "1h"), "x: the stream visit is not a feature; assign a column"),
        (order.by(order.shop).count("1h"), "x: the key of by() is the column order.shop, no text; write a text like"),
        (visit.by("shop", at=order.shop).count("1h"), "x: the key of by() is the column order.shop, no text; write a"),
        (order.due.local(5).hour, "x: the zone is 5, no text; write a text like 'Europe/Paris'"),
        (order.due.local("Mars/Base").hour, "x: unknown zone 'Mars/Base'; take a name like 'Europe/Paris'"),
        (order.due.local("../../passwd").hour, "x: unknown zone '../../passwd'; take a name like 'Europe/Paris'"),
    ],
)
def test_what_is_no_value_is_refused_in_a_few_words(feature, message):
    assert said(compiled, x=feature).startswith(message)


def nested(operations):
    """Return an expression of so many operations, one inside the other."""
    found = order.amount
    for _ in range(operations):
        found = found / 2
    return found


def test_two_hundred_operations_may_stand_one_inside_the_other():
    spec = compiled(x=nested(200)).spec
    assert Engine(load(json.loads(json.dumps(spec)))).compiled.names == ("x",)
    assert Reference(spec) is not None


@pytest.mark.parametrize("operations", [201, 3_000])
def test_more_operations_inside_each_other_are_refused(operations):
    message = "x: more than 200 operations stand one inside the other; declare parts of it as features of their own"
    assert said(compiled, x=nested(operations)).startswith(message)


def test_an_expression_that_doubles_itself_is_refused():
    found = order.amount
    for _ in range(60):
        found = found + found
    assert said(compiled, x=found).startswith("x: it has more than 10000 parts; declare parts of it as features")


def test_a_specification_that_is_nested_too_deeply_is_refused():
    value = {"column": "amount"}
    for _ in range(5_000):
        value = {"op": "neg", "args": [value]}
    damaged = compiled().spec | {"features": [{"name": "x", "value": value}]}
    with pytest.raises(DefinitionError, match="compile it again from its source"):
        load(damaged)


# What Python has and the language has not


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: order.amount**2, r"a feature has no power: multiply, x \* x"),
        (lambda: 2**order.amount, "a feature has no power"),
        (lambda: order.amount % 7, "a feature has no remainder: take a part of .local"),
        (lambda: order.amount // 7, "a feature has no whole division: divide by /"),
        (lambda: order.rush ^ order.rush, r"a feature has no \^: of truths write \(a \| b\) & ~\(a & b\)"),
        (lambda: 1 << order.amount, "a feature has no << and >>: multiply or divide by the power of two"),
        (lambda: order.amount >> 1, "a feature has no << and >>"),
        (lambda: order.amount @ order.amount, "a feature has no @: a feature is one number"),
        (lambda: divmod(order.amount, 7), r"a feature has no divmod\(\): divide by /"),
        (lambda: np.log(order.amount), "operand 'Column' does not support ufuncs"),
        (lambda: np.where(order.rush, 1, 0), r"a feature is no array: .*, no functions of numpy"),
        (lambda: abs(order.amount), r"a feature has no abs\(\): write where\(x < 0, -x, x\)"),
        (lambda: round(order.amount, 2), r"a feature has no round\(\): declare the column with the scale="),
        (lambda: math.sqrt(mean), r"a feature is no number yet: write \+ - \* /, clip\(\) and where\(\)"),
        (
            lambda: order.amount > 5 & order.rush,
            r"a number is no truth: & and \| bind before a comparison, so write \(a",
        ),
        (lambda: int(mean), "a feature is no number yet"),
        (lambda: order.mean("amount", "1h"), r"the column order.mean is no function: group the stream first, like ord"),
        (lambda: list(order), r"0 is no column of order: give its name, like order\[\"amount\"\]"),
    ],
)
def test_what_the_language_has_not_is_a_type_error_that_says_what_to_write(write, message):
    with pytest.raises(TypeError, match=message):
        write()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: order.amount.mean("1h"), r'order.amount has no mean: group its stream first, like order.by\("shop"\)'),
        (lambda: (order.amount + 1).sum("1h"), "an expression has no sum: group its stream first"),
        (lambda: order.amount.abs, "the column order.amount has no abs: take one of clip, is_null, local"),
        (lambda: order.due.local("UTC").minute, "a local time has no minute: take one of hour, minute_of_day, day_of"),
        (lambda: shop.avg("amount", "1h"), "a group of order has no avg: take one of age, count, decay_mean, dist"),
    ],
)
def test_an_attribute_that_is_missing_is_an_error_that_names_those_there_are(write, message):
    with pytest.raises(AttributeError, match=message):
        write()


def test_an_expression_can_be_copied_and_multiplied_by_a_number_of_numpy():
    assert copy.deepcopy(order.amount).name == "amount"
    assert compiled(x=np.float64(2) * order.amount).id == compiled(x=2.0 * order.amount).id


# Units


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (mean + stars, "x: cannot add eur and star; bring them to one unit first: what is divided by a number has no"),
        (order.amount - visits.last("stars", ttl=None), "x: cannot sub eur and star; bring them to one unit first"),
        (mean > stars, "x: cannot compare eur and star; bring them to one unit first"),
        (where(mean > 3, mean, stars), "x: cannot choose between eur and star; bring them to one unit first"),
        (shop.std("amount", "1h") - stars.clip(0, 3), "x: cannot sub eur and star"),
        (shop.sum("amount", "1h") + shop.count("1h"), "x: cannot add 1 and eur"),
        (shop.age("amount", ttl=None) + order.weight, "x: cannot add kg and s"),
        (mean * order.weight + mean, "x: cannot add eur and eur·kg"),
    ],
)
def test_units_are_not_mixed_across_aggregates(feature, message):
    assert said(compiled, x=feature).startswith(message)


@pytest.mark.parametrize(
    "feature",
    [
        mean + refunds.mean("amount", "1h") - order.amount,
        mean + 5 - shop.count("1h") * 2.5 / 3,
        order.amount * order.limit - order.amount,  # so many at a price
        mean / stars + order.weight,  # a quotient of two units has none that is known
        mean / refunds.mean("amount", "1h") > 0.5,
        mean / refunds.mean("amount", "1h") - stars,  # a quotient of equal units is a plain number
        shop.sum("amount", "1h") / shop.count("1h") - mean,  # so many a record
        mean * shop.count("1h") - shop.sum("amount", "1h"),
        shop.count("1h") - refunds.distinct("shop", "1h") > order.limit,
        shop.sum(order.rush, "1h") - shop.count("1h"),
        shop.age("amount", ttl=None) / 60 - mean,  # brought to another unit by a number
        shop.mean(order.rush, "1h") * mean - order.open,
        shop.age("due", ttl=None) > visits.age("shop", ttl=None),
        where(order.shop == "A", mean, 0),
    ],
)
def test_equal_units_and_those_that_are_not_known_meet(feature):
    assert compiled(x=feature).names == ("x",)


# What ranges decide


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (
            order.amount > 1000,
            "x: a comparison with 1000 is decided beforehand, since the value is never above 500; take a number inside",
        ),
        (order.amount > 500, "x: a comparison with 500 is decided beforehand, since the value is never above 500"),
        (order.amount < 0, "x: a comparison with 0 is decided beforehand, since the value is never below 0"),
        (order.amount == -1, "x: a comparison with -1 is decided beforehand"),
        (mean > 500.5, "x: a comparison with 500.5 is decided beforehand, since the value is never above 500"),
        (shop.count("1h") < 0, "x: a comparison with 0 is decided beforehand, since the value is never below 0"),
        (shop.mean(order.amount > 600, "1h"), "x: a comparison with 600 is decided beforehand"),
        (order.due.local("UTC").hour > 24, "x: a comparison with 24 is decided beforehand"),
        (mean.clip(10, 5), "x: clip() needs two numbers, the smaller first; write clip(0, 60)"),
        (mean.clip(0, order.amount), "x: clip() needs two numbers, the smaller first; write clip(0, 60)"),
        (mean.clip(stars, 5), "x: clip() needs two numbers, the smaller first; write clip(0, 60)"),
        (order.amount.clip(600, 700), "x: clip(600, 700) lies outside of 0 to 500; clip within the range"),
        (shop.mean(order.amount.clip(-2, -1), "1h"), "x: clip(-2, -1) lies outside of 0 to 500; clip within the range"),
        (order.amount / 0, "x: a division by 0 is always null; divide by what is not always 0"),
        (mean / 0.0, "x: a division by 0 is always null; divide by what is not always 0"),
    ],
)
def test_what_the_ranges_decide_is_refused(feature, message):
    assert said(compiled, x=feature).startswith(message)


@pytest.mark.parametrize(
    "feature",
    [
        order.amount >= 500,
        order.amount <= 0,
        order.open > 10**6,
        order.due.local("UTC").hour < 24,
        order.amount.clip(500, 700),
        shop.sum("amount", "1h") > 10**6,
        (mean + 600) > 1000,
        shop.count("1h") > 0,
    ],
)
def test_the_ends_of_a_range_and_open_ranges_decide_nothing(feature):
    assert compiled(x=feature).names == ("x",)


# The target


def labelled(value, on="order", **settings):
    """Compile a set with a target."""
    return compiled(x=order.amount, y=target(value, on=on, wait="1d"), **settings)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (refund.amount > True, "y: a target is a column of a later record above a number; write target(paid.amount > "),
        (refund.amount > NAN, "y: nan is no number; write a finite number"),
        (refund.amount > math.inf, "y: inf is no number; write a finite number"),
        (refund.amount > 1e6, "y: by its range refund.amount is never above the number; take a number between its lo"),
        (refund.amount > 500, "y: by its range refund.amount is never above the number"),
        (refund.amount > -1, "y: by its range refund.amount is always above the number"),
        (order.amount > 3, "y: a target over the spine order labels a record by itself; take a column of the stream"),
        (refund, "y: a target is a column of a later record above a number; write target("),
    ],
)
def test_a_target_that_labels_nothing_is_refused(value, message):
    assert said(labelled, value).startswith(message)


@pytest.mark.parametrize(
    "use", [lambda t: t + 1, lambda t: 2 * t, lambda t: t > 0, lambda t: -t, lambda t: ~t, lambda t: True & t]
)
def test_no_value_is_made_of_a_target(use):
    with pytest.raises(TypeError, match=r"which is not known yet: compute inside target\("):
        use(target(refund.amount > 0, on="order", wait="1d"))


def test_a_set_is_no_parent_of_another():
    @feature_set("orders", spine=order, lateness="1h")
    class Orders:
        amount = order.amount

    with pytest.raises(TypeError, match="a set cannot inherit the features of orders: write all of them in its own"):

        class More(Orders):
            pass


def test_a_target_is_joined_by_the_name_of_a_column():
    assert said(labelled, refund.amount > 3, on=refund.order).startswith("y: on= is the column refund.order, no text")


@pytest.mark.parametrize("name", ["order", "visit"])
def test_a_target_over_a_second_stream_of_a_name_is_refused(name):
    twin = stream(name, key="order", columns={"amount": money})
    late = target(twin.amount > 3, on="order", wait="1d")
    message = f"y: two streams are named {name}; rename one, or declare it once and use that"
    assert said(compiled, x=visits.count("1h"), y=late) == message


def test_a_column_of_a_second_stream_of_a_name_is_refused():
    twin = stream("order", key="order", columns={"amount": money})
    assert (
        said(compiled, x=twin.amount) == "x: two streams are named order; rename one, or declare it once and use that"
    )


# The set


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"version": "2"}, "orders: version '2' is no whole number; count versions from 1"),
        ({"version": 1.5}, "orders: version 1.5 is no whole number; count versions from 1"),
        ({"version": True}, "orders: version True is no whole number; count versions from 1"),
        ({"version": 10_000}, "orders: version 10000 is above 9999; count versions from 1, one by one"),
        ({"spine": "order"}, "orders: the spine is 'order', no stream; give a stream, spine=order"),
        ({"spine": order.amount}, "orders: the spine is the column order.amount, no stream; give a stream"),
        ({"name": ""}, "'': it is no name of a feature set; take small letters, digits and _, a letter first"),
        ({"name": None}, "None: it is no name of a feature set; take small letters"),
        ({"name": "Bad Name!"}, "'Bad Name!': it is no name of a feature set; take small letters"),
        ({"name": "x.v2"}, "'x.v2': it is no name of a feature set; take small letters"),
    ],
)
def test_a_set_needs_a_name_a_spine_and_a_whole_version(settings, message):
    assert said(compiled, **settings).startswith(message)


def test_a_source_is_no_spine_but_its_stream_is():
    contract = source(
        "ordered",
        key="shop",
        columns={"shop": contract_category("the shop"), "amount": contract_fixed("costs", unit="eur", lo=0, hi=9)},
    )
    message = "orders: the spine is a SourceContract, no stream; give the stream of the source, spine=orders.stream()"
    ordered = contract.stream()
    assert said(compiled, spine=contract, x=ordered.amount) == message
    assert compiled(spine=ordered, x=ordered.amount).spine == "ordered"


@pytest.mark.parametrize("name", ["spine_id", "entity", "event_time", "recorded_time", "position", "label"])
def test_a_feature_has_not_the_name_of_another_column_of_a_row_file(name):
    message = f"{name}: a file of rows has a column of this name beside the features; take another name"
    assert said(compiled, **{name: order.amount}) == message


def test_the_target_may_be_named_label():
    assert compiled(x=order.amount, label=target(refund.amount > 0, on="order", wait="1d")).target.name == "label"


@pytest.mark.parametrize("name", ["", "a b", "1h", "__x", "\ud800"])
def test_a_feature_has_a_name_of_python(name):
    message = f"{name!r}: it is no name of a feature; write a name as Python has them, like mean_1h"
    assert said(compiled, **{name: order.amount}) == message


def test_features_are_not_inherited():
    class Usual:
        amount = order.amount

    class Orders(Usual):
        n = shop.count("1h")

    message = "'orders': Orders inherits amount of Usual; write all features of a set in its own class"
    assert said(feature_set("orders", spine=order, lateness="1h"), Orders) == message


# What was accepted before


def spec_of(value):
    """Return a specification as it would lie in an old event."""
    made = compiled(x=order.amount, m=mean, s=stars).spec
    return made | {"features": [{"name": "label", "value": value}]}


def test_an_old_specification_with_what_authors_are_refused_now_is_still_loaded():
    made = compiled(x=order.amount, m=mean, s=stars).spec
    amount, eur, star = (feature["value"] for feature in made["features"])
    ends = [{"number": 10, "scale": 1}, {"number": 5, "scale": 1}]
    for value in (
        {"op": "add", "args": [eur, star]},
        {"op": "clip", "args": [eur, *ends]},
        {"op": "gt", "args": [amount, {"number": 1000, "scale": 1}]},
        {"op": "div", "args": [amount, {"number": 0, "scale": 1}]},
    ):
        assert Engine(load(spec_of(value))).compiled.names == ("label",)
