"""What a call to infer is and gives, with any client: names, versions, ids, parameters, inputs and outputs."""

import json
from typing import Any

import numpy as np
from tests.conformance.models import ODD_NAME
from tests.conformance.sentences import DEV, EVERY, MANAGED, TRITON, TYPED, Client, Input, Values, refused, says

ROWS: Values = np.array([[1.0, -2.0, 0.5], [0.0, 0.25, -1.0]])
#: tritonclient's own messages of gRPC have no field for them.
PROPERTIES = ("http", "http.aio")
#: The tensors that describe an entity to `gale`.
ENTITY_INPUTS = [
    {"name": "station", "datatype": "BYTES", "shape": [-1]},
    {"name": "wind", "datatype": "FP64", "shape": [-1]},
]
NONE: Values = np.zeros((0, 3))


def storm(rows: Values = ROWS) -> Values:
    """Return what the model gives for rows, computed without it."""
    odds = np.exp(np.nan_to_num(rows).sum(axis=1))
    return np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1)


def asked(rows: Values = ROWS, **said: Any) -> list[Input]:
    return [Input("features", rows, **said)]


def agrees(answer: Any, rows: Values = ROWS) -> None:
    assert list(answer.outputs) == ["probabilities"]
    np.testing.assert_allclose(answer.outputs["probabilities"], storm(rows), atol=1e-15)


# -- the server and its models --


@says("a server that answers is live", *TRITON)
def live(client: Client) -> None:
    assert client.call("is_server_live") is True


@says("a server whose models all answer is ready", *TRITON)
def ready(client: Client) -> None:
    assert client.call("is_server_ready") is True


@says("the server tells its name, its version and its extensions", *TRITON)
def server(client: Client) -> None:
    found = client.told("get_server_metadata")
    assert (found["name"], bool(found["version"])) == ("mainstem", True)
    assert {"model_repository", "statistics"} <= set(found["extensions"])


@says("a model that answers is ready, without a version and in its version", *TRITON)
def model_ready(client: Client) -> None:
    assert client.ready("storm")
    assert client.ready("storm", "1")


@says("a model or a version that there is not is not ready", *TRITON)
def not_ready(client: Client) -> None:
    assert not client.ready("sun")
    assert not client.ready("storm", "99")


@says("metadata tell name, versions and platform of a model", *TRITON)
def metadata(client: Client) -> None:
    found = client.model("storm")
    assert (found["name"], found["versions"], found["platform"]) == ("storm", ["1"], "onnx_onnxv1")


@says("metadata tell name, datatype and shape of each tensor, -1 for a variable dimension", *TRITON)
def tensors(client: Client) -> None:
    found = client.model("storm", "1")
    assert found["inputs"] == [("features", "FP64", [-1, 3])]
    assert found["outputs"] == [("probabilities", "FP64", [-1, 2])]


@says("metadata of a model with several inputs and a scalar tell each", *TRITON, on=(DEV,))
def several_tensors(client: Client) -> None:
    found = client.model("mixed")
    assert found["inputs"] == [("names", "BYTES", [-1]), ("rows", "FP32", [-1, 2]), ("times", "INT64", [])]
    assert found["outputs"] == [("same", "BYTES", [-1]), ("total", "FP32", [-1])]


@says("metadata of an unknown model are not found", *TRITON)
def unknown_metadata(client: Client) -> None:
    assert "sun" in refused("NOT_FOUND", client.model, "sun")


@says("metadata of an unknown version are not found", *TRITON)
def unknown_version_metadata(client: Client) -> None:
    assert "99" in refused("NOT_FOUND", client.model, "storm", "99")


@says("metadata say that a model is unmanaged", *PROPERTIES, on=(DEV,))
def unmanaged_metadata(client: Client) -> None:
    assert client.model("storm")["properties"] == {"unmanaged": "true", "file": "storm.onnx"}


@says("metadata of a managed model name its features", *PROPERTIES, on=(MANAGED,))
def features(client: Client) -> None:
    assert client.model("storm")["properties"]["features"] == '["a","b","c"]'


@says("a model that is called by entity has the inputs of its tensor all the same", *TRITON, on=(MANAGED,))
def inputs_by_entity(client: Client) -> None:
    assert client.model("gale")["inputs"] == client.model("storm")["inputs"] == [("features", "FP64", [-1, 3])]


@says("metadata of a model that is called by entity name the tensors that describe one", *PROPERTIES, on=(MANAGED,))
def entity_inputs(client: Client) -> None:
    assert json.loads(client.model("gale")["properties"]["entity_inputs"]) == ENTITY_INPUTS
    assert "entity_inputs" not in client.model("storm")["properties"]


# -- names and versions --


@says("a call is answered by the model it names", *EVERY)
def answers(client: Client) -> None:
    answer = client.infer("storm", asked())
    assert (answer.model, answer.version) == ("storm", "1")
    agrees(answer)


@says("a call that names a version is answered by that one", *EVERY)
def version(client: Client) -> None:
    agrees(client.infer("storm", asked(), model_version="1"))


@says("a call without a version is answered by the highest", *EVERY, on=(DEV,))
def highest(client: Client) -> None:
    answer = client.infer("plus", {"x": np.ones(2, np.float32)})
    assert (answer.version, answer.outputs["y"].tolist()) == ("10", [11, 11])


@says("each version of a model answers by its name", *EVERY, on=(DEV,))
def versions(client: Client) -> None:
    for name in ("1", "2", "10"):
        answer = client.infer("plus", {"x": np.zeros(1, np.float32)}, model_version=name)
        assert (answer.version, answer.outputs["y"].tolist()) == (name, [int(name)])
    assert client is not None


@says("metadata list every version of a model", *TRITON, on=(DEV,))
def every_version(client: Client) -> None:
    assert client.model("plus")["versions"] == ["1", "2", "10"]


@says("a call to an unknown model is not found, and the error names it", *EVERY)
def unknown_model(client: Client) -> None:
    assert "sun" in refused("NOT_FOUND", client.infer, "sun", asked(), ["probabilities"])


@says("a call to an unknown version is not found, and the error names it", *EVERY)
def unknown_version(client: Client) -> None:
    assert "99" in refused("NOT_FOUND", client.infer, "storm", asked(), ["probabilities"], model_version="99")


@says("a version is a name: 01 is not 1", *EVERY)
def version_is_a_name(client: Client) -> None:
    refused("NOT_FOUND", client.infer, "storm", asked(), ["probabilities"], model_version="01")


@says("a name with spaces, signs and letters of any script is a name", *EVERY, on=(DEV,))
def odd_name(client: Client) -> None:
    answer = client.infer(ODD_NAME, {"x": np.ones(1, np.float32)}, ["y"])
    assert (answer.model, answer.outputs["y"].tolist()) == (ODD_NAME, [1])


# -- ids and parameters --


@says("the id of a call comes back", *EVERY)
def same_id(client: Client) -> None:
    assert client.infer("storm", asked(), request_id="call 7 ä").id == "call 7 ä"


@says("a call without an id is given one of its own", *EVERY)
def new_id(client: Client) -> None:
    first, second = (client.infer("storm", asked()).id for _ in range(2))
    assert first
    assert second
    assert first != second


@says("parameters are strings, numbers and truth values, and those nobody knows are let pass", *EVERY)
def parameters(client: Client) -> None:
    given = {"colour": "red", "weight": 7, "share": 0.5, "urgent": True}
    agrees(client.infer("storm", asked(), parameters=given))


@says("an answer of a model that nobody manages says so", *EVERY, on=(DEV,))
def unmanaged(client: Client) -> None:
    assert client.infer("storm", asked()).parameters == {"unmanaged": True}


@says("an answer of a managed model says where it is recorded", *EVERY, on=(MANAGED,))
def recorded(client: Client) -> None:
    found = client.infer("storm", asked()).parameters
    assert sorted(found) == ["position", "prediction_id", "recorded_time"]


@says("priority is a wish, and a call that has one is answered", *TRITON)
def priority(client: Client) -> None:
    agrees(client.infer("storm", asked(), priority=3))


# -- inputs --


@says("many rows in one call are answered in their order", *EVERY)
def many_rows(client: Client) -> None:
    rows = np.linspace(-2, 2, 900).reshape(300, 3)
    agrees(client.infer("storm", asked(rows)), rows)


@says("calls one after another on one connection are each answered with their own", *EVERY)
def one_after_another(client: Client) -> None:
    for number in range(20):
        agrees(client.infer("storm", asked(ROWS + number / 7)), ROWS + number / 7)


@says("a call without rows is answered without rows", *EVERY)
def no_rows(client: Client) -> None:
    assert client.infer("storm", asked(NONE)).outputs["probabilities"].shape == (0, 2)


@says("NaN is a value of floating point, raw and typed", *TRITON, TYPED)
def nan(client: Client) -> None:
    rows = np.array([[np.nan, 1.0, np.nan]])
    agrees(client.infer("storm", asked(rows)), rows)


@says("an infinity is refused where no record can carry it", *TRITON, TYPED, on=(MANAGED,))
def infinity(client: Client) -> None:
    assert "infinity" in refused("INVALID_ARGUMENT", client.infer, "storm", asked(np.array([[np.inf, 0, 0]])))


@says("several inputs of several datatypes are one call", *EVERY, on=(DEV,))
def several_inputs(client: Client) -> None:
    names = np.array([b"first", b"second"], object)
    rows, times = np.array([[1, 2], [3, 4]], np.float32), np.array(3)
    answer = client.infer("mixed", {"names": names, "rows": rows, "times": times})
    assert answer.outputs["same"].tolist() == [b"first", b"second"]
    assert answer.outputs["total"].tolist() == [9, 21]


@says("inputs come in any order", *EVERY, on=(DEV,))
def any_order(client: Client) -> None:
    names, rows = np.array([b"one"], object), np.array([[1, 2]], np.float32)
    answer = client.infer("mixed", {"times": np.array(2), "rows": rows, "names": names})
    assert (answer.outputs["same"].tolist(), answer.outputs["total"].tolist()) == ([b"one"], [6])


@says("an input that the model has not is refused, and the error names what it has", *EVERY)
def unknown_input(client: Client) -> None:
    why = refused("INVALID_ARGUMENT", client.infer, "storm", [Input("x", ROWS)])
    assert "'features'" in why


@says("an input beside those of the model is refused", *EVERY)
def extra_input(client: Client) -> None:
    refused("INVALID_ARGUMENT", client.infer, "storm", [*asked(), Input("more", ROWS)])


@says("an input that is given twice is refused", *EVERY)
def doubled_input(client: Client) -> None:
    refused("INVALID_ARGUMENT", client.infer, "storm", [*asked(), *asked()])


@says("an input that is missing is refused", *EVERY, on=(DEV,))
def missing_input(client: Client) -> None:
    given = {"names": np.array([b"one"], object), "times": np.array(2)}
    assert "'rows'" in refused("INVALID_ARGUMENT", client.infer, "mixed", given)


@says("a call without inputs is refused", *EVERY)
def no_inputs(client: Client) -> None:
    refused("INVALID_ARGUMENT", client.infer, "storm", [])


@says("another datatype than the model takes is refused, and the error names both", *EVERY)
def other_datatype(client: Client) -> None:
    why = refused("INVALID_ARGUMENT", client.infer, "storm", asked(ROWS.astype(np.float32)))
    assert "FP32" in why
    assert "FP64" in why


@says("a datatype that the protocol has not is refused", *EVERY)
def no_datatype(client: Client) -> None:
    if hasattr(client, "stub"):
        message = client.request("storm", asked())
        message.inputs[0].datatype = "FP65"
        refused("INVALID_ARGUMENT", client.call, "ModelInfer", message)
    else:
        assert "FP65" in refused("INVALID_ARGUMENT", client.infer, "storm", asked(datatype="FP65"))


@says("rows of another width are refused, and the error names both shapes", *EVERY)
def other_width(client: Client) -> None:
    why = refused("INVALID_ARGUMENT", client.infer, "storm", asked(np.zeros((1, 4))))
    assert "[1, 4]" in why
    assert "[-1, 3]" in why


@says("another number of dimensions is refused", *EVERY)
def other_rank(client: Client) -> None:
    refused("INVALID_ARGUMENT", client.infer, "storm", asked(np.zeros(3)))
    refused("INVALID_ARGUMENT", client.infer, "storm", asked(np.zeros((1, 1, 3))))


@says("a fixed dimension is kept", *EVERY, on=(DEV,))
def fixed(client: Client) -> None:
    square = np.array([[1, 2], [3, 4]], np.int32)
    assert client.infer("square", {"x": square}).outputs["y"].tolist() == square.tolist()
    refused("INVALID_ARGUMENT", client.infer, "square", {"x": np.zeros((3, 2), np.int32)})


@says("a shape with more cells than there is data is refused", *EVERY)
def too_little(client: Client) -> None:
    refused("INVALID_ARGUMENT", client.infer, "storm", asked(shape=(3, 3)))


@says("a shape with fewer cells than there is data is refused", *EVERY)
def too_much(client: Client) -> None:
    refused("INVALID_ARGUMENT", client.infer, "storm", asked(shape=(1, 3)))


@says("a negative dimension of an input is refused", *EVERY)
def negative(client: Client) -> None:
    refused("INVALID_ARGUMENT", client.infer, "storm", asked(shape=(-1, 3)))


@says("a shape past all memory is refused", *EVERY)
def enormous(client: Client) -> None:
    refused("INVALID_ARGUMENT", client.infer, "storm", asked(shape=(1 << 40, 1 << 20)))


# -- outputs --


@says("a call that names no outputs is given all", *EVERY, on=(DEV,))
def all_outputs(client: Client) -> None:
    given = {"names": np.array([b"a"], object), "rows": np.ones((1, 2), np.float32), "times": np.array(1)}
    assert sorted(client.infer("mixed", given).outputs) == ["same", "total"]


@says("a call that names outputs is given those, in the order it names them", *EVERY, on=(DEV,))
def chosen_outputs(client: Client) -> None:
    given = {"names": np.array([b"a"], object), "rows": np.ones((1, 2), np.float32), "times": np.array(1)}
    assert list(client.infer("mixed", given, ["total"]).outputs) == ["total"]
    assert list(client.infer("mixed", given, ["total", "same"]).outputs) == ["total", "same"]


@says("an output that the model has not is refused, and the error names what it has", *EVERY)
def unknown_output(client: Client) -> None:
    assert "'probabilities'" in refused("INVALID_ARGUMENT", client.infer, "storm", asked(), ["label"])


@says("an output that is asked for twice is refused", *EVERY)
def doubled_output(client: Client) -> None:
    refused("INVALID_ARGUMENT", client.infer, "storm", asked(), ["probabilities", "probabilities"])


@says("an output as classes is refused: classification is no extension of this server", *TRITON)
def classification(client: Client) -> None:
    wanted = client.wanted("probabilities", class_count=1)
    made = [client.input(one) for one in asked()]
    assert "classification" in refused("INVALID_ARGUMENT", client.call, "infer", "storm", made, outputs=[wanted])


@says("tensors in shared memory are refused: they are no extension of this server", *TRITON)
def shared_memory(client: Client) -> None:
    wanted = client.wanted("probabilities")
    wanted.set_shared_memory("region", 32)
    made = [client.input(one) for one in asked()]
    assert "shared_memory" in refused("INVALID_ARGUMENT", client.call, "infer", "storm", made, outputs=[wanted])
    made[0].set_shared_memory("region", 48)
    assert "shared_memory" in refused("INVALID_ARGUMENT", client.call, "infer", "storm", made)


@says("what a model raises is an error in the protocol's form, and the next call is answered", *EVERY, on=(DEV,))
def failing(client: Client) -> None:
    assert "model failed" in refused("INTERNAL", client.infer, "four", {"x": np.zeros(3, np.float32)}, ["y"])
    assert client.infer("four", {"x": np.arange(4, dtype=np.float32)}).outputs["y"].tolist() == [[0, 1], [2, 3]]
