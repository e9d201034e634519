"""What most people write: FastAPI, pydantic, onnxruntime, uvicorn; the same contract, and no answer is recorded."""

import os

import fastapi
import numpy as np
import onnxruntime
import pydantic
import uvicorn


class Tensor(pydantic.BaseModel):
    """A tensor of the Open Inference Protocol."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float | None]


class Request(pydantic.BaseModel):
    """A request of it."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, str] = {}


class Response(pydantic.BaseModel):
    """An answer of it."""

    model_name: str
    model_version: str
    id: str | None
    outputs: list[Tensor]


def application(model: str) -> fastapi.FastAPI:
    """Return the application that answers by a model in a file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    app = fastapi.FastAPI()

    @app.get("/")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.post("/v2/models/{name}/infer")
    async def infer(name: str, request: Request) -> Response:
        (tensor,) = request.inputs
        rows = np.array(tensor.data, np.float64).reshape(tensor.shape)
        (found,) = session.run(["probabilities"], {"features": rows})
        output = Tensor(name="probabilities", shape=list(found.shape), datatype="FP64", data=found.ravel().tolist())
        return Response(model_name=name, model_version="1", id=request.id, outputs=[output])

    return app


if __name__ == "__main__":
    port = int(os.environ["MAINSTEM_HTTP_PORT"])
    uvicorn.run(application(os.environ["BENCH_MODEL"]), host="127.0.0.1", port=port, log_config=None, access_log=False)
