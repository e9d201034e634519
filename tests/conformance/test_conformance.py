"""Every sentence of the protocol on every target, through every client that can say it; each is a test of its own."""

import pytest
from tests.conformance.checks import SENTENCES, trials
from tests.conformance.conftest import Probe
from tests.conformance.sentences import DEV, FAST, GRPC, HTTP, MANAGED


@pytest.mark.parametrize(("target", "client", "text"), trials(), ids=lambda part: part)
async def test_the_protocol(probes: dict[str, Probe], target: str, client: str, text: str) -> None:
    fault = await probes[target].try_(client, text)
    assert fault is None, fault


def test_each_transport_is_tried_by_a_hundred_sentences_and_each_target_too() -> None:
    for clients in (HTTP, GRPC):
        assert sum(bool(clients & set(one.clients)) for one in SENTENCES.values()) >= 100
    for target in (MANAGED, DEV, FAST[DEV]):
        assert len({text for tried, _, text in trials() if tried == target}) >= 100


async def test_a_server_that_does_not_do_what_a_sentence_says_is_found_out(probes: dict[str, Probe]) -> None:
    fault = await probes[MANAGED].try_("http", "metadata say that a model is unmanaged")
    assert fault is not None
    assert "AssertionError" in fault
