"""ComparisonDisplay: methods side by side, with their intervals."""

from collections.abc import Mapping, Sequence

from skshazam._optional import require

__all__ = ["ComparisonDisplay"]


class ComparisonDisplay:
    """Scores of several methods on the same folds, one line a method.

    Parameters
    ----------
    scores : dict of str to sequence of float
        Score of each method in each fold, the same folds in the same order.
    intervals : dict of str to (float, float), default=None
        Interval of each method's score of all folds' predictions together.
    metric : str, default="balanced accuracy"
        Name of the score.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        The figure around it.
    """

    def __init__(
        self,
        scores: Mapping[str, Sequence[float]],
        intervals: Mapping[str, tuple[float, float]] | None = None,
        *,
        metric: str = "balanced accuracy",
    ):
        self.scores = scores
        self.intervals = intervals
        self.metric = metric

    def plot(self, ax=None):
        """Draw a dot a fold, a diamond at the mean, a bar for the interval.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : ComparisonDisplay
        """
        pyplot = require("matplotlib.pyplot", needed_by="ComparisonDisplay.plot")
        if ax is None:
            size = (7.5, 1.2 + 0.5 * len(self.scores))
            _, ax = pyplot.subplots(figsize=size, layout="constrained")
        for row, (name, values) in enumerate(self.scores.items()):
            # Okabe-Ito colours: told apart with any kind of colour vision.
            ax.plot(values, [row] * len(values), "o", color="#56B4E9", alpha=0.8, ms=5)
            if self.intervals is not None:
                ax.plot(self.intervals[name], [row, row], color="#000000", lw=2)
            mean = sum(values) / len(values)
            ax.plot(mean, row, "D", color="#D55E00", ms=8, zorder=3)
            ax.annotate(
                f"{mean:.3f}",
                (mean, row),
                xytext=(0, 9),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
        ax.set_yticks(range(len(self.scores)), list(self.scores))
        ax.set_ylim(len(self.scores) - 0.5, -0.7)
        ax.grid(axis="x", alpha=0.3)
        ax.spines[["top", "right", "left"]].set_visible(False)
        bar = (
            "\nbar: 95 % interval over patients, folds pooled" if self.intervals else ""
        )
        ax.set_xlabel(f"{self.metric}\ndot: one fold; diamond: mean of folds{bar}")
        self.ax_, self.figure_ = ax, ax.figure
        return self
