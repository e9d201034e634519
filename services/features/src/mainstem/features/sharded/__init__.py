"""A feature set shared out by keys: dealt to shards, folded by each, joined to rows again (ADR 11)."""
