"""The Open Inference Protocol (v2): tensors, requests and answers, as JSON, binary and protobuf. Pure.

Each is loaded by who asks for it: a process that only minds its errors needs no arrays.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mainstem.inference.calls import Answer, Parameters, Request, Wanted
    from mainstem.inference.tensors import Signature, Spec, Tensor

#: What is loaded by who asks for it, and from where.
_LATE = {
    "Answer": "calls",
    "Parameters": "calls",
    "Request": "calls",
    "Signature": "tensors",
    "Spec": "tensors",
    "Tensor": "tensors",
    "Wanted": "calls",
}

__all__ = ["Answer", "Parameters", "Request", "Signature", "Spec", "Tensor", "Wanted"]

if not TYPE_CHECKING:  # for a type checker what is missing is missing

    def __getattr__(name: str) -> object:
        """Load what is asked for (PEP 562)."""
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found: object = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
        globals()[name] = found
        return found
