"""Volumes: reading and writing, slices, contrast, connected parts; no torch."""
