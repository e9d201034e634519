"""Every instrument of the platform: its name, kind, unit, and what to do when it moves the wrong way."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mainstem.telemetry.timings import Timings

REGISTRY: Final = CollectorRegistry()

_CALL_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
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
PREDICTIONS: Final = Counter("mainstem_predictions", "Answers", ["model", "version", "channel"], registry=REGISTRY)
#: Feature rows that no version answered. Grows for a deployed model: not in effect yet, or its feature set changed.
UNSCORED: Final = Counter("mainstem_rows_unscored", "Rows without a version", ["model"], registry=REGISTRY)
#: Bytes of answers that wait on disk for the log. Grows: the broker is away; at the cap direct calls get 503.
SPOOL_BYTES: Final = Gauge("mainstem_spool_bytes", "Bytes in the spool", registry=REGISTRY)
#: Direct answers that this spool ever took. Its books: recorded - sent wait on disk, and nothing else is missing.
RECORDED: Final = Gauge("mainstem_predictions_recorded", "Direct answers recorded", registry=REGISTRY)
#: Of these what the log has acknowledged. Falls behind: the broker is away.
SENT: Final = Gauge("mainstem_predictions_sent", "Direct answers in the log", registry=REGISTRY)
#: Seconds from question to answer.
PREDICT_SECONDS: Final = Timings("mainstem_predict_seconds", "Time to answer", "channel", _CALL_SECONDS, REGISTRY)


def exposition() -> bytes:
    """Return all metrics in the Prometheus text format."""
    return generate_latest(REGISTRY)
