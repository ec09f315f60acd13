"""FineTunedTeacherClassifier: images in; a teacher's own weights are trained.

The rival that needs no fusion, and the only estimator here that knows teachers. It is
no skorch estimator: what the students share is made for feature matrices in memory.
"""

import os
from collections.abc import Mapping
from functools import partial
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from tqdm.auto import tqdm

from skshazam._blocks import TeacherBlocks
from skshazam._device import resolve_device
from skshazam._randomness import private_randomness
from skshazam.fusion._epochs import resolve_max_epochs
from skshazam.fusion._fine_tuning import FineTuning
from skshazam.fusion._groups import validated_groups
from skshazam.fusion._sample_weights import validated_weights, with_class_weights
from skshazam.fusion._trainable_teacher import (
    TrainableTeacher,
    check_images,
    memory_advice,
)
from skshazam.fusion._trained_teacher import TrainedTeacherMixin
from skshazam.fusion._validation_split import validation_rows
from skshazam.teachers import TeacherSpec

__all__ = ["FineTunedTeacherClassifier"]


class FineTunedTeacherClassifier(TrainedTeacherMixin, ClassifierMixin, BaseEstimator):
    """Train a teacher's own weights, with a classifier on top, on labelled images.

    The paper's baseline of table 1, with ``head="mlp"``. Images are decoded anew in
    every epoch, a batch at a time, and preprocessed as ``TeacherFeatureTransformer``
    does. The network is a copy of its own: a teacher loaded elsewhere in this process
    stays as it is.

    Parameters
    ----------
    teacher : str or TeacherSpec
        A name of :func:`skshazam.teachers.list_teachers`, ``"name@revision"``, or a
        spec of your own.
    weights : path-like or dict of str to path-like, default=None
        Local checkpoint file or folder that the teacher starts from; nothing is
        downloaded then.
    head : {"linear", "mlp"}, default="linear"
        Classifier on the pooled feature: one linear layer, or the students' (linear,
        ReLU, LayerNorm, linear), which is nearer to the paper's "MLP".
    backbone_lr : float, default=1e-5
        Learning rate of the teacher's weights (paper, section 3.3). 0 leaves them, and
        what they compute, as they are and trains the head alone.
    head_lr : float, default=1e-3
        Learning rate of the head (paper, section 3.3).
    weight_decay : float, default=1e-3
        Weight decay of AdamW, for both (paper, section 3.2).
    lr_schedule : {"cosine", "constant"}, default="cosine"
        A linear rise over the first 5 % of the steps, then half a cosine down to 0; or
        both rates as given.
    batch_size : int, default=64
        Images a step (paper, section 3.2). Fewer need less memory.
    max_epochs : int or "auto", default=100
        Passes over the images (paper, section 3.2). "auto" is as many as the students
        take: about 1000 steps, at least 10 and at most 200 passes.
    precision : {"auto", "float32", "float16", "bfloat16"}, default="auto"
        Autocast dtype; "auto" is the teacher's own on a GPU and float32 elsewhere. The
        weights and the head are float32 in any case; with float16 the loss is scaled.
    preprocessing : {"fast", "pil"}, default="fast"
        Who resizes and crops: the device, or Pillow.
    gradient_checkpointing : bool, default=False
        Compute the teacher's layers twice instead of keeping what they computed: less
        memory, more time, the same gradients.
    early_stopping : bool, default=False
        Hold out part of the images, stop when their cross-entropy no longer falls, and
        return to the best epoch. Pass ``groups`` to ``fit``, so that no patient is on
        both sides.
    validation_fraction : float, default=0.1
        Share of groups (of images, without ``groups``) held out by `early_stopping`.
    patience : int, default=10
        Epochs without improvement before `early_stopping` stops.
    class_weight : dict or "balanced", default=None
        Weight of each class in the loss; "balanced" makes classes count alike.
    n_jobs : int, default=None
        Threads that decode images; -1 is one per core. None is one, unless in a
        :obj:`joblib.parallel_backend` context.
    device : str or torch.device, default="auto"
        Where to train; "auto" is a GPU if there is one.
    random_state : int, RandomState instance or None, default=None
        Seed of the head, the batches, dropout and the validation split. Torch's global
        generator is not touched.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    teacher_ : TeacherSpec
        The teacher, with the weights that it started from.
    teacher_blocks_ : TeacherBlocks
        Its name and the length of its feature vector.
    module_ : torch.nn.Module
        The trained network, ``backbone`` and ``head``.
    history_ : list of dict
        ``epoch``, ``train_loss`` and, with `early_stopping`, ``valid_loss``.
    n_iter_ : int
        Epochs run.

    See Also
    --------
    skshazam.TeacherFeatureTransformer : Frozen teachers, run once an image.

    Notes
    -----
    Dropout and stochastic depth act in training if the teacher's spec asks for them
    (``architecture_kwargs={"drop_path_rate": 0.1}``). Batch normalisation keeps the
    statistics that it came with.

    A pickle holds the trained weights as arrays. The network is built again, from the
    spec and without its original weights, when it is first needed.

    References
    ----------
    .. [1] W. Lei, A. Li, Y. Tan, H. Chen, X. Zhang. "Shazam: Unifying Multiple
       Foundation Models for Advanced Computational Pathology", 2025, section 3.3.

    Examples
    --------
    >>> from torch import nn
    >>> from skshazam import TeacherSpec
    >>> from skshazam.datasets import make_tissue_tiles
    >>> from skshazam.fusion import FineTunedTeacherClassifier
    >>> tiles = make_tissue_tiles(4, 10, tile_size=32, random_state=0)
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.ReLU(), nn.Flatten())
    >>> teacher = TeacherSpec("small", build=lambda: network, size=32)
    >>> classifier = FineTunedTeacherClassifier(teacher, max_epochs=2, random_state=0)
    >>> classifier.fit(tiles.images, tiles.target).predict(tiles.images).shape
    (40,)
    """

    _parameter_constraints: ClassVar[dict] = {
        "teacher": [str, TeacherSpec],
        "weights": [str, os.PathLike, Mapping, None],
        "head": [StrOptions({"linear", "mlp"})],
        "backbone_lr": [Interval(Real, 0, None, closed="left")],
        "head_lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "lr_schedule": [StrOptions({"cosine", "constant"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "precision": [StrOptions({"auto", "float32", "float16", "bfloat16"})],
        "preprocessing": [StrOptions({"fast", "pil"})],
        "gradient_checkpointing": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "n_jobs": [Integral, None],
        "device": "no_validation",
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        teacher,
        *,
        weights=None,
        head="linear",
        backbone_lr=1e-5,
        head_lr=1e-3,
        weight_decay=1e-3,
        lr_schedule="cosine",
        batch_size=64,
        max_epochs=100,
        precision="auto",
        preprocessing="fast",
        gradient_checkpointing=False,
        early_stopping=False,
        validation_fraction=0.1,
        patience=10,
        class_weight=None,
        n_jobs=None,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.teacher = teacher
        self.weights = weights
        self.head = head
        self.backbone_lr = backbone_lr
        self.head_lr = head_lr
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.precision = precision
        self.preprocessing = preprocessing
        self.gradient_checkpointing = gradient_checkpointing
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.class_weight = class_weight
        self.n_jobs = n_jobs
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # ---------------------------------------------------------------- fitting

    def fit(self, X, y, sample_weight=None, groups=None):
        """Train the teacher and its head on labelled images.

        Parameters
        ----------
        X : sequence of length n_images
            Paths, bytes, uint8 arrays of shape (height, width, 3) or PIL images; a
            one-column array or DataFrame of these; or one uint8 array of shape
            (n_images, height, width, 3).
        y : array-like of shape (n_images,)
            Class labels, numbers or strings.
        sample_weight : array-like of shape (n_images,), default=None
            Weights of the images in the loss, scaled to mean 1; images of weight 0 are
            left out.
        groups : array-like of shape (n_images,), default=None
            Patient of each image. With ``early_stopping`` no patient is in both the
            training and the validation part.

        Returns
        -------
        self : FineTunedTeacherClassifier

        Raises
        ------
        FineTuningError
            The teacher's weights cannot be trained, or training diverges.
        TeacherMemoryError
            A step needs more memory than there is.
        ImageReadError
            An image is unreadable; the message names it.
        """
        vars(self).pop("n_iter_", None)  # not fitted, should this fit fail
        validate_parameter_constraints(
            self._parameter_constraints,
            self.get_params(deep=False),
            caller_name=type(self).__name__,
        )
        images = check_images(X)
        rows, codes, weights, groups = self._validate_labels(
            images, y, sample_weight, groups
        )
        device = resolve_device(self.device)
        rng = check_random_state(self.random_state)
        seed, split_seed = rng.randint(2**31 - 1, size=2).tolist()
        held_out = np.zeros(len(rows), dtype=bool)
        if self.early_stopping:
            fraction = self.validation_fraction
            held_out = validation_rows(codes, groups, fraction, split_seed)
        # Before the private stream: teachers are built one at a time, each in its own.
        backbone = self._make_backbone()
        batches = partial(self._labelled_batches, images, rows, codes, weights, device)
        with private_randomness(seed, device), memory_advice(self.teacher_.name):
            self._network = self._with_head(backbone).to(device)
            self._train(batches, held_out, device)
        self.n_iter_ = len(self.history_)
        return self

    def _validate_labels(self, images, y, sample_weight, groups):
        """Return positions of the images kept, codes, weights of mean 1, and groups."""
        y = column_or_1d(y, warn=True)
        check_consistent_length(images, y)
        check_classification_targets(y)
        groups = validated_groups(groups, y)
        weights = validated_weights(sample_weight, y)
        rows = np.arange(len(y)) if weights is None else np.flatnonzero(weights)
        self.classes_, codes = np.unique(y[rows], return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs images of at least 2 classes, but y "
                f"holds only 1 class: {self.classes_.tolist()[0]!r}. In "
                "cross-validation, use a stratified splitter."
            )
        weights = None if weights is None else weights[rows]
        weights = with_class_weights(weights, self.class_weight, y[rows])
        if weights is not None:
            weights = torch.from_numpy((weights / weights.mean()).astype(np.float32))
        return rows, codes, weights, None if groups is None else groups[rows]

    def _make_backbone(self):
        """Return the network to train; learn which teacher's it is."""
        self._teacher = TrainableTeacher.of(self.teacher, self.weights)
        backbone, dim = self._teacher.make_backbone(
            trained=self.backbone_lr > 0,
            gradient_checkpointing=self.gradient_checkpointing,
        )
        self.teacher_ = self._teacher.spec
        self.teacher_blocks_ = TeacherBlocks((self.teacher_.name,), (dim,))
        self._head = self.head
        return backbone

    def _labelled_batches(self, images, rows, codes, weights, device, positions):
        """Yield pixels, codes and weights (or None) on the device."""
        codes = torch.from_numpy(codes)
        for picked, pixels in self._batches(images, rows[positions], device):
            picked = np.searchsorted(rows, picked)
            batch = codes[picked], None if weights is None else weights[picked]
            yield pixels, *(None if part is None else part.to(device) for part in batch)

    def _train(self, batches, held_out, device):
        """Train the network on what is not held out, and keep the history."""
        training, validation = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        n_batches = -(-len(training) // self.batch_size)
        n_epochs = resolve_max_epochs(self.max_epochs, len(training), self.batch_size)

        def shuffled():
            order = training[torch.randperm(len(training)).numpy()]
            return tqdm(
                batches(order),
                desc="epoch",
                total=n_batches,
                disable=not self.verbose,
                leave=False,
            )

        self.history_ = FineTuning(
            self._network,
            backbone_lr=self.backbone_lr,
            head_lr=self.head_lr,
            weight_decay=self.weight_decay,
            schedule=self.lr_schedule,
            n_steps=n_epochs * n_batches,
            dtype=self._dtype(device),
        ).run(
            shuffled,
            partial(batches, validation) if len(validation) else None,
            max_epochs=n_epochs,
            patience=self.patience,
        )

    def __sklearn_tags__(self):
        """Tell scikit-learn that X holds images, not numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        return tags
