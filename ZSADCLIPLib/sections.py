"""The headings of a benchmark's report, in the order of the page; each figure and table names its own."""

from enum import StrEnum


class Section(StrEnum):
    """Another name than these makes a heading of its own below them."""

    TABLE_1 = "Table 1"
    ACCURACY = "Accuracy"
    THRESHOLDS = "Thresholds"
    SLICES = "Slices and volumes"
    DISTANCE = "Along the brain"
    LESIONS = "Lesions"
    POOLED = "Pooled"
    PICTURES = "Pictures"
    CLAIMS = "Claims of the paper"
    TRAINING = "Training"
