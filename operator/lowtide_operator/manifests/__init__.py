"""Objects for the API server, built from what a plan says: pure functions, the same bytes for the same plan."""

from lowtide_operator.manifests.hook import hook_job
from lowtide_operator.manifests.job import Installation, mover_job
from lowtide_operator.manifests.release import ReleasePods, release_job

__all__ = ["Installation", "ReleasePods", "hook_job", "mover_job", "release_job"]
