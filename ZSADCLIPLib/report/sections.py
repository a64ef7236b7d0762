"""The headings of a benchmark's report, in the order of the page; each figure and table names its own."""

from enum import Enum


class Section(str, Enum):
    """Another name than these makes a heading of its own below them."""

    __str__ = str.__str__  # as enum.StrEnum, which Python 3.10 lacks

    ANSWER = "Answer"
    TABLE_1 = "Table 1"
    ACCURACY = "Accuracy"
    THRESHOLDS = "Thresholds"
    SLICES = "Slices and volumes"
    DISTANCE = "Along the brain"
    LESIONS = "Lesions"
    POOLED = "Pooled"
    PICTURES = "Pictures"
    CASES = "Cases in three planes"
    CLAIMS = "Claims of the paper"
    TRAINING = "Training"
