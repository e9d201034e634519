"""The gate for ONNX files: every model passes it before a service keeps, evaluates or serves it (ADR 20)."""

from mainstem.intake.gate import Limits, Refused, admit
from mainstem.intake.verdict import Admitted, Tensor

__all__ = ["Admitted", "Limits", "Refused", "Tensor", "admit"]
