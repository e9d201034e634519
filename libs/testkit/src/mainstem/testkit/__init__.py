"""Shared test equipment: twins, batteries, brokers and databases for tests."""
