"""Pictures that explain a student, as scikit-learn Display objects."""

from skshazam.inspection._attention import TeacherAttentionDisplay
from skshazam.inspection._comparison import ComparisonDisplay
from skshazam.inspection._tile_sheet import TileSheetDisplay

__all__ = ["ComparisonDisplay", "TeacherAttentionDisplay", "TileSheetDisplay"]
