"""Postgres: what was ingested, what was materialized. Everything else in it follows from the store."""
