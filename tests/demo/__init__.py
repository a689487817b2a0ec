"""The main job, shown: a shop is backed up as one group, destroyed, and restored on a real Kubernetes."""
