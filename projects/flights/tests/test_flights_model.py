"""Fifteen features, folded by the real engine, are worth having: trained on spring, asked for the rest of the year."""

import numpy as np
from projects.flights.data import Events
from projects.flights.tests.year import Accepted, Floats, Ints, Year, accepted
from sklearn.metrics import roc_auc_score

from mainstem.feature_engine import Engine
from mainstem.project import ModelDefinition, ProjectDefinition
from mainstem.training.engine import fit

MAY_US = int(np.datetime64("2013-05-01T04:00:00", "us").astype(np.int64))
#: Of the rest of the year, one flight in so many is asked for.
EVERY = 4


def labels(model: ModelDefinition, sources: dict[str, Accepted]) -> tuple[Floats, Ints]:
    """Return for each departure the delay at arrival (NaN = never known) and when it became known."""
    columns, _, arrival = sources[model.label.source]
    known = zip(columns[model.label.column], arrival.tolist(), strict=True)
    found = dict(zip(columns[model.label.key], known, strict=True))
    rows = [found.get(flight, (np.nan, 2**62)) for flight in sources["flight_departed"][0]["flight"]]
    return np.array([delay for delay, _ in rows]), np.array([known for _, known in rows], np.int64)


def test_fifteen_features_reach_an_auc_of_0_91_and_beat_the_delay_at_departure_by_0_01(
    project: ProjectDefinition, honest: dict[str, Events], year: Year
) -> None:
    model = project.models["arrival_delay"]
    feature_set = project.feature_sets[model.feature_set].compiled
    sources = {name: accepted(project, honest[name]) for name in {*feature_set.streams, model.label.source}}
    values = Engine(feature_set).process(year.batch(0, len(year))).values
    delay, known = labels(model, sources)
    spring = ~np.isnan(delay) & (known < MAY_US)
    rest = np.flatnonzero(~np.isnan(delay) & (honest["flight_departed"].arrival_us >= MAY_US))[::EVERY]
    late = (delay > model.label.above).astype(np.int64)
    estimator = fit(values[spring], late[spring], model.estimator.params, model.seed)
    auc = roc_auc_score(late[rest], estimator.predict_proba(values[rest])[:, 1])
    assert spring.sum() == 105_427
    assert auc >= 0.910
    assert auc - roc_auc_score(late[rest], values[rest, 0]) >= 0.010
