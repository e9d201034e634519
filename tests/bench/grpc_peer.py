"""What most people write: grpc.aio, the generated messages, onnxruntime; the same contract, and nothing is recorded."""

import asyncio
import os

import grpc
import numpy as np
import onnxruntime

from mainstem.inference import open_inference_pb2 as pb

HOST = "127.0.0.1"


class Inference:
    """The one method that counts."""

    def __init__(self, model: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    async def infer(self, request: pb.ModelInferRequest, _: grpc.aio.ServicerContext) -> pb.ModelInferResponse:
        """Answer a raw tensor with a raw tensor."""
        (tensor,), (raw,) = request.inputs, request.raw_input_contents
        rows = np.frombuffer(raw, np.float64).reshape(tensor.shape)
        (found,) = self._session.run(["probabilities"], {"features": rows})
        response = pb.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
        response.outputs.add(name="probabilities", datatype="FP64", shape=found.shape)
        response.raw_output_contents.append(found.tobytes())
        return response

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a generated `add_..._to_server` would add."""
        method = grpc.unary_unary_rpc_method_handler(
            self.infer,
            request_deserializer=pb.ModelInferRequest.FromString,
            response_serializer=pb.ModelInferResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": method})


async def _ready(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Tell over HTTP that the server is there, as all that are measured do."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    writer.close()


async def main() -> None:
    """Serve until terminated."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Inference(os.environ["BENCH_MODEL"]).handler(),))
    server.add_insecure_port(f"{HOST}:{os.environ['MAINSTEM_GRPC_PORT']}")
    await server.start()
    await asyncio.start_server(_ready, HOST, int(os.environ["MAINSTEM_HTTP_PORT"]))
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
