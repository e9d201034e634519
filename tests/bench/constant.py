"""uvicorn with nothing behind it: every question has the same answer."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

Message = dict[str, Any]

_ANSWER = (
    b'{"model_name":"arrival_delay","model_version":"1","id":"0","outputs":[{"name":"probabilities",'
    b'"datatype":"FP64","shape":[1,2],"data":[0.81,0.19]}]}'
)
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_ANSWER))]


async def app(_: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Any]) -> None:
    """Hear the question, and give the answer."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _ANSWER})


if __name__ == "__main__":
    port = int(os.environ["MAINSTEM_HTTP_PORT"])
    uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, access_log=False, lifespan="off")
