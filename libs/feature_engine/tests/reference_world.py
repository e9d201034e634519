"""Two streams with columns of every type, and short ways to ask the reference evaluator about them."""

from dataclasses import replace

from libs.feature_engine.tests.definitions import BOOLEAN, CATEGORY, TIME, column, fixed, specification

from mainstem.feature_engine.reference import Applied, Reference

FOREVER = 10**15
STREAMS = {
    "order": {
        "shop": CATEGORY,
        "item": CATEGORY,
        "amount": fixed(100, -5000, 50000),
        "weight": fixed(1000, 0, 10**9),
        "tenth": fixed(10),
        "quarter": fixed(4),
        "sixth": fixed(6),
        "large": fixed(1),
        "rush": BOOLEAN,
        "due": TIME,
        "made": TIME,
    },
    "visit": {"shop": CATEGORY, "town": CATEGORY, "stars": fixed(1, 0, 5), "at": TIME},
}
AMOUNT, STARS, RUSH = column("amount"), column("stars"), column("rush")


def order(t, /, late_by=0, place=None, **columns):
    return Applied("order", t, t + late_by, columns, place)


def visit(t, /, late_by=0, place=None, **columns):
    return Applied("visit", t, t + late_by, columns, place)


def reference(lateness=FOREVER, /, **features):
    return Reference(specification(STREAMS, features, lateness))


def rows(evaluator, *records):
    """Give records to an evaluator in this order; return the rows of the spine."""
    found = []
    newest = 0
    for record in records:
        newest = max(newest, record.arrival_us)
        at = replace(record, arrival_us=newest)
        if record.stream == "order":
            found.append(evaluator.row(at))
        evaluator.apply(at)
    return found


def value(expression, **columns):
    """Return an expression of a spine record that is alone in the world."""
    return reference(it=expression).row(order(0, **columns))[0]


def at_end(expression, *records, lateness=FOREVER):
    """Return an expression of the last record."""
    return rows(reference(lateness, it=expression), *records)[-1][0]
