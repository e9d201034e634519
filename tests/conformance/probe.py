"""Runs checks in a process of its own: a line with client and sentence in, a line with what is wrong out.

Started with the addresses of HTTP and gRPC.
"""

import json
import sys
import traceback
from functools import cache

from tests.conformance import checks
from tests.conformance.clients import opened


def main(http_address: str, grpc_address: str) -> None:
    """Try what is asked until there is nothing more."""
    client = cache(lambda kind: opened(kind, http_address, grpc_address))
    for line in sys.stdin:
        kind, text = json.loads(line)
        fault = None
        try:
            checks.SENTENCES[text].check(client(kind))
        except Exception:  # noqa: BLE001  # whatever is wrong is what is told
            fault = traceback.format_exc()
        print(json.dumps(fault), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
