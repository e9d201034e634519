"""Metrics, traces and logs: every instrument in one place."""
