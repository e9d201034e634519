"""Servers with nothing behind them, on the libraries that serving uses, at the ports that serving would be told."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import uvicorn
import uvloop

Message = dict[str, Any]


async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Any]) -> None:
    """Give the body back."""
    body = (await receive())["body"]
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


class Everything(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Takes every method and gives the request back."""

    def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Return the one handler."""

        async def same(request: bytes, _: grpc.aio.ServicerContext) -> bytes:
            return request

        return grpc.unary_unary_rpc_method_handler(same)


async def main() -> None:
    """Serve until terminated."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Everything(),))
    server.add_insecure_port(f"127.0.0.1:{os.environ['MAINSTEM_GRPC_PORT']}")
    await server.start()
    port = int(os.environ["MAINSTEM_HTTP_PORT"])
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False, lifespan="off")
    await uvicorn.Server(config).serve()
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(main())
