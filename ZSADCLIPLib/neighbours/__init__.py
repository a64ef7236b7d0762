"""Anomalies without training or words: what is far from everything in other volumes, healthy ones or those of one batch."""
