"""Poison is archived as what it is: no fault of the log, counted by topic and reason, and named by its first leaf."""

from pathlib import Path

import pytest
from libs.audit.tests.written_logs import KEYS, Written

from mainstem.audit.entries import Reading, Unread
from mainstem.audit.log import Log
from mainstem.audit.verification import Verification
from mainstem.events.catalogue import encode
from mainstem.events.envelope import Headers, begin
from mainstem.events.frames import Entry, frame
from mainstem.events.registry import VersionApproved

RUNS = "evt.training.run"
APPROVED = encode(
    begin(
        VersionApproved(model="tide", version=1, onnx="sha256:00", approved_by="ann"),
        command_id="a",
        source="/test",
        actor="ann",
        recorded_us=1_367_366_400_000_000,
    )
)


def typed(kind: str) -> Headers:
    """Return the headers of an approval that calls itself something else."""
    return tuple((name, kind.encode() if name == "ce_type" else value) for name, value in APPROVED.headers)


#: Kinds of which there are so many that they are held against JSON alone.
MANY = (
    "mainstem.data.record_accepted.v1",
    "mainstem.data.progress.v1",
    "mainstem.feature.row_computed.v1",
    "mainstem.serving.predicted.v1",
)

POISON = [
    Entry(RUNS, 0, 0, 0, None, None, ()),
    Entry(RUNS, 0, 1, 0, b"\x00", b"\xff" * 100_000, (("ce_type", b"\xff\x00"),)),
    Entry(RUNS, 0, 2, 0, None, b"{}", typed("mainstem.training.dreamt.v1")),
    Entry(RUNS, 0, 3, 0, None, APPROVED.value, typed("mainstem.registry.version_approved.v2")),
    Entry(RUNS, 0, 4, 0, None, b"[", typed("mainstem.registry.version_approved.v1")),
    Entry(RUNS, 0, 5, 0, None, b"[]", typed("mainstem.feature.row_computed.v1")),
    Entry(RUNS, 0, 6, 0, None, b'{"model": 3}', typed("mainstem.registry.version_approved.v1")),
]


def test_every_kind_of_poison_is_named_and_is_no_fault(tmp_path: Path) -> None:
    entries = [*POISON, Entry("src.gauge", 0, 0, 0, None, b"\xff whatever a source says", ())]
    written = Written([entry.topic for entry in entries], [frame(entry) for entry in entries])
    report = Verification(Log(written.copy_to(tmp_path / "copy")), KEYS).run()
    assert report.holds
    assert report.entries == len(entries)
    assert report.unread == [
        Unread(RUNS, "no ce_type", 0, 1),
        Unread(RUNS, "no mainstem.feature.row_computed.v1", 5, 1),
        Unread(RUNS, "no mainstem.registry.version_approved.v1", 4, 2),
        Unread(RUNS, "unknown type mainstem.registry.version_approved.v2", 3, 1),
        Unread(RUNS, "unknown type mainstem.training.dreamt.v1", 2, 1),
        Unread(RUNS, "unknown type \ufffd\\x00", 1, 1),
    ]


@pytest.mark.parametrize("kind", MANY)
@pytest.mark.parametrize("topic", ["src.gauge", "evt.data.gauge", "tel.prediction.tide"])
def test_what_is_nested_deeper_than_anybody_reads_is_unread(kind: str, topic: str) -> None:
    deep = b'{"record":{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}}"
    reading = Reading()
    reading.take(3, frame(Entry(topic, 0, 0, 0, None, deep, (("ce_type", kind.encode()),))))
    assert (reading.unread, reading.faults) == ([Unread(topic, f"no {kind}", 3, 1)], [])


def test_an_event_is_no_poison() -> None:
    reading = Reading()
    for leaf in range(3):
        reading.take(leaf, frame(Entry(APPROVED.topic, 0, leaf, 0, APPROVED.key, APPROVED.value, APPROVED.headers)))
    assert (reading.unread, reading.faults, dict(reading.topics)) == ([], [], {APPROVED.topic: 3})


def test_what_is_no_frame_is_a_fault_of_the_log() -> None:
    reading = Reading()
    reading.take(7, b"\x01 no frame")
    assert [fault.where for fault in reading.faults] == ["leaf 7"]
