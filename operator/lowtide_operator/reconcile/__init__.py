"""Gather, plan, apply: what the API server shows becomes one object's plan, and the plan becomes writes.

Nothing is kept in memory that a restart would miss: caches here save requests, never decisions.
"""
