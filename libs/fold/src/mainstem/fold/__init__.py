"""The fold of a feature set over the log, in the one applied order: whoever follows the log has the same values."""
