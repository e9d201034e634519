"""Metrics, traces and logs: every instrument in one place."""

from mainstem.telemetry import metrics
from mainstem.telemetry.logs import configure, logger
from mainstem.telemetry.tracing import Tracer

__all__ = ["Tracer", "configure", "logger", "metrics"]
