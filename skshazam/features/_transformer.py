"""TeacherFeatureTransformer: images in, one feature matrix out."""

import os
from numbers import Integral
from typing import ClassVar

from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import (
    validate_parameter_constraints,
)
from sklearn.utils.validation import check_is_fitted

from skshazam._blocks import TeacherBlocks
from skshazam.features._extraction import extract_features
from skshazam.features._options import OPTION_CONSTRAINTS, ExtractionOptions
from skshazam.features._readback import stored_features
from skshazam.features._stored import fingerprints_of
from skshazam.images import check_files_exist, check_image_collection
from skshazam.storage._store import FeatureStore
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
    store : path-like or FeatureStore, default=None
        Folder in which features are kept by teacher and image content: an image is
        computed once, whoever asks and in whatever order, and nothing is loaded if all
        is there. A path means float16, which rounds features to three digits;
        ``FeatureStore(path, dtype="float32")`` does not. None computes everything anew.
    device : str or torch.device, default="auto"
        Where teachers run; "auto" is a GPU if there is one.
    precision : {"auto", "float32", "float16", "bfloat16"}, default="auto"
        Autocast dtype. "auto" is each teacher's own on a GPU and float32 elsewhere.
    preprocessing : {"fast", "pil"}, default="fast"
        Who resizes and crops. "fast" does so on the device in batches; "pil" does it
        with Pillow image by image, as the model cards do, and slower. On real tiles
        nearly all values agree to one grey level, and all to two.
    channels_last : bool, default=False
        Keep the channels innermost in memory, which may suit convolutional teachers.
    compile : bool, default=False
        Let :func:`torch.compile` translate the teachers at their first batch; may pay
        in long runs on a GPU.
    batch_size : int, default=64
        Images a forward pass. More is faster on a GPU and needs more memory; it is
        halved for a teacher that runs out of it. Features agree across batch sizes to
        about 1e-5 of their scale in float32.
    n_jobs : int, default=None
        Threads that decode images; -1 is one per core. None is one, unless in a
        :obj:`joblib.parallel_backend` context.
    on_error : {"raise", "nan"}, default="raise"
        Whether an image that gives no features ends the run, or becomes a row of NaN
        and an entry of ``errors_``.
    progress : bool, default=False
        Show a progress bar with rate and remaining time.

    Attributes
    ----------
    teachers_ : tuple of TeacherSpec
        The teachers in column order.
    teacher_dims_ : tuple of int
        Length of each teacher's feature vector.
    teacher_blocks_ : TeacherBlocks
        Names and widths of the blocks of columns.
    n_images_computed_ : int
        Images that the last ``transform`` ran through at least one teacher.
    n_images_cached_ : int
        Images that the last ``transform`` found in the store.
    errors_ : dict of int to SkshazamError
        Images of the last ``transform`` that gave no features, by position: an
        ImageReadError if one is unreadable, a TeacherOutputError if a teacher computes
        no vector that can be kept.

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
        "store": [str, os.PathLike, FeatureStore, None],
        "device": "no_validation",
        **{
            option: constraint
            for option, constraint in OPTION_CONSTRAINTS.items()
            if option != "n_threads"
        },
        "n_jobs": [Integral, None],
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
        preprocessing="fast",
        channels_last=False,
        compile=False,
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
        self.preprocessing = preprocessing
        self.channels_last = channels_last
        self.compile = compile
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
        self.teacher_dims_ = tuple(map(self._dim, self.teachers_))
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
        if self.store is not None:
            return self._transform_with_store(images)
        extraction = extract_features(
            images,
            {spec.name: self._load(spec) for spec in self.teachers_},
            precision=self.precision,
            preprocessing=self.preprocessing,
            batch_size=self.batch_size,
            n_threads=effective_n_jobs(self.n_jobs),
            on_error=self.on_error,
            progress=self.progress,
        )
        self.errors_ = extraction.errors
        self.n_images_computed_ = len(images) - len(extraction.errors)
        self.n_images_cached_ = 0
        return extraction.features

    def _transform_with_store(self, images):
        """Return features from the store, after adding what it lacks."""
        options = self._options()
        features, extraction = stored_features(
            images, self.teachers_, FeatureStore.of(self.store), options, self.progress
        )
        self.errors_ = extraction.errors
        self.n_images_computed_ = extraction.n_computed
        self.n_images_cached_ = extraction.n_found
        return features

    def _options(self):
        return ExtractionOptions(
            device=self.device,
            precision=self.precision,
            preprocessing=self.preprocessing,
            channels_last=self.channels_last,
            compile=self.compile,
            batch_size=self.batch_size,
            n_threads=effective_n_jobs(self.n_jobs),
            on_error=self.on_error,
        )

    def _load(self, spec):
        return load_teacher(
            spec, self.device, channels_last=self.channels_last, compile=self.compile
        )

    def _dim(self, spec):
        """Return the length of a teacher's vector, loading it only if nobody knows."""
        if spec.dim is None and self.store is not None:
            fingerprint = fingerprints_of([spec], self._options())[spec.name]
            known = FeatureStore.of(self.store).rows(fingerprint).width
            return known or self._load(spec).dim
        return spec.dim or self._load(spec).dim

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
