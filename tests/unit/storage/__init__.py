"""Tests of the storages, each by itself."""
