"""TeacherAttentionDisplay: which teacher listens to which."""

import numpy as np

from skshazam._optional import require

__all__ = ["TeacherAttentionDisplay"]


class TeacherAttentionDisplay:
    """Mean attention between teachers as a labelled heat map.

    Use :meth:`from_estimator` to make one.

    Parameters
    ----------
    attention : ndarray of shape (depth, n_teachers, n_teachers)
        Mean attention of each layer; rows sum to 1.
    teacher_names : sequence of str of length n_teachers
        Names in column order.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        The figure around it.

    Notes
    -----
    Attention describes the computation. It does not say by itself how much a teacher
    matters to the prediction: leave the teacher out and train again to learn that.
    """

    def __init__(self, attention, teacher_names):
        self.attention = attention
        self.teacher_names = teacher_names

    @classmethod
    def from_estimator(cls, estimator, X, *, ax=None, layer=None):
        """Average a student's attention over samples and draw it.

        Parameters
        ----------
        estimator : ShazamClassifier
            Fitted, with ``depth`` of at least 1.
        X : TeacherFeatures or array-like of shape (n_samples, n_features)
            Samples to average over.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        layer : int, default=None
            Which layer to draw; None is the mean of all.

        Returns
        -------
        display : TeacherAttentionDisplay

        Raises
        ------
        ValueError
            The student has no attention layer.
        """
        attention = estimator.attention(X).mean(axis=0)
        if not len(attention):
            raise ValueError(
                "The student has depth=0, hence no attention to show. Fit one with "
                "depth of at least 1."
            )
        return cls(attention, estimator.teacher_blocks_.names).plot(ax=ax, layer=layer)

    def plot(self, ax=None, *, layer=None):
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        layer : int, default=None
            Which layer to draw; None is the mean of all.

        Returns
        -------
        display : TeacherAttentionDisplay
        """
        pyplot = require("matplotlib.pyplot", needed_by="TeacherAttentionDisplay.plot")
        if ax is None:
            _, ax = pyplot.subplots(figsize=(4.6, 4), layout="constrained")
        matrix = self.attention.mean(axis=0) if layer is None else self.attention[layer]
        image = ax.imshow(matrix, cmap="cividis", vmin=0, vmax=max(matrix.max(), 1e-9))
        for (row, column), value in np.ndenumerate(matrix):
            dark = value < 0.6 * matrix.max()
            ax.text(
                column,
                row,
                f"{value:.2f}",
                ha="center",
                va="center",
                color="white" if dark else "black",
            )
        positions = range(len(self.teacher_names))
        ax.set_xticks(positions, self.teacher_names, rotation=30, ha="right")
        ax.set_yticks(positions, self.teacher_names)
        ax.set(xlabel="to this teacher's token", ylabel="this teacher's token listens")
        which = "mean of all layers" if layer is None else f"layer {layer}"
        ax.set_title(f"Attention between teachers ({which})")
        ax.figure.colorbar(image, ax=ax, label="attention, rows sum to 1", shrink=0.8)
        self.ax_, self.figure_ = ax, ax.figure
        return self
