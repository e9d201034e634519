"""What an application does: asks for predictions over HTTP and gRPC, and keeps every answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import grpc
import httpx
import msgspec

from mainstem.bus import Partition
from mainstem.bus.reader import LogReader
from mainstem.events.catalogue import Record
from mainstem.events.features import RowComputed
from mainstem.inference import open_inference_pb2 as pb

INPUT, OUTPUT = "features", "probabilities"
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Question:
    """A feature row that was published: its id, whom it is about, and the model's inputs."""

    row: str
    entity: str
    values: list[float | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back on one question; `prediction` is the id under which the log must hold it."""

    channel: Literal["http", "grpc"]
    row: str
    version: int
    score: float
    prediction: str


class _Row(msgspec.Struct):
    entity: str
    values: list[float | None]


class Calls:
    """Asks about rows that were just published, `total` times over each protocol, spread evenly over some occasions.

    Use `async with`, when the model's topics exist.
    """

    def __init__(self, env: Mapping[str, str], model: str, feature_set: str, total: int, occasions: int) -> None:
        self.answers: list[Answer] = []
        self._model, self._total, self._occasions, self._occasion = model, total, occasions, 0
        self._topic = RowComputed.topic_of(feature_set)
        self._starts: dict[Partition, int] = {}
        self._reader = LogReader(env["MAINSTEM_KAFKA"], [self._topic])
        self._http = httpx.AsyncClient(base_url=env["MAINSTEM_SERVING_URL"], timeout=TIMEOUT_S)
        self._channel = grpc.aio.insecure_channel(env["MAINSTEM_SERVING_GRPC"])
        self._infer = self._channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )

    async def __aenter__(self) -> "Calls":
        await self._reader.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()
        await self._http.aclose()
        await self._reader.__aexit__()

    async def some(self) -> None:
        """Make the calls of one occasion; raise RuntimeError with the server's own words when one fails."""
        done, self._occasion = self._occasion, self._occasion + 1
        count = self._total * self._occasion // self._occasions - self._total * done // self._occasions
        for question in await self._newest(count):
            self.answers.append(await self._ask_http(question))
            self.answers.append(await self._ask_grpc(question))

    async def _newest(self, count: int) -> list[Question]:
        """Return the rows recorded last."""
        await self._reader.start(self._starts)
        # Markers and second copies stand between the rows.
        self._starts = {place: max(0, end - 2 * count - 50) for place, end in (await self._reader.ends()).items()}
        await self._reader.start(self._starts)
        found: dict[str, tuple[str, Question]] = {}
        async for records in self._reader.to_end():
            found |= {question.row: (known, question) for known, question in _questions(records)}
        newest = sorted(found.values(), key=lambda pair: (pair[0], pair[1].row))[-count:] if count else []
        if len(newest) < count:
            raise RuntimeError(f"{self._topic} holds {len(newest)} rows, {count} are needed; play more days")
        return [question for _, question in newest]

    async def _ask_http(self, question: Question) -> Answer:
        tensor = {"name": INPUT, "datatype": "FP64", "shape": [1, len(question.values)], "data": question.values}
        body = {"inputs": [tensor], "parameters": {"entity": question.entity}}
        response = await self._http.post(f"/v2/models/{self._model}/infer", json=body)
        if response.is_error:
            raise RuntimeError(f"serving answered {response.status_code} over HTTP: {response.text}")
        said = response.json()
        (output,) = said["outputs"]
        prediction = said["parameters"]["prediction_id"]
        return Answer("http", question.row, int(said["model_version"]), output["data"][1], prediction)

    async def _ask_grpc(self, question: Question) -> Answer:
        request: Any = pb.ModelInferRequest(model_name=self._model)
        request.parameters["entity"].string_param = question.entity
        tensor = request.inputs.add(name=INPUT, datatype="FP64", shape=[1, len(question.values)])
        tensor.contents.fp64_contents.extend(float("nan") if value is None else value for value in question.values)
        try:
            said = await self._infer(request, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as fault:
            raise RuntimeError(f"serving answered {fault.code()} over gRPC: {fault.details()}") from fault
        score = said.outputs[0].contents.fp64_contents[1]
        prediction = said.parameters["prediction_id"].string_param
        return Answer("grpc", question.row, int(said.model_version), score, prediction)


def _questions(records: Sequence[Record]) -> list[tuple[str, Question]]:
    """Return the rows among records of a feature topic, each with the instant it became known."""
    found = []
    for record in records:
        headers = dict(record.headers)
        if headers["ce_type"] == RowComputed.TYPE.encode():
            row = msgspec.json.decode(record.value or b"", type=_Row)
            question = Question(headers["ce_id"].decode(), row.entity, row.values)
            found.append((headers["ce_recordedtime"].decode(), question))
    return found
