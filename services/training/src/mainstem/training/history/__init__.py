"""What the log says up to a cut: read, frozen in a table, and named by a manifest."""
