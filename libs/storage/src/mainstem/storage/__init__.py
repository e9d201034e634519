"""PostgreSQL and artifacts: transactions, outbox, positions, checkpoints, migrations."""
