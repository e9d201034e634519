import json
import logging
import re
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from mainstem.telemetry import Tracer, configure, logger, metrics
from mainstem.telemetry.timings import Timings

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = (f"00-{TRACE}-{SPAN}-{flags}".encode() for flags in ("01", "00"))
OFF = Tracer("off", None)


def spans(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "trial.ndjson").read_text().splitlines()]


def test_a_sampled_record_is_followed_in_the_same_trace(tmp_path: Path) -> None:
    tracer = Tracer("trial", tmp_path)
    after = tracer.step(SAMPLED, "process src.orders", {"event.id": "e"})
    tracer.close()
    (span,) = spans(tmp_path)
    assert span["name"] == "process src.orders"
    assert (span["parent_id"], span["attributes"]) == (f"0x{SPAN}", {"event.id": "e"})
    assert after is not None
    assert re.fullmatch(rb"00-%s-[0-9a-f]{16}-01" % TRACE.encode(), after)
    assert after != SAMPLED


def test_a_record_that_is_not_sampled_writes_nothing_and_stays_what_it_is(tmp_path: Path) -> None:
    tracer = Tracer("trial", tmp_path)
    assert tracer.step(UNSAMPLED, "process", {}) == UNSAMPLED
    assert tracer.step(None, "process", {}) is None
    tracer.close()
    assert spans(tmp_path) == []


@given(st.binary() | st.from_regex(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", fullmatch=True))
def test_whatever_a_source_sends_as_its_trace_is_followed_or_dropped(traceparent: bytes) -> None:
    after = OFF.step(traceparent, "process", {})
    valid = TraceContextTextMapPropagator().extract({"traceparent": traceparent.decode(errors="replace")})
    assert (after is not None) is bool(valid) or not traceparent.startswith(b"00-")


def test_a_log_line_is_one_json_object_with_what_to_search_for(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        configure()
        logger("mainstem.trial").warning("parked %s", "r1", extra={"action": "parked", "path": Path("x")})
    finally:
        root.handlers[:], root.level = before, level
    line = json.loads(capsys.readouterr().err)
    assert {name: line[name] for name in ("level", "logger", "message", "action", "path")} == {
        "level": "warning",
        "logger": "mainstem.trial",
        "message": "parked r1",
        "action": "parked",
        "path": "x",
    }


def test_every_instrument_is_of_the_platform_and_described() -> None:
    families = list(text_string_to_metric_families(metrics.exposition().content.decode()))
    assert [family.name for family in families if not family.name.startswith("mainstem_")] == []
    assert [family.name for family in families if not family.documentation] == []


def test_every_instrument_says_what_to_do() -> None:
    source = Path(metrics.__file__).read_text()
    declared = re.findall(
        r"^(#: .*\n)?[A-Z_]+: Final = (?:Counter|Counts|Gauge|Histogram|Timings)", source, re.MULTILINE
    )
    assert len(declared) > 5
    assert "" not in declared


@given(st.lists(st.floats(0, 10), max_size=50))
def test_timings_are_told_as_the_client_librarys_histogram_tells_them(seconds: list[float]) -> None:
    bounds, ours, theirs = (0.001, 0.5, 5.0), CollectorRegistry(), CollectorRegistry()
    timings = Timings("seen", "Seen", ["channel"], bounds, ours)
    histogram = Histogram("seen", "Seen", ["channel"], registry=theirs, buckets=bounds)
    for each in seconds:
        timings.labels("http").observe(each)
        histogram.labels("http").observe(each)
    told = [
        {(one.name, *one.labels.values()): one.value for family in registry.collect() for one in family.samples}
        for registry in (ours, theirs)
    ]
    created = {key: value for key, value in told[1].items() if not key[0].endswith("_created")}
    assert told[0] == pytest.approx(created)


PARENT = b"00-%b-00f067aa0ba902b7-01"
FIRST, LATER = b"4bf92f3577b34da6a3ce929d0e0e4736", b"5bf92f3577b34da6a3ce929d0e0e4736"


def test_an_exemplar_is_the_last_sampled_trace_of_a_bucket_and_told_to_who_accepts_it() -> None:
    seen = metrics.PREDICT_SECONDS.labels("test")
    seen.observe(0.0002, PARENT % FIRST)
    seen.observe(0.0002, (PARENT % LATER)[:-1] + b"0")
    content, media_type = metrics.exposition(accept="application/openmetrics-text; version=1.0.0")
    (line,) = [
        line
        for line in content.decode().splitlines()
        if 'le="0.00025",channel="test"' in line or FIRST.decode() in line
    ]
    assert f'# {{trace_id="{FIRST.decode()}"}} 0.0002' in line
    assert media_type.startswith("application/openmetrics-text")
    plain = metrics.exposition(accept="text/plain")
    assert FIRST not in plain.content
    assert plain.media_type == metrics.TEXT


def test_of_the_ages_that_processes_tell_the_highest_counts() -> None:
    for seconds, other, known in ((3.0, 7.0, 7.0), (7.0, 3.0, 7.0), (3.0, inf, inf)):
        metrics.FEATURE_AGE.labels("aged", "radar").set(seconds)
        earlier = metrics.told()
        metrics.FEATURE_AGE.labels("aged", "radar").set(other)
        content = metrics.exposition([earlier]).content.decode()
        found = [line for line in content.splitlines() if 'model="aged"' in line]
        assert found == [f'mainstem_feature_age_seconds{{model="aged",source="radar"}} {_text(known)}']
    metrics.FEATURE_AGE.clear()


def _text(value: float) -> str:
    return "+Inf" if value == inf else str(value)


def test_processes_are_added_up_and_the_newest_exemplar_stays() -> None:
    seen = metrics.QUEUE_SECONDS.labels("summed", "1")
    seen.observe(0.0002, PARENT % FIRST)
    earlier = metrics.told()
    seen.observe(0.0002, PARENT % LATER)
    content = metrics.exposition([earlier], "application/openmetrics-text").content.decode()
    told = {
        sample.name: sample
        for family in open_metrics(content)
        for sample in family.samples
        if sample.labels.get("model") == "summed" and sample.labels.get("le") in (None, "0.00025")
    }
    assert told["mainstem_queue_seconds_count"].value == 3
    assert told["mainstem_queue_seconds_sum"].value == pytest.approx(0.0006)
    exemplar = told["mainstem_queue_seconds_bucket"].exemplar
    assert exemplar is not None
    assert exemplar.labels == {"trace_id": LATER.decode()}


def test_of_a_process_that_is_gone_stays_what_it_counted_and_not_how_it_was() -> None:
    metrics.CALLS.labels("left", "1", "http").inc(3)
    metrics.QUEUE_SECONDS.labels("left", "1").observe(0.0002)
    metrics.SHADOWED.labels("left", "1").inc(5)
    metrics.FEATURE_AGE.labels("left", "radar").set(7.0)
    left = metrics.left_behind([metrics.told(), metrics.told()])
    assert left.counts["mainstem_calls"]["left", "1", "http"] == 6
    assert sum(left.timings["mainstem_queue_seconds"]["left", "1"].counts) == 2
    labels = (("model", "left"), ("version", "1"))
    assert left.sampled["mainstem_shadow_rows"]["mainstem_shadow_rows_total", labels] == 10
    made = "mainstem_shadow_rows_created", labels
    assert left.sampled["mainstem_shadow_rows"][made] == metrics.told().sampled["mainstem_shadow_rows"][made]
    assert left.gauges == {}
    assert metrics.left_behind([left]) == left  # so it can be added up again and again
    metrics.FEATURE_AGE.clear()


def test_what_another_process_told_reads_as_if_it_were_of_this_one() -> None:
    """Names, kinds, labels and values; those of the process itself are what it has beside them."""
    metrics.SHADOWED.labels("read", "1").inc(5)
    metrics.CALLS.labels("read", "1", "http").inc(3)
    metrics.QUEUE_SECONDS.labels("read", "1").observe(0.0002, PARENT % FIRST)
    alone = metrics.exposition(accept="application/openmetrics-text").content.decode()
    nothing = metrics.Told({}, {}, {}, {})
    assert metrics.exposition([nothing], "application/openmetrics-text").content.decode() == alone
