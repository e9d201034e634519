"""Batch scoring: the rows of a file or a dataset through the door of direct calls; see ADR 24."""
