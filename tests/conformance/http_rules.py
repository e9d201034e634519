"""What only HTTP has: JSON and what is none, the binary extension byte by byte, packing, methods, connections."""

import gzip
import json
import re
import zlib
from functools import partial
from urllib.parse import quote

import numpy as np
from tests.conformance.calls import ROWS, storm
from tests.conformance.models import ODD_NAME
from tests.conformance.plain_http import Http, Response
from tests.conformance.sentences import CURL, DEV, MANAGED, Values, says

INFER = "/v2/models/storm/infer"
LENGTH = "inference-header-content-length"


def body(data: object = (1.0, -2.0, 0.5, 0.0, 0.25, -1.0), shape: object = (2, 3), **said: object) -> bytes:
    """Return a request as JSON."""
    tensor = {"name": "features", "shape": shape, "datatype": "FP64", "data": data}
    return json.dumps({"inputs": [tensor], **said}).encode()


def binary(rows: Values = ROWS, size: object = None, *, tail: bytes = b"") -> tuple[bytes, dict[str, str]]:
    """Return a request whose tensor stands behind the JSON, and its headers."""
    raw = rows.tobytes()
    about = {"binary_data_size": len(raw) if size is None else size}
    tensor = {"name": "features", "shape": rows.shape, "datatype": "FP64", "parameters": about}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + raw + tail, {LENGTH: str(len(head))}


def fine(answer: Response) -> Response:
    assert answer.status == 200, answer
    return answer


def refused(answer: Response, status: int = 400) -> str:
    """Return the message of an error, which is in the protocol's form."""
    assert (answer.status, list(answer.json)) == (status, ["error"]), answer
    assert answer.headers["content-type"] == "application/json"
    why: str = answer.json["error"]
    assert why
    return why


def scored(answer: Response, rows: Values = ROWS) -> None:
    """Check an answer that is all JSON."""
    (tensor,) = fine(answer).json["outputs"]
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("probabilities", "FP64", [len(rows), 2])
    np.testing.assert_allclose(np.array(tensor["data"]).reshape(-1, 2), storm(rows), atol=1e-15)


def raw_scores(answer: Response) -> Values:
    """Return the scores of an answer whose one tensor is raw."""
    assert fine(answer).headers["content-type"] == "application/octet-stream"
    length = int(answer.headers[LENGTH])
    (tensor,) = json.loads(answer.content[:length])["outputs"]
    assert tensor["parameters"]["binary_data_size"] == len(answer.content) - length
    assert "data" not in tensor
    return np.frombuffer(answer.content[length:]).reshape(tensor["shape"])


# -- JSON --


@says("data are taken flat", CURL)
def flat(http: Http) -> None:
    scored(http.post(INFER, body()))


@says("data are taken nested as the shape says", CURL)
def nested(http: Http) -> None:
    scored(http.post(INFER, body(ROWS.tolist())))


@says("null stands for NaN in floating point", CURL)
def null(http: Http) -> None:
    scored(http.post(INFER, body([1.0, None, 3.0], (1, 3))), np.array([[1.0, np.nan, 3.0]]))


@says("NaN of an answer is null", CURL, on=(DEV,))
def null_back(http: Http) -> None:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [None, 1.5]}
    answer = fine(http.post("/v2/models/open/infer", json.dumps({"inputs": [tensor]})))
    assert answer.json["outputs"][0]["data"] == [None, 1.5]


@says("whole numbers are taken where floating point is wanted", CURL)
def whole(http: Http) -> None:
    scored(http.post(INFER, body([1, 2, 3], (1, 3))), np.array([[1.0, 2.0, 3.0]]))


@says("a request needs no content type", CURL)
def no_type(http: Http) -> None:
    scored(http.post(INFER, body()))


@says("fields that nobody knows are let pass", CURL)
def more_fields(http: Http) -> None:
    scored(http.post(INFER, body(colour="red")))


@says("an answer of JSON says so, and is given no header of the binary extension", CURL)
def content_type(http: Http) -> None:
    answer = fine(http.post(INFER, body(), {"content-type": "application/json"}))
    assert answer.headers["content-type"] == "application/json"
    assert LENGTH not in answer.headers


@says("an answer has name, version, id and outputs", CURL)
def answer_form(http: Http) -> None:
    answer = fine(http.post(INFER, body(id="mine"))).json
    assert [answer[name] for name in ("model_name", "model_version", "id")] == ["storm", "1", "mine"]
    assert [sorted(one) for one in answer["outputs"]] == [["data", "datatype", "name", "shape"]]


WRONG = {
    "a body that is no JSON": b"{",
    "no body": b"",
    "JSON that is no object": b"[]",
    "a request without inputs": b"{}",
    "inputs that are no list": b'{"inputs":{}}',
    "an input without a name": b'{"inputs":[{"shape":[1,3],"datatype":"FP64","data":[1,2,3]}]}',
    "an input without a shape": b'{"inputs":[{"name":"features","datatype":"FP64","data":[1,2,3]}]}',
    "an input without a datatype": b'{"inputs":[{"name":"features","shape":[1,3],"data":[1,2,3]}]}',
    "an input without data": b'{"inputs":[{"name":"features","shape":[1,3],"datatype":"FP64"}]}',
    "the word NaN, which JSON has not": body([float("nan"), 1, 2], (1, 3)),
    "a number past float64": body().replace(b"-2.0", b"1e999"),
    "text where numbers are wanted": body(["1", "2", "3"], (1, 3)),
    "truth values where numbers are wanted": body([True, False, True], (1, 3)),
    "ragged data": body([[1, 2, 3], [4, 5]]),
    "data nested deeper than the shape": body([[[1, 2, 3]]], (1, 3)),
    "data nested a hundred thousand deep": body([], (1, 3)).replace(b"[]", b"[" * 100_000),
    "more values than the shape has": body([1, 2, 3, 4], (1, 3)),
    "a shape that is no list": body(shape=6),
    "a dimension that is no whole number": body(shape=(2, 3.5)),
    "an id that is no string": body(id=7),
    "parameters that are no object": body(parameters=[1]),
    "a parameter that is an object": body(parameters={"a": {}}),
    "an output without a name": body(outputs=[{}]),
    "binary_data_output that is no truth value": body(parameters={"binary_data_output": "yes"}),
    "binary_data that is no truth value": body(outputs=[{"name": "probabilities", "parameters": {"binary_data": 1}}]),
    "bytes that are no UTF-8": body(id="x").replace(b'"x"', b'"\xff"'),
}


def is_refused(content: bytes, http: Http) -> None:
    refused(http.post(INFER, content))


for name, content in WRONG.items():
    says(f"{name}: 400, and a sentence of why", CURL)(partial(is_refused, content))


@says("a number that its datatype has not is refused", CURL, on=(DEV,))
def out_of_range(http: Http) -> None:
    for name, value in (("uint8", 256), ("uint8", -1), ("int8", 128), ("fp32", 1e39), ("int64", 2**63), ("int32", 1.5)):
        tensor = {"name": "x", "shape": [1, 1], "datatype": name.upper(), "data": [value]}
        refused(http.post(f"/v2/models/{name}/infer", json.dumps({"inputs": [tensor]})))


# -- the binary extension --


@says("a raw tensor behind the JSON is taken, and JSON is given where nothing else is asked", CURL)
def raw_in(http: Http) -> None:
    content, headers = binary()
    scored(http.request("POST", INFER, content, headers))


@says("binary_data_output gives every output raw", CURL)
def raw_out(http: Http) -> None:
    np.testing.assert_allclose(raw_scores(http.post(INFER, body(parameters={"binary_data_output": True}))), storm())


@says("binary_data of an output goes before binary_data_output", CURL)
def output_first(http: Http) -> None:
    for whole, one in ((True, False), (False, True)):
        outputs = [{"name": "probabilities", "parameters": {"binary_data": one}}]
        answer = http.post(INFER, body(parameters={"binary_data_output": whole}, outputs=outputs))
        if one:
            np.testing.assert_allclose(raw_scores(answer), storm())
        else:
            scored(answer)


@says("raw and JSON inputs mix in one call", CURL, on=(DEV,))
def mixed(http: Http) -> None:
    rows = np.array([[1, 2], [3, 4]], "<f4")
    inputs = [
        {"name": "names", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]},
        {"name": "rows", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": rows.nbytes}},
        {"name": "times", "shape": [], "datatype": "INT64", "data": [2]},
    ]
    head = json.dumps({"inputs": inputs}).encode()
    found = fine(http.request("POST", "/v2/models/mixed/infer", head + rows.tobytes(), {LENGTH: str(len(head))})).json
    assert {one["name"]: one["data"] for one in found["outputs"]} == {"same": ["a", "b"], "total": [6, 14]}


@says("raw and JSON outputs mix in one answer, the raw ones in their order", CURL, on=(DEV,))
def mixed_out(http: Http) -> None:
    inputs = [
        {"name": "names", "shape": [1], "datatype": "BYTES", "data": ["a"]},
        {"name": "rows", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]},
        {"name": "times", "shape": [], "datatype": "INT64", "data": [2]},
    ]
    outputs = [{"name": "total", "parameters": {"binary_data": True}}, {"name": "same"}]
    answer = fine(http.post("/v2/models/mixed/infer", json.dumps({"inputs": inputs, "outputs": outputs})))
    length = int(answer.headers[LENGTH])
    total, same = json.loads(answer.content[:length])["outputs"]
    assert (total["parameters"], same["data"]) == ({"binary_data_size": 4}, ["a"])
    assert np.frombuffer(answer.content[length:], "<f4").tolist() == [6]


@says("a length of 0 says that the body is the one input, and all outputs are raw", CURL)
def whole_body(http: Http) -> None:
    np.testing.assert_allclose(raw_scores(http.request("POST", INFER, ROWS.tobytes(), {LENGTH: "0"})), storm())


@says("a body that is no whole number of rows is refused", CURL)
def part_of_a_row(http: Http) -> None:
    refused(http.request("POST", INFER, ROWS.tobytes()[:-8], {LENGTH: "0"}))


@says("a body alone is refused for a model with several inputs, or several variable dimensions", CURL, on=(DEV,))
def body_alone(http: Http) -> None:
    for name in ("mixed", "open", "lines"):
        refused(http.request("POST", f"/v2/models/{name}/infer", b"\0" * 8, {LENGTH: "0"}))


@says("a length that is no number, negative, or past the body is refused", CURL)
def wrong_length(http: Http) -> None:
    for length in ("x", "-1", "1.5", "999999", "9" * 5000):
        refused(http.request("POST", INFER, body(), {LENGTH: length}))


@says("a binary_data_size past the end of the body is refused", CURL)
def size_past_end(http: Http) -> None:
    content, headers = binary(size=1000)
    refused(http.request("POST", INFER, content, headers))


@says("a binary_data_size that is not that of the shape is refused", CURL)
def size_of_another(http: Http) -> None:
    content, headers = binary(size=40)
    refused(http.request("POST", INFER, content, headers))


@says("a binary_data_size that is no count is refused", CURL)
def size_that_is_none(http: Http) -> None:
    for size in (-1, "48", 1.5, True):
        content, headers = binary(size=size)
        refused(http.request("POST", INFER, content, headers))


@says("bytes behind the last tensor are refused", CURL)
def tail(http: Http) -> None:
    content, headers = binary(tail=b"more")
    refused(http.request("POST", INFER, content, headers))


@says("an input with both data and binary_data_size is refused", CURL)
def both(http: Http) -> None:
    content = json.loads(body())
    content["inputs"][0]["parameters"] = {"binary_data_size": 48}
    head = json.dumps(content).encode()
    refused(http.request("POST", INFER, head + ROWS.tobytes(), {LENGTH: str(len(head))}))


@says("a BOOL byte that is neither 0 nor 1 is refused", CURL, on=(DEV,))
def no_bool(http: Http) -> None:
    tensor = {"name": "x", "shape": [1, 1], "datatype": "BOOL", "parameters": {"binary_data_size": 1}}
    head = json.dumps({"inputs": [tensor]}).encode()
    refused(http.request("POST", "/v2/models/bool/infer", head + b"\2", {LENGTH: str(len(head))}))


@says("BYTES whose lengths are cut off, too many or too few are refused", CURL, on=(DEV,))
def wrong_lengths(http: Http) -> None:
    for raw in (b"\1\0\0", b"\5\0\0\0ab", b"\1\0\0\0a\1\0\0\0b", b""):
        tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
        head = json.dumps({"inputs": [tensor]}).encode()
        refused(http.request("POST", "/v2/models/lines/infer", head + raw, {LENGTH: str(len(head))}))


@says("BYTES that are no text are refused as JSON on the way out, and given raw", CURL, on=(DEV,))
def surrogate(http: Http) -> None:
    raw = b"\2\0\0\0ok"
    tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    answer = fine(http.request("POST", "/v2/models/lines/infer", head + raw, {LENGTH: str(len(head))}))
    assert answer.content.endswith(raw)


# -- packing --


@says("a gzip body is taken", CURL)
def gzip_in(http: Http) -> None:
    scored(http.request("POST", INFER, gzip.compress(body()), {"content-encoding": "gzip"}))


@says("a deflate body is taken", CURL)
def deflate_in(http: Http) -> None:
    scored(http.request("POST", INFER, zlib.compress(body()), {"content-encoding": "deflate"}))


@says("the length of the JSON is that before packing", CURL)
def length_before_packing(http: Http) -> None:
    content, headers = binary()
    scored(http.request("POST", INFER, gzip.compress(content), {**headers, "content-encoding": "gzip"}))


@says("an answer is packed as it is accepted", CURL)
def packed_out(http: Http) -> None:
    rows = np.tile(ROWS, (300, 1))
    for name, unpack in (("gzip", gzip.decompress), ("deflate", zlib.decompress)):
        content = body(rows.ravel().tolist(), rows.shape)
        answer = fine(http.request("POST", INFER, content, {"accept-encoding": name}))
        assert answer.headers["content-encoding"] == name
        (tensor,) = json.loads(unpack(answer.content))["outputs"]
        np.testing.assert_allclose(np.array(tensor["data"]).reshape(-1, 2), storm(rows))


@says("an encoding that is not accepted is not given", CURL)
def not_accepted(http: Http) -> None:
    rows = np.tile(ROWS, (300, 1))
    for accepted in ("identity", "br", "gzip;q=0", "gzip;q=0, deflate;q=0"):
        answer = http.request("POST", INFER, body(rows.ravel().tolist(), rows.shape), {"accept-encoding": accepted})
        assert "content-encoding" not in fine(answer).headers, accepted


@says("a body that is not packed as it says, or in another way, is refused", CURL)
def no_gzip(http: Http) -> None:
    refused(http.request("POST", INFER, body(), {"content-encoding": "gzip"}))
    refused(http.request("POST", INFER, body(), {"content-encoding": "br"}))
    refused(http.request("POST", INFER, gzip.compress(body())[:-9], {"content-encoding": "gzip"}), 400)


@says("a body that unpacks to more than may be sent is too large", CURL)
def bomb(http: Http) -> None:
    refused(http.request("POST", INFER, gzip.compress(b" " * (17 << 20)), {"content-encoding": "gzip"}), 413)


@says("a body that is larger than may be sent is too large", CURL)
def too_large(http: Http) -> None:
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (INFER.encode(), 1 << 30)
    assert http.send(head).startswith(b"HTTP/1.1 413 ")


# -- paths and methods --


@says("the server is told at /v2 and at /v2/", CURL)
def server(http: Http) -> None:
    first, second = fine(http.get("/v2")).json, fine(http.get("/v2/")).json
    assert first == second
    assert sorted(first) == ["extensions", "name", "version"]
    assert "binary_tensor_data" in first["extensions"]


@says("live and ready are 200", CURL)
def health(http: Http) -> None:
    assert fine(http.get("/v2/health/live")).json == {"live": True}
    assert fine(http.get("/v2/health/ready")).json == {"ready": True}


@says("probes of Kubernetes are answered", CURL)
def probes(http: Http) -> None:
    for path in ("/livez", "/readyz"):
        fine(http.get(path))


@says("a model that is ready says so by name", CURL)
def model_ready(http: Http) -> None:
    for path in ("/v2/models/storm/ready", "/v2/models/storm/versions/1/ready"):
        assert fine(http.get(path)).json == {"name": "storm", "ready": True}


@says("readiness and metadata of what there is not are 404", CURL)
def not_there(http: Http) -> None:
    for path in (
        "sun",
        "sun/ready",
        "storm/versions/9",
        "storm/versions/9/ready",
        "sun/stats",
        "storm/versions/9/stats",
    ):
        refused(http.get(f"/v2/models/{path}"), 404)


@says("a name in an address is percent-encoded, and any part of it may be", CURL)
def encoded(http: Http) -> None:
    assert fine(http.get("/v2/models/st%6Frm")).json["name"] == "storm"
    scored(http.post("/v2/models/%73torm/infer", body()))


@says("a name of any script is found by its UTF-8, percent-encoded", CURL, on=(DEV,))
def encoded_script(http: Http) -> None:
    assert fine(http.get(f"/v2/models/{quote(ODD_NAME)}")).json["name"] == ODD_NAME


@says("what stands behind a question mark changes nothing", CURL)
def query(http: Http) -> None:
    scored(http.post(f"{INFER}?a=b", body()))


@says("a path that there is not is 404 in the protocol's form", CURL)
def nowhere(http: Http) -> None:
    for path in ("/v2/x", "/v2/models", "/v2/models/", "/v2/models/storm/x", "/v2/models/storm/versions", "/v2//"):
        refused(http.get(path), 404)


@says("another method than a path takes is 405, says which it takes, and is in the protocol's form", CURL)
def other_method(http: Http) -> None:
    for method, path, taken in (
        ("GET", INFER, "POST"),
        ("PUT", INFER, "POST"),
        ("POST", "/v2", "GET, HEAD"),
        ("POST", "/v2/models/storm", "GET, HEAD"),
        ("POST", "/v2/health/live", "GET, HEAD"),
        ("DELETE", "/v2/models/storm/versions/1", "GET, HEAD"),
        ("GET", "/v2/repository/index", "POST"),
        ("GET", "/v2/repository/models/storm/load", "POST"),
    ):
        answer = http.request(method, path)
        refused(answer, 405)
        assert answer.headers["allow"] == taken


@says("HEAD is GET without the body", CURL)
def head(http: Http) -> None:
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/storm", "/v2/models/storm/ready"):
        answer = fine(http.request("HEAD", path))
        assert answer.content == b""
    refused(http.get("/v2/models/sun"), 404)
    assert http.request("HEAD", "/v2/models/sun").status == 404


# -- the repository and statistics --


@says("the index is asked with an empty body, an empty object, or ready", CURL)
def index(http: Http) -> None:
    for content in (b"", b"{}", b'{"ready":true}', b'{"ready":false}'):
        found = fine(http.post("/v2/repository/index", content)).json
        assert {"name": "storm", "version": "1", "state": "READY", "reason": ""} in found


@says("an index that is asked for what is ready lists nothing else", CURL, on=(DEV,))
def ready_index(http: Http) -> None:
    fine(http.post("/v2/repository/models/spare/unload"))
    try:
        listed = fine(http.post("/v2/repository/index", b'{"ready":true}')).json
        assert "spare" not in [one["name"] for one in listed]
        listed = fine(http.post("/v2/repository/index", b'{"ready":false}')).json
        assert {"name": "spare", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"} in listed
        refused(http.get("/v2/models/spare/ready"), 503)
    finally:
        fine(http.post("/v2/repository/models/spare/load"))


@says("an index that is asked for what it has not is refused", CURL)
def wrong_index(http: Http) -> None:
    for content in (b"[]", b'{"ready":1}', b"{"):
        refused(http.post("/v2/repository/index", content))


@says("a load takes parameters that ask for nothing more", CURL)
def load(http: Http) -> None:
    for content in (b"", b"{}", b'{"parameters":{}}', b'{"parameters":{"colour":"red"}}'):
        fine(http.post("/v2/repository/models/storm/load", content))
    refused(http.post("/v2/repository/models/storm/load", b"[]"))


@says("unload_dependents is taken where a model is unloaded", CURL, on=(DEV,))
def unload(http: Http) -> None:
    fine(http.post("/v2/repository/models/spare/unload", b'{"parameters":{"unload_dependents":false}}'))
    fine(http.post("/v2/repository/models/spare/load"))


@says("statistics of a model, of a version and of all are told", CURL)
def statistics(http: Http) -> None:
    for path in ("models/stats", "models/storm/stats", "models/storm/versions/1/stats"):
        names = [one["name"] for one in fine(http.get(f"/v2/{path}")).json["model_stats"]]
        assert "storm" in names


# -- records and connections --


@says("an entity that is no string is refused", CURL, on=(MANAGED,))
def entity(http: Http) -> None:
    refused(http.post(INFER, body(parameters={"entity": 7})))


@says("a connection is kept from request to request", CURL)
def kept(http: Http) -> None:
    connection = http.connect()
    for number in range(5):
        connection.request("POST", INFER, body(id=str(number)))
        assert http.read(connection).json["id"] == str(number)
    connection.close()


@says("requests that are sent without waiting are answered in their order", CURL)
def pipelined(http: Http) -> None:
    head = "POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n%s\r\n"
    requests = [body([number, 0, 0], (1, 3), id=str(number)) for number in range(30)]
    sent = [
        (head % (INFER, len(one), "connection: close\r\n" * (one is requests[-1]))).encode() + one for one in requests
    ]
    sent.insert(7, head.replace("POST", "GET").encode() % (b"/v2/models/sun", 0, b""))
    found = http.send(b"".join(sent))
    assert [int(one) for one in re.findall(rb'"id":"(\d+)"', found)] == list(range(30))
    assert re.findall(rb"HTTP/1.1 (\d+)", found)[7:9] == [b"404", b"200"]


@says("a body in chunks is taken", CURL)
def chunked(http: Http) -> None:
    content = body()
    parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (content[:10], content[10:]))
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n" % INFER.encode()
    assert b"200 OK" in http.send(head + parts + b"0\r\n\r\n")


@says("a body is waited for that asks whether it may come", CURL)
def expected(http: Http) -> None:
    content = body()
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
    found = http.send(head % (INFER.encode(), len(content)) + content)
    assert found.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


@says("HTTP/1.0 is answered, and the connection closed", CURL)
def old(http: Http) -> None:
    content = body()
    found = http.send(b"POST %b HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % (INFER.encode(), len(content)) + content)
    assert found.startswith(b"HTTP/1.1 200 OK")


@says("what is no HTTP is 400, and the connection closed", CURL)
def no_http(http: Http) -> None:
    assert http.send(b"HELLO\r\n\r\n").startswith(b"HTTP/1.1 400 ")


@says("a wish to go on in another protocol is passed over, and the request served", CURL)
def upgrade(http: Http) -> None:
    content = body()
    wish = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
    asked = (
        b"POST %b HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n" % (INFER.encode(), wish, len(content)) + content
    )
    found = http.send(asked * 2 + b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"200"] * 3
    assert found.count(b'"model_name":"storm"') == 2


@says("an address with a host is taken as the one without", CURL)
def absolute(http: Http) -> None:
    scored(http.post(f"http://{http.host}:{http.port}{INFER}", body()))
    fine(http.get("http://x/v2"))
    fine(http.get("http://x/v2/health/live"))


@says("what HTTP/1.1 does not allow, or is for no server of models, is refused in the protocol's form", CURL)
def for_nobody(http: Http) -> None:
    for asked, status in (
        (b"GET /v2 HTTP/1.1\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
        (b"POST %b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n" % INFER.encode(), 501),
        (b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n", 501),
        (b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 405),
    ):
        head, _, content = http.send(asked).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status), head
        assert list(json.loads(content)) == ["error"]


@says("a wrong request leaves the connection as it was", CURL)
def after_an_error(http: Http) -> None:
    connection = http.connect()
    connection.request("POST", INFER, b"{")
    refused(http.read(connection))
    connection.request("POST", INFER, body())
    scored(http.read(connection))
    connection.close()
