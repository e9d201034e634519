"""A call that does not fit says what is amiss and how it is written, whatever function of the language it is."""

import pytest

import mainstem.feature_engine as language
from mainstem.feature_engine import (
    DefinitionError,
    boolean,
    category,
    feature_set,
    fixed,
    stream,
    table,
    target,
    time,
    where,
    window,
)
from mainstem.feature_engine.expressions import AGGREGATES

order = stream(
    "order",
    key="order",
    columns={
        "shop": category(),
        "amount": fixed("eur", scale=100, lo=0, hi=500),
        "rush": boolean(),
        "due": time(),
        "name": category(),
        "key": category(),
        "columns": fixed("1", lo=0, hi=9),
        "by": fixed("1", lo=0, hi=9),
    },
)
shop = order.by("shop")
FUNCTIONS = {
    **{made.__name__: made for made in (boolean, category, feature_set, fixed, stream, table, target, time, where)},
    "window": window,
    "by": order.by,
    **{name: getattr(order.amount, name) for name in ("clip", "is_null", "local")},
    **{name: getattr(shop, name) for name in AGGREGATES},
}


def compiled(value):
    """Compile a set with one feature, x."""
    return feature_set("orders", spine=order, lateness="1h")(type("Orders", (), {"x": value})).compile()


def said(use):
    """Return what a definition error says."""
    with pytest.raises(DefinitionError) as caught:
        use()
    assert caught.value.feature and caught.value.problem and caught.value.fix
    return str(caught.value)


def test_no_function_of_the_language_is_left_out():
    functions = {name for name in language.__all__ if name.islower()} - {"index_name", "load", "prepare", "shard_of"}
    methods = {name for name in vars(type(order)) if not name.startswith("_")}
    assert set(FUNCTIONS) >= functions | methods | set(AGGREGATES)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("settings", [{}, {"nothing": 1}])
def test_too_many_values_and_settings_that_there_are_not_are_refused(name, settings):
    message = said(lambda: FUNCTIONS[name](*range(9), **settings))
    assert message.partition("()")[0].removeprefix("@") == name
    assert "without a name, not 9" in message
    assert ("it has no nothing=" in message) == bool(settings)
    assert f"; write {message.partition('(')[0]}(" in message


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"boolean", "category", "time", "is_null"}))
def test_a_call_without_anything_is_refused(name):
    assert ": it lacks " in said(FUNCTIONS[name])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: shop.last("amount"),
            'last(): it lacks ttl=; write last(value, ttl=...), like last("amount", ttl="1d")',
        ),
        (shop.count, 'count(): it lacks window; write count(window), like count("1h")'),
        (lambda: shop.sum("amount"), 'sum(): it lacks window; write sum(value, window), like sum("amount", "1h")'),
        (
            lambda: shop.max("amount", "1h", hop="5m"),
            "max(): it has no hop= (a hop is part of the window, window('1h', hop='5m')); write max(value, window), li",
        ),
        (lambda: shop.mean("amount", widow="1h"), "mean(): it has no widow= (window= is meant); write mean(value, win"),
        (
            lambda: shop.decay_mean("amount", "20m", "1h", "1m"),
            "decay_mean(): it takes 1 value without a name, not 4 (half_life=, horizon=, tick= by name); write decay_m",
        ),
        (lambda: order.by(at="shop"), 'by(): it lacks key; write by(key[, at=...]), like by("shop")'),
        (lambda: order.by("shop", key="shop"), "by(): key is given twice; write by(key[, at=...])"),
        (lambda: where(order.rush, 1), "where(): it lacks other; write where(condition, one, other), like where(order"),
        (lambda: order.amount.clip(1), "clip(): it lacks hi; write clip(lo, hi), like clip(0, 60)"),
        (fixed, "fixed(): it lacks unit; write fixed(unit[, scale=..., lo=..., hi=...]), like fixed("),
        (lambda: category("the shop"), "category(): it takes no value without a name, not 1; write category()"),
        (
            lambda: feature_set("orders", spine=order),
            "@feature_set(): it lacks lateness=; write @feature_set(name, spine=..., lateness=...[, version=...]),",
        ),
        (lambda: feature_set(type("Orders", (), {})), "@feature_set(): it lacks spine= and lateness=; write @feature"),
    ],
)
def test_a_call_says_what_it_lacks_and_how_it_is_written(call, message):
    assert said(call).startswith(message)


@pytest.mark.parametrize(
    "use",
    [
        lambda: shop.count > 5,
        lambda: 2 * shop.count,
        lambda: ~shop.count,
        lambda: shop.count == 5,
        lambda: shop.count.clip(0, 5),
        lambda: 5 if shop.count else 6,
    ],
)
def test_a_method_without_its_parentheses_is_no_value(use):
    message = "count(): the method count is used without its (); write count(window), like count("
    assert said(use).startswith(message)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda: shop.count, "x: the method count is used without its (); write count(window), like"),
        (lambda: order.rush & order.due.is_null, "x: the method is_null is used without its (); write is_null()"),
        (lambda: shop.mean(order.by, "1h"), 'a column of that name is written order["by"]'),
        (lambda: order.by, 'a column of that name is written order["by"]'),
    ],
)
def test_a_feature_of_a_method_without_its_parentheses_is_refused(value, message):
    assert message in said(lambda: compiled(value()))


def test_a_spine_whose_stream_was_not_called_is_refused():
    assert said(lambda: feature_set("orders", spine=order.by, lateness="1h")(type("O", (), {})).compile()).startswith(
        "orders: the method by is used without its ()"
    )


def test_a_column_is_itself_whatever_its_name():
    def ids(values):
        return [compiled(value).id for value in values]

    by_attribute = [order.columns, order.name == "A", shop.distinct(order.key, "1h"), shop.mean(order.columns, "1h")]
    by_item = [order["columns"], order["name"] == "A", shop.distinct("key", "1h"), shop.mean("columns", "1h")]
    assert ids(by_attribute) == ids(by_item)
    assert compiled(order["by"]).names == ("x",)


def test_an_attribute_that_begins_with_a_low_line_is_no_column():
    with pytest.raises(
        AttributeError, match=r'_x is no attribute of a stream: a column of that name is written \["_x"'
    ):
        _ = order._x


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: order.due.local("UTC").hour(), r"a part of a local time is no function: write it without \(\)"),
        (lambda: order("amount"), r'the stream order is no function: write order\["amount"\]'),
        (order.stream, r"the column order.stream is no function: write it without \(\)"),
        (lambda: shop("amount"), "a group of order is no function: take one of age, count"),
        (lambda: order.name[0], "the column order.name has no parts: it is compared"),
        (lambda: len(order.name), "the column order.name has no length: let the source send it"),
        (lambda: order.amount in (1, 2), "a feature is no truth while it is declared"),
    ],
)
def test_what_is_no_function_and_has_no_parts_says_so(use, message):
    with pytest.raises(TypeError, match=message):
        use()


def test_columns_are_given_by_name():
    message = "'order': its columns are a list; write each with its name, columns={"
    assert said(lambda: stream("order", key="order", columns=[category()])).startswith(message)


def test_a_set_is_a_class():
    message = "'orders': the function said is no class with features; write a class below @feature_set(...)"
    assert said(lambda: feature_set("orders", spine=order, lateness="1h")(said)).startswith(message)
