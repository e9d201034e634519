"""What callers waited, and the books of those who answered them."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx
import numpy as np
from projects.flights.demo.books import Promises
from projects.flights.demo.calls import Answer
from prometheus_client.parser import text_string_to_metric_families

#: What waits in spools when the last call was answered is in the log soon.
SENT_WITHIN_S: Final = 60
_METERS: Final = {
    "recorded": "mainstem_predictions_recorded",
    "sent": "mainstem_predictions_sent",
    "dropped": "mainstem_answers_dropped_total",
}


def latencies(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return by transport, and whether the caller brought the features, what percentiles of the calls took (ms)."""
    found: dict[str, list[float]] = {}
    for answer in answers:
        form = "features" if answer.row else "entity"
        found.setdefault(f"{answer.channel} by {form}", []).append(answer.seconds * 1_000)
    shares = {"p50": 50, "p95": 95, "p99": 99}
    return {
        "latency_ms": {
            form: {name: round(float(np.percentile(times, share)), 2) for name, share in shares.items()}
            for form, times in sorted(found.items())
        }
    }


async def balanced(env: Mapping[str, str], promises: Promises) -> dict[str, int]:
    """Hold the books of serving: of what was recorded all is in the log, and nothing was dropped; return them."""
    books = await _books(env)
    try:
        async with asyncio.timeout(SENT_WITHIN_S):
            while books["recorded"] != books["sent"]:
                await asyncio.sleep(0.2)
                books = await _books(env)
    except TimeoutError:
        pass
    promise = f"the books of serving balance: {books['recorded']:,} direct answers recorded, and in the log"
    promises.hold(promise, (books["recorded"] - books["sent"], books["dropped"]), (0, 0))
    return books


async def _books(env: Mapping[str, str]) -> dict[str, int]:
    async with httpx.AsyncClient(base_url=env["MAINSTEM_SERVING_URL"], timeout=20) as client:
        told = (await client.get("/metrics")).raise_for_status().text
    samples = [sample for family in text_string_to_metric_families(told) for sample in family.samples]
    return {name: int(sum(each.value for each in samples if each.name == meter)) for name, meter in _METERS.items()}
