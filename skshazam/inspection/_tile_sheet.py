"""TileSheetDisplay: tiles with what they are and what the student took them for."""

from collections.abc import Sequence

import numpy as np
from sklearn.utils import check_consistent_length, check_random_state

from skshazam._optional import require

__all__ = ["TileSheetDisplay"]

RIGHT, WRONG = "#0072B2", "#D55E00"


class TileSheetDisplay:
    """A sheet of tiles, one row a class, framed by whether the prediction is right.

    Use :meth:`from_predictions` to make one.

    Parameters
    ----------
    rows : dict of str to sequence of (ndarray, str)
        For each class, tiles of shape (height, width, 3), dtype uint8, with the
        predicted class.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, shape (n_classes, n_columns)
        One for each tile.
    figure_ : matplotlib Figure
        The sheet.
    """

    def __init__(self, rows: dict[str, Sequence[tuple[np.ndarray, str]]]):
        self.rows = rows

    @classmethod
    def from_predictions(
        cls, images, y_true, y_pred, *, n_per_class=8, random_state=None
    ):
        """Draw a random sample of tiles of each class.

        Parameters
        ----------
        images : sequence of ndarray of shape (height, width, 3), dtype=uint8
            Tiles.
        y_true : array-like of shape (n_samples,)
            True classes.
        y_pred : array-like of shape (n_samples,)
            Predicted classes.
        n_per_class : int, default=8
            Tiles of each class.
        random_state : int, RandomState instance or None, default=None
            Seed of the sample.

        Returns
        -------
        display : TileSheetDisplay
        """
        check_consistent_length(images, y_true, y_pred)
        rng = check_random_state(random_state)
        y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
        rows = {}
        for label in np.unique(y_true):
            of_class = rng.permutation(np.flatnonzero(y_true == label))[:n_per_class]
            rows[str(label)] = [(images[i], str(y_pred[i])) for i in of_class]
        return cls(rows).plot()

    def plot(self):
        """Draw the sheet on a figure of its own.

        Returns
        -------
        display : TileSheetDisplay
        """
        pyplot = require("matplotlib.pyplot", needed_by="TileSheetDisplay.plot")
        n_columns = max(map(len, self.rows.values()))
        figure, axes = pyplot.subplots(
            len(self.rows),
            n_columns,
            figsize=(1.25 * n_columns + 1.6, 1.42 * len(self.rows) + 0.6),
            squeeze=False,
            layout="constrained",
        )
        for row_axes, (label, tiles) in zip(axes, self.rows.items(), strict=True):
            for ax in row_axes:
                ax.set(xticks=[], yticks=[])
                ax.set_frame_on(False)
            row_axes[0].set_ylabel(
                label, rotation=0, ha="right", va="center", fontsize=10
            )
            for ax, (image, predicted) in zip(row_axes, tiles, strict=False):
                _draw_tile(ax, image, predicted, right=predicted == label)
        figure.suptitle(
            "Row: true class.  Under a tile: prediction, "
            "✓ right in a blue frame, ✗ wrong in an orange one.",
            fontsize=10,
        )
        self.axes_, self.figure_ = axes, figure
        return self


def _draw_tile(ax, image, predicted: str, *, right: bool) -> None:
    """Draw one framed tile; the sign tells what the colour tells."""
    colour = RIGHT if right else WRONG
    ax.imshow(image)
    ax.set_frame_on(True)
    for spine in ax.spines.values():
        spine.set(edgecolor=colour, linewidth=2.5)
    ax.set_xlabel(
        f"{'✓' if right else '✗'} {predicted}", color=colour, fontsize=7.5, labelpad=2
    )
