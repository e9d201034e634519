"""The command mainstem and the local platform."""
