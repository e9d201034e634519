"""One feature definition, one fold: the same bits online, in backfill and in training."""
