"""Ledger: every record of every topic is framed, hashed, packed into blocks and stored."""

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.clock import Figure
from tests.bench.stage import ON_SERVERS, Stage, Turn

from mainstem.ledger_service.folder import Folder
from mainstem.ledger_service.handlers import on_records
from mainstem.ledger_service.publishing import Publisher
from mainstem.ledger_service.store import PostgresStore
from mainstem.registry.handlers import implied_topics
from mainstem.testkit.cosigner import LOG, WITNESS, Cosigner


async def ledger(stage: Stage) -> Turn:
    """Set the service up."""
    store = PostgresStore(await stage.database("ledger", "mainstem.ledger_service"))

    async def nothing() -> None:
        """Topics do not change here."""

    log = Folder(Path(stage.closing.enter_context(TemporaryDirectory())), LOG.log_key)
    publisher = Publisher(log, LOG, WITNESS.witness_key, Cosigner().ask)

    async def publish() -> None:
        await publisher.publish(store)

    return Turn(
        Figure("ledger", "an entry archived", ON_SERVERS),
        [topic.name for topic in implied_topics(stage.definition)],
        lambda records: on_records(records, store=store, on_project=nothing),
        publish,
    )
