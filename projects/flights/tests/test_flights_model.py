"""Fifteen features, folded by the real engine, are worth having: trained on spring, asked for the rest of the year."""

import numpy as np
import numpy.typing as npt
from projects.flights.data import Events
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from mainstem.feature_engine import Batch, CompiledSet, Engine
from mainstem.project import Decoder, ModelDefinition, ProjectDefinition

MAY_US = int(np.datetime64("2013-05-01T04:00:00", "us").astype(np.int64))
Floats = npt.NDArray[np.float64]


def accepted(project: ProjectDefinition, events: Events) -> tuple[dict[str, object], np.ndarray, np.ndarray]:
    decoder = Decoder(project.sources[events.source])
    faults = decoder.judge(events.payloads, events.keys, events.event_time_us, events.arrival_us).faults
    good = np.array([fault is None for fault in faults])
    payloads = [payload for payload, fine in zip(events.payloads, good, strict=True) if fine]
    return decoder.columns(payloads), events.event_time_us[good], events.arrival_us[good]


def folded(project: ProjectDefinition, feature_set: CompiledSet, honest: dict[str, Events]) -> Floats:
    parts = [accepted(project, honest[name]) for name in feature_set.streams]
    streams = np.repeat(np.arange(len(parts), dtype=np.int8), [len(times) for _, times, _ in parts])
    order = np.lexsort((streams, np.concatenate([arrival for _, _, arrival in parts])))
    times = np.concatenate([times for _, times, _ in parts])
    columns = {name: part[0] for name, part in zip(feature_set.streams, parts, strict=True)}
    return Engine(feature_set).process(Batch(streams[order], times[order], columns)).values


def labels(project: ProjectDefinition, model: ModelDefinition, honest: dict[str, Events]) -> tuple[Floats, np.ndarray]:
    """Return for each departure the delay at arrival (NaN = never known) and when it became known."""
    columns, _, arrival = accepted(project, honest[model.label.source])
    found = dict(zip(columns[model.label.key], zip(columns[model.label.column], arrival, strict=True), strict=True))
    departures = accepted(project, honest["flight_departed"])[0]["flight"]
    rows = [found.get(flight, (np.nan, 2**62)) for flight in departures]
    return np.array([delay for delay, _ in rows]), np.array([known for _, known in rows], np.int64)


def test_fifteen_features_reach_an_auc_of_0_91_and_beat_the_delay_at_departure_by_0_01(
    project: ProjectDefinition, honest: dict[str, Events]
) -> None:
    model = project.models["arrival_delay"]
    values = folded(project, project.feature_sets[model.feature_set].compiled, honest)
    delay, known = labels(project, model, honest)
    arrival = honest["flight_departed"].arrival_us
    spring = ~np.isnan(delay) & (known < MAY_US)
    rest = ~np.isnan(delay) & (arrival >= MAY_US)
    late = delay > model.label.above
    estimator = HistGradientBoostingClassifier(
        **model.estimator.params, early_stopping=False, random_state=model.seed
    ).fit(values[spring], late[spring])
    auc = roc_auc_score(late[rest], estimator.predict_proba(values[rest])[:, 1])
    assert spring.sum() == 105_427
    assert auc >= 0.910
    assert auc - roc_auc_score(late[rest], values[rest, 0]) >= 0.010
