"""The compiled part: state in integers, and all that is done event by event."""
