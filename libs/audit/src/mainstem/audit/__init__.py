"""Auditing a log that lies in files, with no service, no broker and no database (ADR 14)."""
