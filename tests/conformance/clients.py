"""Clients that others wrote, behind one face: tritonclient, its generated stubs, and HTTP as it is sent.

For a process of its own: the generated messages of tritonclient and ours have the same names.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from inspect import isawaitable
from typing import Any

import grpc
import numpy as np
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tests.conformance.plain_http import Http
from tests.conformance.sentences import Client, Input, Refused, Values
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype

#: gRPC's names of what went wrong, by the status codes of HTTP.
STATUS = {"400": "INVALID_ARGUMENT", "404": "NOT_FOUND", "413": "RESOURCE_EXHAUSTED", "500": "INTERNAL"}
STATUS |= {"503": "UNAVAILABLE", "405": "UNIMPLEMENTED"}
CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
TIMEOUT_S = 20

Inputs = Mapping[str, Values] | Sequence[Input]


@dataclass(frozen=True)
class Answer:
    """What came back, with the outputs in their order."""

    model: str
    version: str
    id: str
    parameters: Mapping[str, Any]
    outputs: Mapping[str, Values]
    datatypes: Mapping[str, str] = field(default_factory=dict)


def inputs_of(given: Inputs) -> Sequence[Input]:
    if isinstance(given, Mapping):
        return [Input(name, values) for name, values in given.items()]
    return given


def datatype_of(one: Input) -> str:
    return one.datatype or str(np_to_triton_dtype(one.values.dtype))


class Triton:
    """tritonclient: `http`, `http.aio`, `grpc`, `grpc.aio`, or `json`, which is `http` without raw tensors."""

    def __init__(self, kind: str, http_address: str, grpc_address: str) -> None:
        self.json = kind == "json"
        self.http = self.json or kind.startswith("http")
        transport, address = ("http", http_address) if self.http else ("grpc", grpc_address)
        self.api = import_module(f"tritonclient.{transport}")
        self.loop = asyncio.new_event_loop()
        self.aio = kind.endswith(".aio")
        self.client = self.loop.run_until_complete(self._open(address)) if self.aio else self._client(self.api, address)

    def _client(self, api: Any, address: str) -> Any:
        return api.InferenceServerClient(address)

    async def _open(self, address: str) -> Any:
        return self._client(import_module(f"{self.api.__name__}.aio"), address)

    def call(self, method: str, *arguments: object, **said: object) -> Any:
        """Call a method of the client, whatever kind of one it is."""
        try:
            found = getattr(self.client, method)(*arguments, **said)
            return self.loop.run_until_complete(found) if isawaitable(found) else found
        except InferenceServerException as fault:
            status = str(fault.status()).removeprefix("StatusCode.")
            raise Refused(STATUS.get(status, status), fault.message()) from fault

    def told(self, method: str, *arguments: object) -> Any:
        """Call a method that tells something, and return it as a dict."""
        return self.call(method, *arguments, **({} if self.http else {"as_json": True}))

    def ready(self, model: str, version: str = "") -> bool:
        """Tell whether a model is ready; one that there is not is not."""
        try:
            return bool(self.call("is_model_ready", model, version))
        except Refused as fault:
            if fault.status not in ("NOT_FOUND", "UNAVAILABLE"):
                raise
            return False

    def model(self, name: str, version: str = "") -> dict[str, Any]:
        """Return the metadata of a model, its tensors as name, datatype and shape."""
        found = self.told("get_model_metadata", name, version)
        tensors = {
            kind: [(one["name"], one["datatype"], [int(n) for n in one.get("shape", [])]) for one in found[kind]]
            for kind in ("inputs", "outputs")
        }
        return {**found, **tensors}

    def index(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Return state and reason of each version."""
        found = self.told("get_model_repository_index")
        rows = found if self.http else found["models"]
        return {(one["name"], one["version"]): (one["state"], one.get("reason", "")) for one in rows}

    def counts(self, model: str = "", version: str = "") -> dict[tuple[str, str], Any]:
        """Return what was counted for each version."""
        found = self.told("get_inference_statistics", model, version).get("model_stats", [])
        return {(one["name"], one["version"]): counted(one) for one in found}

    def infer(self, model: str, inputs: Inputs, outputs: Sequence[str] | None = None, **said: Any) -> Answer:
        """Return the answer to a call; `outputs` are names."""
        if self.json and outputs is None:
            outputs = [name for name, *_ in self.model(model, said.get("model_version", ""))["outputs"]]
        wanted = None if outputs is None else [self.wanted(name) for name in outputs]
        made = [self.input(one) for one in inputs_of(inputs)]
        return self.answer(self.call("infer", model, made, outputs=wanted, **said))

    def wanted(self, name: str, **said: object) -> Any:
        """Return the client's own form of an output that is asked for."""
        return self.api.InferRequestedOutput(name, **({"binary_data": False} if self.json else {}), **said)

    def input(self, one: Input) -> Any:
        """Return the client's own form of an input."""
        made = self.api.InferInput(one.name, list(one.values.shape), np_to_triton_dtype(one.values.dtype))
        made.set_data_from_numpy(one.values, **({"binary_data": False} if self.json else {}))
        if one.shape is not None:
            made.set_shape(list(one.shape))
        if one.datatype is not None:
            if self.http:
                made._datatype = one.datatype
            else:
                made._input.datatype = one.datatype
        return made

    def answer(self, result: Any) -> Answer:
        """Return what a result of the client says."""
        said = result.get_response()
        if not self.http:
            return answered(said, {one.name: result.as_numpy(one.name) for one in said.outputs})
        outputs = {one["name"]: as_bytes(result.as_numpy(one["name"])) for one in said["outputs"]}
        datatypes = {one["name"]: one["datatype"] for one in said["outputs"]}
        head = (said["model_name"], said["model_version"], said["id"], said.get("parameters", {}))
        return Answer(*head, outputs, datatypes)


class Stubs:
    """Generated stubs, with typed contents unless a message says otherwise."""

    pb, health_pb = pb, health_pb2

    def __init__(self, grpc_address: str) -> None:
        self.channel = grpc.insecure_channel(grpc_address)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def reflected(self) -> Any:
        """Return what grpcio's reflection client makes of the server."""
        return ProtoReflectionDescriptorDatabase(self.channel)

    def described(self, service: str) -> Any:
        """Return the description of a service, as the server gives it."""
        return DescriptorPool(self.reflected()).FindServiceByName(service)

    def reflecting(self, method: str, **said: object) -> Any:
        """Call a method with messages that are made of nothing but what the server describes."""
        service = self.described("inference.GRPCInferenceService")
        kinds = service.FindMethodByName(method)
        request, response = GetMessageClass(kinds.input_type), GetMessageClass(kinds.output_type)
        path = f"/{service.full_name}/{method}"
        return self.call(
            self.channel.unary_unary(path, request.SerializeToString, response.FromString), request(**said)
        )

    def call(self, method: Any, request: object) -> Any:
        """Call a method of the stub, or any other callable, with a request."""
        try:
            given = getattr(self.stub, method) if isinstance(method, str) else method
            return given(request, timeout=TIMEOUT_S)
        except grpc.RpcError as fault:
            raise Refused(fault.code().name, fault.details()) from fault

    def streamed(self, path: str, *requests: bytes) -> list[bytes]:
        """Call a method with streams, and return all that it says."""
        method = self.channel.stream_stream(path)
        return list(self.call(lambda asked, **said: [*method(asked, **said)], iter(requests)))

    def request(self, model: str, inputs: Inputs, *, raw: bool = False, **said: str) -> Any:
        """Return a message that asks a model."""
        message = pb.ModelInferRequest(model_name=model, **said)
        for one in inputs_of(inputs):
            shape = one.values.shape if one.shape is None else one.shape
            tensor = message.inputs.add(name=one.name, datatype=datatype_of(one), shape=shape)
            if raw:
                message.raw_input_contents.append(one.values.tobytes())
            else:
                getattr(tensor.contents, CONTENTS[datatype_of(one)]).extend(one.values.ravel().tolist())
        return message

    def infer(
        self,
        model: str,
        inputs: Inputs,
        outputs: Sequence[str] | None = None,
        *,
        request_id: str = "",
        model_version: str = "",
        parameters: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Return the answer to a call; `outputs` are names."""
        message = self.request(model, inputs, id=request_id, model_version=model_version)
        message.outputs.extend(pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in outputs or ())
        kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
        for name, given in (parameters or {}).items():
            setattr(message.parameters[name], kinds[type(given)], given)
        response = self.call("ModelInfer", message)
        assert not response.raw_output_contents, "typed contents are answered raw"
        return answered(response, {one.name: self.values(one) for one in response.outputs})

    @staticmethod
    def values(tensor: Any) -> Values:
        """Return the typed contents of an output."""
        contents = getattr(tensor.contents, CONTENTS[tensor.datatype])
        found: Values = np.empty(len(contents), triton_to_np_dtype(tensor.datatype))
        found[:] = contents
        return found.reshape(tensor.shape)


def answered(response: Any, outputs: Mapping[str, Values]) -> Answer:
    parameters = {name: getattr(one, one.WhichOneof("parameter_choice")) for name, one in response.parameters.items()}
    datatypes = {one.name: one.datatype for one in response.outputs}
    return Answer(response.model_name, response.model_version, response.id, parameters, outputs, datatypes)


def as_bytes(values: Values) -> Values:
    """Return texts as bytes, which JSON has not."""
    if values.dtype != object:
        return values
    found: Values = np.empty(values.size, object)
    found[:] = [one.encode() if isinstance(one, str) else one for one in values.ravel()]
    return found.reshape(values.shape)


def counted(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a version counted, of either transport."""
    stats = one.get("inference_stats", {})
    return {
        "rows": int(one.get("inference_count", 0)),
        "runs": int(one.get("execution_count", 0)),
        "last": int(one.get("last_inference", 0)),
        **{name: int(stats.get(name, {}).get("count", 0)) for name in ("success", "fail", "compute_infer")},
        "batches": {
            int(each["batch_size"]): int(each["compute_infer"]["count"]) for each in one.get("batch_stats", [])
        },
    }


def opened(kind: str, http_address: str, grpc_address: str) -> Client:
    """Return the client of a kind."""
    if kind == "curl":
        return Http(http_address)
    if kind in ("stubs", "typed"):
        return Stubs(grpc_address)
    return Triton(kind, http_address, grpc_address)
