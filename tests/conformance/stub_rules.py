"""What only gRPC has: raw and typed contents, status codes, streams, health and reflection."""

import json
from typing import Any

import numpy as np
from tests.conformance.calls import ENTITY_INPUTS, ROWS, storm
from tests.conformance.sentences import DEV, FAST, MANAGED, STUBS, TYPED, Client, Values, refused, says

FEATURES = {"features": ROWS}


def raw_scores(response: Any) -> Values:
    (tensor,) = response.outputs
    (content,) = response.raw_output_contents
    assert tensor.parameters["binary_data_size"].int64_param == len(content)
    return np.frombuffer(content).reshape(tensor.shape)


@says("a raw call is given a raw answer", STUBS)
def raw(stubs: Client) -> None:
    response = stubs.call("ModelInfer", stubs.request("storm", FEATURES, raw=True))
    np.testing.assert_allclose(raw_scores(response), storm())
    assert not any(len(one.contents.fp64_contents) for one in response.outputs)


@says("a typed call is given a typed answer", STUBS)
def typed(stubs: Client) -> None:
    response = stubs.call("ModelInfer", stubs.request("storm", FEATURES))
    assert not response.raw_output_contents
    np.testing.assert_allclose(np.reshape(response.outputs[0].contents.fp64_contents, (2, 2)), storm())


@says("raw and typed contents in one call are refused", STUBS)
def raw_and_typed(stubs: Client) -> None:
    message = stubs.request("storm", FEATURES)
    message.raw_input_contents.append(ROWS.tobytes())
    assert "contents" in refused("INVALID_ARGUMENT", stubs.call, "ModelInfer", message)


@says("raw contents are one for each input", STUBS)
def raw_counts(stubs: Client) -> None:
    message = stubs.request("storm", FEATURES, raw=True)
    message.raw_input_contents.append(b"")
    refused("INVALID_ARGUMENT", stubs.call, "ModelInfer", message)


@says("raw contents of another size than the shape has are refused", STUBS)
def raw_sizes(stubs: Client) -> None:
    message = stubs.request("storm", FEATURES, raw=True)
    message.raw_input_contents[0] = ROWS.tobytes()[:-1]
    refused("INVALID_ARGUMENT", stubs.call, "ModelInfer", message)


@says("contents in the field of another datatype are refused, and the error names the right one", STUBS)
def other_field(stubs: Client) -> None:
    message = stubs.request("storm", FEATURES)
    message.inputs[0].contents.ClearField("fp64_contents")
    message.inputs[0].contents.fp32_contents.extend(ROWS.ravel().tolist())
    assert "fp64_contents" in refused("INVALID_ARGUMENT", stubs.call, "ModelInfer", message)


@says("contents in two fields are refused", STUBS)
def two_fields(stubs: Client) -> None:
    message = stubs.request("storm", FEATURES)
    message.inputs[0].contents.int_contents.append(1)
    refused("INVALID_ARGUMENT", stubs.call, "ModelInfer", message)


@says("a typed call may name its outputs", TYPED)
def typed_outputs(stubs: Client) -> None:
    assert list(stubs.infer("storm", FEATURES, ["probabilities"]).outputs) == ["probabilities"]


@says("a typed number that its datatype has not is refused", STUBS, on=(DEV,))
def out_of_range(stubs: Client) -> None:
    for name, value in (("INT8", 128), ("INT16", -32769), ("UINT8", 256)):
        message = stubs.request(name.lower(), {"x": np.zeros((1, 1), name.lower())})
        field = "uint_contents" if name[0] == "U" else "int_contents"
        getattr(message.inputs[0].contents, field)[0] = value
        refused("INVALID_ARGUMENT", stubs.call, "ModelInfer", message)


@says("bytes that are no message are refused", STUBS)
def no_message(stubs: Client) -> None:
    method = stubs.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    refused("INVALID_ARGUMENT", stubs.call, method, b"\xff\xff\xff")


@says("a method or a service that there is not is unimplemented", STUBS)
def no_method(stubs: Client) -> None:
    for path in ("/inference.GRPCInferenceService/TraceSetting", "/inference.Nothing/ModelInfer"):
        assert refused("UNIMPLEMENTED", stubs.call, stubs.channel.unary_unary(path), b"")


@says("metadata carry properties, in the field that reflection describes", STUBS, streams=True)
def properties(stubs: Client) -> None:
    found = stubs.reflecting("ModelMetadata", name="storm")
    assert found.name == "storm"
    assert found.properties.keys() & {"unmanaged", "onnx"}


@says("metadata name the tensors that describe an entity, in a property", STUBS, on=(MANAGED,), streams=True)
def entity_inputs(stubs: Client) -> None:
    found = stubs.reflecting("ModelMetadata", name="gale")
    assert json.loads(found.properties["entity_inputs"]) == ENTITY_INPUTS


@says("a stream answers each call in its order, and goes on behind one that is wrong", STUBS, streams=True)
def stream(stubs: Client) -> None:
    wrong = stubs.request("storm", {"features": np.zeros((1, 4))}, id="1")
    asked = [stubs.request("storm", FEATURES, id="0"), wrong, stubs.request("storm", FEATURES, raw=True, id="2")]
    first, second, third = stubs.call("ModelStreamInfer", iter(asked))
    assert (first.infer_response.id, first.error_message) == ("0", "")
    assert "[1, 4]" in second.error_message
    assert third.infer_response.id == "2"
    np.testing.assert_allclose(raw_scores(third.infer_response), storm())


@says("a stream that asks nothing ends", STUBS, streams=True)
def empty_stream(stubs: Client) -> None:
    assert list(stubs.call("ModelStreamInfer", iter(()))) == []


@says("a stream ends for a message that is none, with a status", STUBS, streams=True)
def broken_stream(stubs: Client) -> None:
    method = stubs.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    told = list(stubs.call(method, iter([b"\xff\xff\xff"])))
    assert len(told) == 1
    assert b"ModelInferRequest" in told[0]


@says("a stream that is not served is told with the setting that has it", STUBS, on=tuple(FAST.values()))
def no_stream(stubs: Client) -> None:
    services = ("inference.GRPCInferenceService/ModelStreamInfer", "grpc.health.v1.Health/Watch")
    for path in (*services, "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"):
        said = refused("UNIMPLEMENTED", stubs.streamed, f"/{path}", b"")
        assert "MAINSTEM_GRPC_SERVER=grpcio" in said


@says("a name of any length is refused with the status that short ones are", STUBS)
def long_name(stubs: Client) -> None:
    said = refused("NOT_FOUND", stubs.call, "ModelMetadata", stubs.pb.ModelMetadataRequest(name="ä" * 30_000))
    assert "ä" * 100 in said


@says("RepositoryIndex lists what is ready where that is asked, and else everything", STUBS, on=(DEV,))
def ready_index(stubs: Client) -> None:
    stubs.call("RepositoryModelUnload", stubs.pb.RepositoryModelUnloadRequest(model_name="spare"))
    try:
        for ready, states in ((True, {"READY"}), (False, {"READY", "UNAVAILABLE"})):
            listed = stubs.call("RepositoryIndex", stubs.pb.RepositoryIndexRequest(ready=ready)).models
            assert {one.state for one in listed} == states
    finally:
        stubs.call("RepositoryModelLoad", stubs.pb.RepositoryModelLoadRequest(model_name="spare"))


@says("the health service answers for the server and for the protocol's service", STUBS)
def health(stubs: Client) -> None:
    for name in ("", "inference.GRPCInferenceService"):
        assert stubs.call(stubs.health.Check, stubs.health_pb.HealthCheckRequest(service=name)).status == 1
    refused("NOT_FOUND", stubs.call, stubs.health.Check, stubs.health_pb.HealthCheckRequest(service="x"))


@says("who watches the health is told at once, of an unknown service too", STUBS, streams=True)
def watch(stubs: Client) -> None:
    for name, state in (("", 1), ("x", 3)):
        told = stubs.health.Watch(stubs.health_pb.HealthCheckRequest(service=name), timeout=20)
        assert next(iter(told)).status == state
        told.cancel()


@says("reflection names the services and describes their messages", STUBS, streams=True)
def reflection(stubs: Client) -> None:
    found = stubs.reflected()
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(found.get_services())
    service = stubs.described("inference.GRPCInferenceService")
    assert service.FindMethodByName("ModelInfer").input_type.full_name == "inference.ModelInferRequest"
    ours = {method.name for method in service.methods}
    assert ours >= {"ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer"}
