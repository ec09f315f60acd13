"""TeacherFeatureTransformer: images in, one feature matrix out."""

from numbers import Integral
from typing import ClassVar

from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.validation import check_is_fitted

from skshazam._blocks import TeacherBlocks
from skshazam.features._extraction import extract_features
from skshazam.images import check_files_exist, check_image_collection
from skshazam.teachers import load_teacher, resolve_teachers

__all__ = ["TeacherFeatureTransformer"]


class TeacherFeatureTransformer(TransformerMixin, BaseEstimator):
    """Turn images into the features of several frozen foundation models.

    Each image is decoded once; every teacher resizes and normalises the same pixels in
    its own way. The features stand side by side, teacher after teacher.

    Fitting trains nothing. Teachers are loaded at the first ``transform``, once per
    process and device, are shared by all clones, and are never pickled.

    Parameters
    ----------
    teachers : sequence of str or TeacherSpec, \
default=("uni", "phikon-v2", "virchow", "gigapath")
        Names of :func:`skshazam.teachers.list_teachers`, ``"name@revision"``, or specs
        of your own. The default is the paper's choice. ("stain", "texture",
        "frequency") need no weights.
    weights : dict of str to path-like, default=None
        Local checkpoint file or folder for some of the names; nothing is downloaded
        for these.
    store : None, default=None
        Reserved for a store of features on disk, which this version does not have;
        only None is accepted.
    device : str or torch.device, default="auto"
        Where teachers run; "auto" is a GPU if there is one.
    precision : {"auto", "float32", "float16", "bfloat16"}, default="auto"
        Autocast dtype. "auto" is each teacher's own on a GPU and float32 elsewhere.
    batch_size : int, default=64
        Images a forward pass. More is faster on a GPU and needs more memory. Features
        agree across batch sizes to about 1e-5 of their scale in float32.
    n_jobs : int, default=None
        Threads that decode images; -1 is one per core. None is one, unless in a
        :obj:`joblib.parallel_backend` context.
    on_error : {"raise", "nan"}, default="raise"
        Whether an unreadable image ends the run, or becomes a row of NaN and an entry
        of ``errors_``.
    progress : bool, default=False
        Show a progress bar while images are processed.

    Attributes
    ----------
    teachers_ : tuple of TeacherSpec
        The teachers in column order.
    teacher_dims_ : tuple of int
        Length of each teacher's feature vector.
    teacher_blocks_ : TeacherBlocks
        Names and widths of the blocks of columns.
    n_images_computed_ : int
        Images that the last ``transform`` ran through the teachers.
    n_images_cached_ : int
        Images that the last ``transform`` found in the store: 0 in this version.
    errors_ : dict of int to ImageReadError
        Unreadable images of the last ``transform``, by position.

    See Also
    --------
    skshazam.fusion.ShazamClassifier : The student that fuses these features.
    skshazam.teachers.TeacherSpec : How to describe a teacher of your own.

    Notes
    -----
    ``transform`` returns float32 of shape (n_images, sum of dims) as a
    ``TeacherFeatures`` array, which remembers its blocks through row slicing, pickle
    and ``joblib.Memory``. ``set_output(transform="pandas")`` gives columns named
    ``<teacher>__<i>`` instead.

    References
    ----------
    .. [1] W. Lei, A. Li, Y. Tan, H. Chen, X. Zhang. "Shazam: Unifying Multiple
       Foundation Models for Advanced Computational Pathology", 2025, section 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> from skshazam import TeacherFeatureTransformer
    >>> tiles = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    >>> transformer = TeacherFeatureTransformer(teachers=("stain", "texture"))
    >>> features = transformer.fit_transform(tiles)
    >>> features.shape == (2, sum(transformer.teacher_dims_))
    True
    >>> str(transformer.get_feature_names_out()[0])
    'stain__0'
    """

    _parameter_constraints: ClassVar[dict] = {
        "teachers": "no_validation",
        "weights": [dict, None],
        "store": [None],
        "device": "no_validation",
        "precision": [StrOptions({"auto", "float32", "float16", "bfloat16"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
        "on_error": [StrOptions({"raise", "nan"})],
        "progress": ["boolean"],
    }

    def __init__(
        self,
        teachers=("uni", "phikon-v2", "virchow", "gigapath"),
        *,
        weights=None,
        store=None,
        device="auto",
        precision="auto",
        batch_size=64,
        n_jobs=None,
        on_error="raise",
        progress=False,
    ):
        self.teachers = teachers
        self.weights = weights
        self.store = store
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.n_jobs = n_jobs
        self.on_error = on_error
        self.progress = progress

    def fit(self, X, y=None):
        """Check the parameters and learn the width of each teacher's block.

        Loads nothing, except a teacher whose spec leaves ``dim`` open.

        Parameters
        ----------
        X : sequence of length n_images
            Paths, bytes, uint8 arrays of shape (height, width, 3) or PIL images. Only
            its kind is checked.
        y : None, default=None
            Ignored.

        Returns
        -------
        self : TeacherFeatureTransformer
        """
        validate_parameter_constraints(
            self._parameter_constraints,
            self.get_params(deep=False),
            caller_name=type(self).__name__,
        )
        check_image_collection(X)
        self.teachers_ = resolve_teachers(self.teachers, self.weights)
        self.teacher_dims_ = tuple(
            spec.dim or load_teacher(spec, self.device).dim for spec in self.teachers_
        )
        self.teacher_blocks_ = TeacherBlocks(
            tuple(spec.name for spec in self.teachers_), self.teacher_dims_
        )
        return self

    def transform(self, X):
        """Return the features of images.

        Parameters
        ----------
        X : sequence of length n_images
            Paths, bytes, uint8 arrays of shape (height, width, 3) or PIL images; a
            one-column array or DataFrame of these; or one uint8 array of shape
            (n_images, height, width, 3).

        Returns
        -------
        features : TeacherFeatures of shape (n_images, sum of dims), dtype=float32
            One row an image, in order.

        Raises
        ------
        ImageReadError
            An image is unreadable and `on_error` is "raise"; the message names it.
        ImageCollectionError
            X is not a collection of images.
        """
        check_is_fitted(self, "teacher_blocks_")
        images = check_image_collection(X)
        if self.on_error == "raise":
            check_files_exist(images)
        teachers = {
            spec.name: load_teacher(spec, self.device) for spec in self.teachers_
        }
        extraction = extract_features(
            images,
            teachers,
            precision=self.precision,
            batch_size=self.batch_size,
            n_threads=effective_n_jobs(self.n_jobs),
            on_error=self.on_error,
            progress=self.progress,
        )
        self.errors_ = extraction.errors
        self.n_images_computed_ = len(images) - len(extraction.errors)
        self.n_images_cached_ = 0
        return extraction.features

    def get_feature_names_out(self, input_features=None):
        """Return the column names ``<teacher>__<i>``.

        Parameters
        ----------
        input_features : None, default=None
            Ignored; images have no feature names.

        Returns
        -------
        names : ndarray of shape (sum of dims,), dtype=object
        """
        check_is_fitted(self, "teacher_blocks_")
        return self.teacher_blocks_.get_feature_names()

    def __sklearn_tags__(self):
        """Tell scikit-learn that X holds images, not numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        return tags
