"""The clients that an application takes as they are: `tritonclient`, over either transport.

Imported by who calls alone: their generated messages have the names of ours, and one process cannot hold both.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio
import tritonclient.http as over_http
import tritonclient.http.aio
from projects.flights.demo.calls import TIMEOUT_S, Channel, NotYet, Said
from tritonclient.utils import InferenceServerException

OUTPUT = "probabilities"
_DATATYPES = {"f": "FP64", "i": "INT64", "O": "BYTES"}
#: How either says that a model cannot answer now.
_NOT_YET = (str(HTTPStatus.SERVICE_UNAVAILABLE.value), "StatusCode.UNAVAILABLE")


class Client:
    """Asks one model over one transport."""

    def __init__(self, channel: Channel, api: ModuleType, client: Any, model: str) -> None:
        self._channel, self._api, self._client, self._model = channel, api, client, model

    async def infer(self, tensors: Mapping[str, npt.NDArray[Any]], entity: str) -> Said:
        """Return what the model says. Raises NotYet when it cannot now, and RuntimeError with the server's words."""
        inputs = [self._input(name, values) for name, values in tensors.items()]
        try:
            result = await self._client.infer(self._model, inputs, parameters={"entity": entity})
        except InferenceServerException as fault:
            said = f"serving answered {fault.status()} over {self._channel}: {fault.message()}"
            raise (NotYet if fault.status() in _NOT_YET else RuntimeError)(said) from fault
        version, prediction = _told(result.get_response())
        return Said(version, float(np.asarray(result.as_numpy(OUTPUT))[0, 1]), prediction)

    def _input(self, name: str, values: npt.NDArray[Any]) -> Any:
        tensor = self._api.InferInput(name, list(values.shape), _DATATYPES[values.dtype.kind])
        return tensor.set_data_from_numpy(values)

    async def close(self) -> None:
        """End it."""
        await self._client.close()


def connect(addresses: Sequence[str], model: str) -> dict[Channel, Client]:
    """Return clients of a model: over HTTP at the first address, over gRPC at the second."""
    http = tritonclient.http.aio.InferenceServerClient(addresses[0], conn_timeout=TIMEOUT_S)
    grpc = tritonclient.grpc.aio.InferenceServerClient(addresses[1])
    return {"http": Client("http", over_http, http, model), "grpc": Client("grpc", over_grpc, grpc, model)}


def _told(response: Any) -> tuple[int, str]:
    """Return the version that answered, and the id of the prediction."""
    if isinstance(response, dict):
        return int(response["model_version"]), response["parameters"]["prediction_id"]
    return int(response.model_version), response.parameters["prediction_id"].string_param
