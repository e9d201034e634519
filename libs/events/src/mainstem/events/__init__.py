"""The vocabulary: what an event is, which events there are, and on which topics they travel."""
