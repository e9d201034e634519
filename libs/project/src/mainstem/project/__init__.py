"""The language in which a project is written: contracts, model, gates, budgets."""
