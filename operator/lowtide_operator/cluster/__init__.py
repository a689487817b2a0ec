"""Everything that speaks to the Kubernetes API: a Protocol, the real cluster and an in-memory one for tests.

The only package that imports the kubernetes client. Nothing here decides anything.
"""
