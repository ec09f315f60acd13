"""Students as scikit-learn estimators."""

from skshazam.fusion._averaged import AveragedTeachersClassifier
from skshazam.fusion._concat import ConcatClassifier
from skshazam.fusion._fine_tuned import FineTunedTeacherClassifier
from skshazam.fusion._logit_product import LogitProductClassifier
from skshazam.fusion._mamba import MambaClassifier
from skshazam.fusion._mixture import MoEClassifier
from skshazam.fusion._shazam import ShazamClassifier
from skshazam.fusion._single_teacher import SingleTeacherClassifier
from skshazam.fusion._stacked import StackedTeachersClassifier
from skshazam.fusion._sum import SumClassifier

__all__ = [
    "AveragedTeachersClassifier",
    "ConcatClassifier",
    "FineTunedTeacherClassifier",
    "LogitProductClassifier",
    "MambaClassifier",
    "MoEClassifier",
    "ShazamClassifier",
    "SingleTeacherClassifier",
    "StackedTeachersClassifier",
    "SumClassifier",
]
