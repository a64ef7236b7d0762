"""Anomalies without training or words: what is far from everything in other volumes, healthy ones or those of one batch."""

BANK, COHORT = "bank", "cohort"
LABELS = {BANK: "Healthy bank", COHORT: "Mutual scoring"}
"""What detects here beside the methods of `adapters`; readable before torch is installed."""
DROPS = ("score", "gap")
"""By what a batch knows cells that are no references in the next pass: a high score, or near few volumes and far from most."""
