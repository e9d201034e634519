"""Predictions as they are written."""

from typing import TYPE_CHECKING

import orjson

from mainstem.events.envelope import Message, dataschema
from mainstem.events.ids import child_id
from mainstem.events.names import PREDICTED, SHADOW_SCORED
from mainstem.serving.domain import SOURCE, Activation
from mainstem.telemetry import Tracer

if TYPE_CHECKING:  # direct calls have no rows of the stream
    from mainstem.serving.rows import Row

_PREDICTED = PREDICTED.encode()
_SHADOW = SHADOW_SCORED.encode()
#: Headers that every prediction has.
FIXED = (
    ("ce_specversion", b"1.0"),
    ("content-type", b"application/json"),
    ("ce_type", _PREDICTED),
    ("ce_source", SOURCE.encode()),
    ("ce_dataschema", dataschema(PREDICTED).encode()),
    ("ce_actor", SOURCE.encode()),
)
#: Headers of what a shadow scored.
SHADOWED = tuple(
    {"ce_type": (name, _SHADOW), "ce_dataschema": (name, dataschema(SHADOW_SCORED).encode())}.get(name, (name, value))
    for name, value in FIXED
)


class Form:
    """How the predictions of one activation are written; what does not change is prepared once."""

    def __init__(self, activation: Activation) -> None:
        self.topic = f"tel.prediction.{activation.model}"
        #: Two models may answer the same row.
        self._name = f"{PREDICTED}:{activation.model}"
        #: How the payload of every one of them begins.
        self.head = orjson.dumps(
            {
                "model": activation.model,
                "version": activation.version,
                "onnx": activation.onnx,
                "feature_definition": activation.feature_definition,
            }
        )[:-1]

    def from_row(self, row: "Row", score: bytes, tracer: Tracer) -> tuple[bytes, Message]:
        """Return id and message of the prediction on a feature row."""
        record, headers = row.record, row.headers
        cause = headers["ce_id"]
        event_id = child_id(cause.decode(), self._name).encode()
        origin = b"%b/%d/%d" % (record.topic.encode(), record.partition, record.offset)
        out = [
            *FIXED,
            ("ce_id", event_id),
            ("ce_subject", record.key or origin),
            ("ce_time", headers["ce_time"]),
            ("ce_recordedtime", headers["ce_recordedtime"]),
            ("ce_tenant", headers.get("ce_tenant", b"default")),
            ("ce_correlationid", headers["ce_correlationid"]),
            ("ce_causationid", cause),
            ("ce_origin", origin),
        ]
        parent = headers.get("traceparent")
        if parent is not None:
            trace = tracer.step(parent, f"process {record.topic}", {"event.id": event_id.decode()})
            if trace is not None:
                out.append(("traceparent", trace))
        value = b'%b,"channel":"stream","entity":%b,"row":"%b","position":"%b","features":%b,"score":%b}' % (
            self.head,
            orjson.dumps(row.entity),
            cause,
            origin,
            row.values,
            score,
        )
        return event_id, Message(self.topic, record.key, value, tuple(out), record.partition)
