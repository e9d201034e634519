"""Every instrument of the platform: its name, kind, unit, and what to do when it moves the wrong way."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from typing_extensions import override

from mainstem.telemetry.counts import Counts
from mainstem.telemetry.timings import Timings
from mainstem.telemetry.told import Named, Told, added

REGISTRY: Final = CollectorRegistry()
#: Media type of the text format.
TEXT: Final = "text/plain; version=0.0.4"
_OPEN_METRICS: Final = "application/openmetrics-text"

_CALL_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_RUN_SECONDS: Final = (0.000005, 0.00001, 0.000025, 0.00005, *_CALL_SECONDS)
_ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

#: Records taken from a topic. Flat while lag grows: the service is stuck; look at its log.
RECORDS: Final = Counter("mainstem_records", "Records taken", ["topic"], registry=REGISTRY)
#: Records dropped as second copies. Grows after a crash of the writer; steady growth: two writers share a partition.
FENCED: Final = Counter("mainstem_records_fenced", "Second copies dropped", registry=REGISTRY)
#: Events written. Flat while records are taken: everything is refused; look at the quarantine.
EVENTS: Final = Counter("mainstem_events_published", "Events published", ["topic"], registry=REGISTRY)
#: Records known to lie ahead. Grows: too slow or stuck; add a worker or look at the log.
LAG: Final = Gauge("mainstem_lag_records", "Records ahead", ["topic", "partition"], registry=REGISTRY)
#: Seconds from receiving a batch to having applied it. Grows: look at the broker and at PostgreSQL.
BATCH_SECONDS: Final = Histogram("mainstem_batch_seconds", "Time to apply a batch", registry=REGISTRY, buckets=_SECONDS)
#: Records that broke their contract. Rises: `mainstem quarantine list` names the reasons.
QUARANTINED: Final = Counter("mainstem_quarantined", "Records quarantined", ["source", "reason"], registry=REGISTRY)
#: Records that no handler could take. Any: read the `parked` table and fix their writer.
PARKED: Final = Counter("mainstem_records_parked", "Records parked", ["topic"], registry=REGISTRY)
#: Records that a feature set did not apply since they were too late. Grows: `mainstem feature parked SET` has them.
FEATURE_LATE: Final = Counter("mainstem_feature_late", "Late records", ["feature_set", "stream"], registry=REGISTRY)
#: Values outside the range of `stream.column`, unknown of a set that is shared out. Any: the contract is wider.
FEATURE_OUT_OF_RANGE: Final = Counter(
    "mainstem_feature_out_of_range", "Values out of range", ["feature_set", "column"], registry=REGISTRY
)
#: Log time reached, seconds since 1970. Stands still: a source stopped announcing progress.
LOG_TIME: Final = Gauge("mainstem_log_time_seconds", "Recorded time reached", registry=REGISTRY)
#: Predictions that came after their window was closed. Grows: the label's `wait` is shorter than the way to monitoring.
LATE: Final = Counter("mainstem_predictions_late", "Predictions after their window", ["model"], registry=REGISTRY)
#: Feature rows evaluated again by other code, counted when told. Flat for a day of log time: the check is off or stuck.
ROWS_CHECKED: Final = Counter("mainstem_rows_checked", "Rows evaluated again", ["feature_set"], registry=REGISTRY)
#: Values among them that follow otherwise from the log. Any: `mainstem alert list`; do not trust the set meanwhile.
CELLS_DIFFERING: Final = Counter("mainstem_cells_differing", "Values differing", ["feature_set"], registry=REGISTRY)
#: Accepted records that the check has not applied yet. Grows: the check is slower than the fold; lower its fraction.
CHECK_BEHIND: Final = Gauge("mainstem_check_behind_records", "Records unchecked", ["feature_set"], registry=REGISTRY)
#: Recorded time up to which rows were checked, seconds since 1970. Stands still: no journal, or see the log.
CHECK_TIME: Final = Gauge("mainstem_check_time_seconds", "Recorded time checked", ["feature_set"], registry=REGISTRY)
#: VectorsChecked told so far of a set; the log has as many. Stands still: neither 200 rows nor a day since the last.
CHECKS_TOLD: Final = Gauge("mainstem_checks_told", "VectorsChecked told", ["feature_set"], registry=REGISTRY)
#: Answers given. Error share rises: look at the statuses and the log.
PREDICTIONS: Final = Counts("mainstem_predictions", "Answers", ["model", "version", "channel"], REGISTRY)
#: Feature rows that no version answered. Grows for a deployed model: not in effect yet, or its feature set changed.
UNSCORED: Final = Counter("mainstem_rows_unscored", "Rows without a version", ["model"], registry=REGISTRY)
#: Bytes of answers that wait on disk for the log. Grows: the broker is away; at the cap direct calls get 503.
SPOOL_BYTES: Final = Gauge("mainstem_spool_bytes", "Bytes in the spool", ["spool"], registry=REGISTRY)
#: Rows of answers and shadows that this spool ever took. Its books: recorded - sent wait on disk, no other is missing.
RECORDED: Final = Gauge("mainstem_predictions_recorded", "Direct answers recorded", ["spool"], registry=REGISTRY)
#: Of these what the log has acknowledged. Falls behind: the broker is away.
SENT: Final = Gauge("mainstem_predictions_sent", "Direct answers in the log", ["spool"], registry=REGISTRY)
#: Spools that cannot be read since serving began, or broke later. Any: the log names each; see the runbook `spool`.
SPOOLS_BROKEN: Final = Gauge("mainstem_spools_broken", "Spools that cannot be read", registry=REGISTRY)
#: Rows of direct answers that were recorded since the process began. Its books: answered = recorded + dropped.
ANSWERS_RECORDED: Final = Counts("mainstem_answers_recorded", "Answers recorded", ["model"], REGISTRY)
#: Rows that were answered and not recorded, as the project allows. Any: the broker is away, or the disk is full.
ANSWERS_DROPPED: Final = Counts("mainstem_answers_dropped", "Answers not recorded", ["model"], REGISTRY)
#: Rows that a shadow scored behind the answers.
SHADOWED: Final = Counter("mainstem_shadow_rows", "Rows scored by shadows", ["model", "version"], registry=REGISTRY)
#: Rows that a shadow did not score: late or too_many (it is too slow), not_loaded, failed, no_room (the spool is full).
SHADOW_SKIPPED: Final = Counter(
    "mainstem_shadow_rows_skipped", "Rows not scored by shadows", ["model", "version", "reason"], registry=REGISTRY
)
#: Seconds from question to answer.
PREDICT_SECONDS: Final = Timings("mainstem_predict_seconds", "Time to answer", ["channel"], _CALL_SECONDS, REGISTRY)

#: Direct calls that were answered.
CALLS: Final = Counts("mainstem_calls", "Calls answered", ["model", "version", "channel"], REGISTRY)
#: Direct calls that were not, by the kind of error; without a model: it is unknown, or the request cannot be read.
CALL_ERRORS: Final = Counts(
    "mainstem_call_errors", "Calls refused or failed", ["model", "version", "channel", "error"], REGISTRY
)
#: Rows of one run. All at 1 under load: calls do not come together; look at the clients' connections.
BATCH_ROWS: Final = Timings("mainstem_batch_rows", "Rows of a run", ["model", "version"], _ROWS, REGISTRY)
#: Seconds that the first call of a run waited for it. Grows: the worker is full; add workers.
QUEUE_SECONDS: Final = Timings("mainstem_queue_seconds", "Wait", ["model", "version"], _RUN_SECONDS, REGISTRY)
#: Seconds of one run of the model. Grows with the same rows: the processor is shared, or throttled.
COMPUTE_SECONDS: Final = Timings("mainstem_compute_seconds", "Runs", ["model", "version"], _RUN_SECONDS, REGISTRY)

#: Seconds since the newest record of a source that a model reads became known, in the worker that is behind most;
#: infinite before the first. Grows: the source is silent, or a worker does not follow the log; look at its log.
FEATURE_AGE: Final = Gauge("mainstem_feature_age_seconds", "Age of features", ["model", "source"], registry=REGISTRY)
#: Workers that refuse calls by entity: they read the log's past still, what they read is too old, or they cannot follow
#: it. Stays above 0: the refusal says why, and serving's log.
LOOKUPS_AWAY: Final = Gauge("mainstem_lookups_away", "Workers without look-ups", ["model"], registry=REGISTRY)


#: All of these, in their order.
_INSTRUMENTS: Final = tuple(
    each for each in list(globals().values()) if isinstance(each, Counts | Timings | MetricWrapperBase)
)


class Exposition(NamedTuple):
    """All metrics as text, and its media type."""

    content: bytes
    media_type: str


def exposition(others: Sequence[Told] = (), accept: str = "") -> Exposition:
    """Return all metrics, added up with what other processes `told`.

    They come with exemplars, as OpenMetrics, when that is accepted (`accept` as the header of HTTP has it), else in the
    Prometheus text format.
    """
    registry = REGISTRY
    if others:
        registry = CollectorRegistry()
        registry.register(_Sum(added([told(), *others])))
    if _OPEN_METRICS in accept:
        encode, media_type = choose_encoder(accept)
        return Exposition(encode(registry), media_type)
    return Exposition(generate_latest(registry), TEXT)


def form(accept: str) -> str:
    """Return the media type of what is given to who accepts that."""
    return choose_encoder(accept)[1] if _OPEN_METRICS in accept else TEXT


def told() -> Told:
    """Return all metrics of this process for another, which adds them to its own."""
    plain = [each for each in _INSTRUMENTS if isinstance(each, MetricWrapperBase)]
    return Told(
        {each.name: each.told() for each in _INSTRUMENTS if isinstance(each, Counts)},
        {each.name: each.told() for each in _INSTRUMENTS if isinstance(each, Timings)},
        _samples(each for each in plain if not isinstance(each, Gauge)),
        _samples(each for each in plain if isinstance(each, Gauge)),
    )


def left_behind(several: Sequence[Told]) -> Told:
    """Return what counts for ever of what processes `told` that are gone: what they counted, and not how they were.

    Without it the sums of a process that takes the place of another begin anew, which no counter of Prometheus may.
    """
    return added(several).lasting()


def _samples(instruments: Iterable[MetricWrapperBase]) -> dict[str, dict[Named, float]]:
    families = (family for each in instruments for family in each.collect())
    return {
        family.name: {(one.name, tuple(one.labels.items())): one.value for one in family.samples}
        for family in families
        if family.samples
    }


class _Sum(Collector):
    """What was told as the client library has it, by the instruments that are here."""

    def __init__(self, total: Told) -> None:
        self._total = total

    @override
    def collect(self) -> Iterator[Metric]:
        for instrument in _INSTRUMENTS:
            if isinstance(instrument, Counts):
                yield instrument.family(self._total.counts.get(instrument.name, {}))
            elif isinstance(instrument, Timings):
                yield instrument.family(self._total.timings.get(instrument.name, {}))
            else:
                yield from map(self._sampled, instrument.describe())

    def _sampled(self, family: Metric) -> Metric:
        found = {**self._total.sampled.get(family.name, {}), **self._total.gauges.get(family.name, {})}
        family.samples = [Sample(name, dict(labels), value) for (name, labels), value in found.items()]
        return family
