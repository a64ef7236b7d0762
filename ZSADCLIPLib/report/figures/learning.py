"""Training loss over epochs."""

from __future__ import annotations

from ...benchmark.rows import METHOD_LABELS
from ..numbers import Numbers
from ..sections import Section
from .drawing import SETUP_COLOURS, SETUP_MARKERS, Drawing, panels, setup_legend

COLUMNS = 4


def learning_curves(numbers: Numbers) -> Drawing | None:
    """One panel a model, one line a setup; None when nothing was trained."""
    trained = [r for r in numbers.run.results if r.files.training]
    if not trained:
        return None
    methods = list(dict.fromkeys(r.row.method for r in trained))
    figure, axes, _ = panels(len(methods), COLUMNS, 2.8, 3.0)
    data, setups, ends = [], [], []
    for axis, method in zip(axes, methods, strict=True):
        axis.set_title(METHOD_LABELS[method])
        axis.set_xlabel("epoch")
        longest = 1
        for result in (r for r in trained if r.row.method == method):
            setup = result.row.setup
            epochs = [row["epoch"] for row in result.files.training]
            loss = [row["total"] for row in result.files.training]
            axis.plot(epochs, loss, color=SETUP_COLOURS[setup], marker=SETUP_MARKERS[setup], ms=3.5, lw=1.4)
            longest = max(longest, int(max(epochs)))
            setups.append(setup)
            ends.append(f"{result.row.label} {loss[0]:.3g} to {loss[-1]:.3g}")
            # Seconds are left out: they differ from run to run.
            data += [
                {"row": result.row.id, **{k: v for k, v in row.items() if k != "seconds"}}
                for row in result.files.training
            ]
        low, high = axis.get_ylim()
        axis.set_ylim(min(0, low), high + 0.03 * (high - min(0, low)))
        axis.set_xticks(range(1, longest + 1, max(1, -(-longest // 8))))
    for axis in axes[::COLUMNS]:
        axis.set_ylabel("mean training loss")
    setup_legend(figure, setups)
    return Drawing(
        "learning",
        "Learning curves",
        "A curve that still falls at its end may gain from more epochs. "
        "Mean loss over the training slices of each epoch. Losses of different models have different terms and cannot be "
        "compared with each other. No test data, no threshold.",
        f"Training loss over epochs. First and last epoch: {'; '.join(ends)}.",
        figure,
        data,
        section=Section.TRAINING,
    )
