"""The witness of a log: a second key, a second memory."""
