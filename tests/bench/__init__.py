"""Measurements: what is measured is printed, and nothing is judged."""
