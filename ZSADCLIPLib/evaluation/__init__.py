"""Numbers of a map against the truth: metrics, thresholds, lesions, statistics."""
