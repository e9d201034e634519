"""Fuzz one target: `python -m tests.fuzz http [SECONDS] [SEED]`; prints what was found as JSON."""

import asyncio
import json
import sys
import warnings

from tests.fuzz.fuzzing import fuzz
from tests.fuzz.targets import TARGETS


async def main(name: str, seconds: str = "60", seed: str = "1") -> None:
    warnings.simplefilter("error")
    print(json.dumps((await fuzz(TARGETS[name](), float(seconds), int(seed))).document()))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
