"""A real Kubernetes for the tests: `cluster()` has one up, whatever the machine offers, and says how to use it."""

from tests.cluster.clusters import Cluster, cluster

__all__ = ["Cluster", "cluster"]
