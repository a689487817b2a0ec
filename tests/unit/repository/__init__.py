"""Tests of the repository: keys, config, locks, snapshots, cache."""
