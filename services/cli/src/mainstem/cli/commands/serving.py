"""`mainstem serve --dev DIR`: a folder of ONNX files behind the Open Inference Protocol, on this machine alone."""

import os
from pathlib import Path
from typing import Annotated

import typer


def serve(
    dev: Annotated[
        Path, typer.Option("--dev", metavar="DIR", help="Folder with NAME.onnx or NAME/VERSION/model.onnx in it.")
    ],
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of HTTP; 0 takes a free one.")] = 8000,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of gRPC; 0 takes a free one.")] = 8001,
    host: Annotated[str, typer.Option(help="Address to listen on, one of this machine's own.")] = "127.0.0.1",
) -> None:
    """Serve ONNX files for development until Ctrl-C: unapproved, unrecorded, and every answer says so."""
    from mainstem.events.errors import Rejected  # noqa: PLC0415
    from mainstem.serving.dev import Place, run  # noqa: PLC0415

    if host == "localhost":
        host = "127.0.0.1"
    try:
        run(Place(dev, host, http_port, grpc_port), os.environ, lambda line: typer.echo(line, err=True))
    except OSError as fault:
        raise Rejected(f"cannot serve: {fault.strerror or fault}") from fault
