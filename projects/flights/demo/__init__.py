"""The demo: a client outside the platform plays the year 2013 and tells what became of it."""
