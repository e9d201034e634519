"""The Open Inference Protocol (v2): tensors, requests and answers, as JSON, binary and protobuf. Pure."""

from mainstem.inference.calls import Answer, Parameters, Request, Wanted
from mainstem.inference.tensors import Signature, Spec, Tensor

__all__ = ["Answer", "Parameters", "Request", "Signature", "Spec", "Tensor", "Wanted"]
