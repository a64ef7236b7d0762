"""How many voxels have which score, with the threshold as a line to drag."""

from __future__ import annotations

import numpy as np
import qt

BINS = 96
FAINT = 0.35  # bars below the threshold


class Histogram(qt.QWidget):
    """Bars of logarithmic counts over the range of the scores; `moved(score)` is called while the line is dragged.

    Bars at or above the threshold have the colour of a selection, so that they show in light and dark styles.
    """

    def __init__(self, moved):
        qt.QWidget.__init__(self)
        self._moved = moved
        self.heights = np.zeros(0)  # of the bars, 0 to 1
        self.range, self.threshold = (0.0, 1.0), 0.0
        self.setMinimumHeight(56)
        self.setMaximumHeight(56)
        self.setCursor(qt.QCursor(qt.Qt.SplitHCursor))

    def setScores(self, scores: np.ndarray, low: float, high: float) -> None:
        """Count scores (n,) between `low` and `high`."""
        counts = np.log1p(np.histogram(scores, BINS, (low, high))[0])
        self.heights, self.range = counts / max(float(counts.max()), 1.0), (low, high)
        self.update()

    def setThreshold(self, value: float) -> None:
        """Move the line."""
        self.threshold = value
        self.update()

    def place(self, score: float) -> float:
        """Where a score is, in pixels from the left."""
        low, high = self.range
        return (score - low) / (high - low) * (self.width - 1)

    def paintEvent(self, event) -> None:
        painter, palette = qt.QPainter(), self.palette
        painter.begin(self)
        width, height = self.width, self.height
        painter.fillRect(0, 0, width, height, palette.color(qt.QPalette.Base))
        line = self.place(self.threshold)
        for index, share in enumerate(self.heights):
            left, right = (round(n * width / len(self.heights)) for n in (index, index + 1))
            reaches = right > line
            painter.setOpacity(1.0 if reaches else FAINT)
            role = qt.QPalette.Highlight if reaches else qt.QPalette.Text
            tall = round(share * (height - 4))
            painter.fillRect(left, height - tall, max(right - left, 1), tall, palette.color(role))
        painter.setOpacity(1.0)
        painter.fillRect(round(line) - 1, 0, 2, height, palette.color(qt.QPalette.Text))
        painter.end()

    def mousePressEvent(self, event) -> None:
        self._drag(event)

    def mouseMoveEvent(self, event) -> None:
        self._drag(event)

    def _drag(self, event) -> None:
        (low, high), share = self.range, event.pos().x() / max(self.width - 1, 1)
        self._moved(low + min(max(share, 0.0), 1.0) * (high - low))
