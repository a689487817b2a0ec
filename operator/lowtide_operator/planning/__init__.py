"""Decide what to do next from what was observed: pure functions, `plan_*(observed, now) -> Plan`.

Nothing here awaits, reads a clock, draws a random number, logs or calls a client. Every planner is total (it answers
for every observation), idempotent (the same observation gives the same plan) and restartable (a plan whose
application stopped after any action is completed by later plans).
"""
