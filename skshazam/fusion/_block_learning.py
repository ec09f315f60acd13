"""BlockLearning: how an estimator finds out which columns belong to which teacher."""

import sys
import warnings

from skshazam._blocks import TeacherBlocks
from skshazam.exceptions import FeatureBlockError, UndeclaredBlocksWarning

__all__ = ["BlockLearning"]


class BlockLearning:
    """Mixin of the estimators whose X is teachers' blocks of columns, side by side.

    Its estimator has the parameter ``teacher_dims``, and ``n_features_in_`` when the
    blocks are learnt. They come from, in this order: ``teacher_dims``; the
    ``TeacherFeatures`` that X was; its column names; else X is one block.

    Attributes
    ----------
    teacher_blocks_ : TeacherBlocks
        Names and widths of the blocks.
    teacher_dims_ : tuple of int
        Widths of the blocks.
    """

    def _learn_blocks(self, carried: TeacherBlocks | None) -> None:
        """Find out which columns belong to which teacher."""
        self._carried_blocks = blocks = carried
        if self.teacher_dims is not None:
            given = TeacherBlocks.from_dims(self.teacher_dims)
            same = carried is not None and carried.dims == given.dims
            blocks = carried if same else given
        elif blocks is None and hasattr(self, "feature_names_in_"):
            blocks = TeacherBlocks.from_feature_names(self.feature_names_in_)
        if blocks is None:
            warnings.warn(
                f"X does not say which of its {self.n_features_in_} columns belong to "
                "which teacher; they are taken as one teacher, which leaves nothing "
                "to fuse. Pass the output of TeacherFeatureTransformer, a DataFrame "
                "with columns '<teacher>__<i>', or teacher_dims=(dim, dim, ...).",
                UndeclaredBlocksWarning,
                stacklevel=_level_of_the_user(),
            )
            blocks = TeacherBlocks.from_dims((self.n_features_in_,))
        if blocks.n_features != self.n_features_in_:
            raise FeatureBlockError(
                f"X has {self.n_features_in_} columns, but teacher_dims={blocks.dims} "
                f"adds up to {blocks.n_features}. Pass the dims of the teachers that "
                "produced X, in the same order: "
                f"{type(self).__name__}(teacher_dims=transformer.teacher_dims_)."
            )
        self.teacher_blocks_ = blocks
        self.teacher_dims_ = blocks.dims

    def _check_carried_blocks(self, carried: TeacherBlocks | None) -> None:
        """Refuse features that say they come from other teachers."""
        # The latter were overruled by teacher_dims.
        if carried in (None, self.teacher_blocks_, self._carried_blocks):
            return
        # Two teachers may be equally wide: then only their names tell them apart.
        unnamed = TeacherBlocks.from_dims(self.teacher_dims_)
        if carried == unnamed or (
            self.teacher_blocks_ == unnamed and carried.dims == unnamed.dims
        ):
            return
        raise FeatureBlockError(
            f"X holds the features of {carried.to_dict()}, but this "
            f"{type(self).__name__} was fitted on {self.teacher_blocks_.to_dict()}. "
            "Pass features of the same teachers in the same order."
        )


def _level_of_the_user() -> int:
    """Return how far up the first caller outside skshazam is, for a warning."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals["__name__"].startswith("skshazam."):
        level, frame = level + 1, frame.f_back
    return level
