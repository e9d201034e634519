"""What an unmodified tritonclient sees, as JSON: run with `http` or `grpc` and the address of a server.

A process of its own, because its generated messages and ours have the same names.
"""

import importlib
import json
import queue
import sys

import numpy as np

ROWS = np.array([[1.0, np.nan, 3.0], [0.0, 0.5, -1.0]])


class Probe:
    """One client and the checks on it."""

    def __init__(self, transport, address):
        self.api = importlib.import_module(f"tritonclient.{transport}")
        self.client = self.api.InferenceServerClient(address)
        self.http = transport == "http"

    def inputs(self, rows=ROWS, name="features", datatype="FP64", **said):
        tensor = self.api.InferInput(name, list(rows.shape), datatype)
        tensor.set_data_from_numpy(rows, **said)
        return [tensor]

    def infer(self, model="storm", **said):
        said.setdefault("inputs", self.inputs())
        return self.client.infer(model, **said)

    def scores(self, **said):
        return self.infer(**said).as_numpy("probabilities")[:, 1].tolist()

    def text(self, call, *arguments, **said):
        """Return the status and the message of an error."""
        try:
            call(*arguments, **said)
        except self.api.InferenceServerException as fault:
            return [fault.status(), fault.message()]
        return ["no error", ""]

    def known(self):
        """Server and model, as both transports tell them."""
        as_dict = {} if self.http else {"as_json": True}
        server = self.client.get_server_metadata(**as_dict)
        model = self.client.get_model_metadata("storm", **as_dict)
        return {
            "live": self.client.is_server_live(),
            "ready": self.client.is_server_ready(),
            "model ready": self.client.is_model_ready("storm"),
            "version ready": self.client.is_model_ready("storm", "1"),
            "server": server["name"],
            "model": [model["name"], model["versions"], model["platform"]],
            "tensors": [
                [t["name"], t["datatype"], [int(n) for n in t["shape"]]] for t in model["inputs"] + model["outputs"]
            ],
        }

    def answers(self):
        """Scores by every way of asking."""
        wanted = self.api.InferRequestedOutput("probabilities")
        response = self.infer(request_id="mine", parameters={"entity": "LGA"}).get_response()
        found = {
            "by default": self.scores(),
            "with version": self.scores(model_version="1"),
            "with outputs": self.scores(outputs=[wanted]),
            "no rows": self.scores(inputs=self.inputs(np.zeros((0, 3)))),
            "id": response["id"] if self.http else response.id,
            "parameters": sorted(response["parameters"] if self.http else response.parameters),
        }
        if self.http:
            typed = self.api.InferRequestedOutput("probabilities", binary_data=False)
            finite = self.inputs(np.nan_to_num(ROWS), binary_data=False)
            found["all JSON"] = self.scores(inputs=finite, outputs=[typed])
            many = self.inputs(np.tile(ROWS, (200, 1)))
            for algorithm in ("gzip", "deflate"):
                compressed = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
                found[algorithm] = self.scores(inputs=many, **compressed)[:2]
        return found

    def refusals(self):
        """Status and message of every wrong question."""
        unknown = [self.api.InferRequestedOutput("label")]
        return {
            "unknown model": self.text(self.infer, "sun"),
            "unknown version": self.text(self.infer, model_version="9"),
            "unknown output": self.text(self.infer, outputs=unknown),
            "unknown input": self.text(self.infer, inputs=self.inputs(name="x")),
            "float32": self.text(self.infer, inputs=self.inputs(ROWS.astype(np.float32), datatype="FP32")),
            "wide": self.text(self.infer, inputs=self.inputs(np.zeros((1, 4)))),
            "flat": self.text(self.infer, inputs=self.inputs(np.zeros(3))),
            "two inputs": self.text(self.infer, inputs=self.inputs() + self.inputs(name="more")),
            "metadata": self.text(self.client.get_model_metadata, "sun"),
            "unload": self.text(self.client.unload_model, "storm"),
            "load": self.text(self.client.load_model, "sun"),
            "statistics": self.text(self.client.get_inference_statistics, "sun"),
        }

    def stream(self):
        """What comes back on a stream, in its order; only gRPC has one."""
        found = queue.Queue()
        self.client.start_stream(lambda result, error: found.put((result, error)))
        for name in ("features", "x", "features"):
            self.client.async_stream_infer("storm", self.inputs(name=name), request_id=name)
        given = [found.get(timeout=30) for _ in range(3)]
        self.client.stop_stream()
        return [
            error.message() if error else [result.get_response().id, result.as_numpy("probabilities")[:, 1].tolist()]
            for result, error in given
        ]

    def repository(self):
        """What there is, and what was done for it."""
        as_dict = {} if self.http else {"as_json": True}
        self.client.load_model("storm")
        self.scores()
        index = self.client.get_model_repository_index(**as_dict)
        (stats,) = self.client.get_inference_statistics("storm", **as_dict)["model_stats"]
        everything = self.client.get_inference_statistics(**as_dict)["model_stats"]
        return {
            "index": [
                {name: one.get(name, "") for name in ("name", "version", "state", "reason")}
                for one in (index if self.http else index["models"])
            ],
            "counted": int(stats["inference_count"]) >= int(stats["execution_count"]) > 0,
            "succeeded": int(stats["inference_stats"]["success"]["count"]) > 0,
            "batches": [int(one["batch_size"]) for one in stats["batch_stats"]],
            "of all": [one["name"] for one in everything],
        }


if __name__ == "__main__":
    _, transport, address = sys.argv
    probe = Probe(transport, address)
    json.dump(
        {
            "known": probe.known(),
            "answers": probe.answers(),
            "refusals": probe.refusals(),
            "stream": None if probe.http else probe.stream(),
            "repository": probe.repository(),
        },
        sys.stdout,
    )
