"""ShazamClassifier: the paper's student and its presets."""

from numbers import Integral, Real
from typing import ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skshazam.fusion._base import FusionClassifier
from skshazam.networks import (
    ShazamNetwork,
    cosine_distillation,
    huber_distillation,
)

__all__ = ["ShazamClassifier"]

# What both sources have in common, or only one of them tells (the width of a token).
_PUBLISHED = {
    "token_dim": 128,
    "depth": 5,
    "distillation_weight": 0.5,
    "huber_delta": 1.0,
    "standardize": False,
    "dropout": 0.0,
    "n_members": 1,
    "lr": 1e-3,
    "weight_decay": 1e-3,
    "lr_schedule": "constant",
    "batch_size": 64,
    "max_epochs": 100,
}

PRESETS = {
    "paper": {
        **_PUBLISHED,
        "huber": "norm",
        "distillation_target": "token",
        "projection": "linear",
        "block": "plain",
    },
    "released": {
        **_PUBLISHED,
        "huber": "elementwise",
        "distillation_target": "frozen",
        "projection": "mlp",
        "block": "residual",
    },
}


class ShazamClassifier(FusionClassifier):
    """Fuse the features of several teachers by self-attention and classify.

    Each teacher's feature is projected to a token; ``depth`` layers of self-attention
    let the tokens exchange what they know; their mean, the fused vector, goes to an
    MLP. The loss is cross-entropy plus a distillation term that pulls the fused vector
    towards every teacher, so that none dominates.

    Parameters
    ----------
    teacher_dims : sequence of int, default=None
        Widths of the teachers' blocks of columns. None takes them from X: from the
        ``TeacherFeatures`` that ``TeacherFeatureTransformer`` returns, or from column
        names ``<teacher>__<i>``.
    token_dim : int, default=128
        Width of a token (released code; the paper gives none). More is slower and
        fits more.
    depth : int, default=1
        Layers of self-attention (paper, table 2: 5; more did not help on our sets).
    distillation_weight : float, default=0.1
        λ: more pulls the student harder towards its teachers; 0 is plain
        cross-entropy (paper, table 3: 0.5 for UniToPatho, 0.05 for HunCRC).
    huber_delta : float, default=1.0
        δ: where the Huber loss turns linear (paper, section 3.2).
    huber : {"elementwise", "norm"}, default="elementwise"
        Huber loss of every component, averaged (released code), or of the norm of the
        difference (equation 7), 20 to 25 times larger for 128. The published
        λ belong to the former.
    distillation_target : {"frozen", "token", "token_detached", "trained"}, \
default="frozen"
        What the fused vector is compared with: a fixed random linear map of each
        feature (released code); the token itself (paper), with or without gradient; or
        a separate trained map.
    block : {"residual", "plain"}, default="residual"
        Attention with output projection, residual and LayerNorm (released code), or
        equations 2-3 alone.
    projection : {"mlp", "linear"}, default="mlp"
        Two linear layers per teacher, each with LayerNorm and ReLU (released code), or
        one (equation 1).
    standardize : bool, default=True
        z-score every column with the statistics of the training rows, which are kept
        with the network. Features of different scale need it.
    dropout : float, default=0.3
        Share of token components and hidden units zeroed in training. More regularises
        more.
    n_members : int, default=2
        Networks, each with an initialisation of its own, that are trained side by side
        on the same batches; their probabilities are averaged. More is slower in
        proportion and varies less with the seed.
    lr : float, default=1e-3
        Highest learning rate of AdamW (paper, section 3.2).
    weight_decay : float, default=1e-3
        Weight decay of AdamW (paper, section 3.2).
    lr_schedule : {"cosine", "constant"}, default="cosine"
        "cosine" rises to ``lr`` over the first 5 % of the steps of a fit and falls to 0
        as half a cosine; a warm start begins it anew. ``partial_fit``, which knows no
        last step, is constant, as are the paper and the released code. A skorch
        ``LRScheduler`` among the callbacks replaces it.
    batch_size : int, default=64
        Samples per step of training (paper, section 3.2).
    max_epochs : int or "auto", default="auto"
        Passes over the data (paper, section 3.2: 100). "auto" aims at 1000 steps, in
        10 to 200 passes.
    early_stopping : bool, default=False
        Hold out part of the training data, stop when its cross-entropy no longer falls,
        and return to the best epoch. Pass ``groups`` to ``fit``, so that no patient is
        on both sides.
    validation_fraction : float, default=0.1
        Share of groups (of rows, without ``groups``) held out by `early_stopping`.
    patience : int, default=10
        Epochs without improvement before `early_stopping` stops.
    class_weight : dict or "balanced", default=None
        Weight of each class in the loss; "balanced" makes classes count alike.
    warm_start : bool, default=False
        Continue from the last ``fit`` instead of starting anew.
    callbacks : list, default=None
        skorch callbacks, or (name, callback) pairs.
    device : str or torch.device, default="auto"
        Where to train; "auto" is a GPU if there is one. On the CPU it takes one thread,
        whatever torch is set to.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, batches, dropout and the validation split. Torch's
        global generator is not touched.
    verbose : int, default=0
        1 prints a line per epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X had any.
    teacher_blocks_ : TeacherBlocks
        Names and widths of the blocks.
    teacher_dims_ : tuple of int
        Widths of the blocks.
    module_ : ShazamNetwork or NetworkEnsemble
        The trained network, or several.
    history_ : skorch.history.History
        Losses by epoch.
    n_iter_ : int
        Epochs run.

    See Also
    --------
    skshazam.TeacherFeatureTransformer : Makes the features from images.
    skshazam.networks.ShazamNetwork : The network, for use without scikit-learn.

    Notes
    -----
    L = L_CE + λ (L_cosine + L_Huber), equation 9, with λ ``distillation_weight``,
    L_cosine of equation 5, and L_Huber of equations 6-7 with δ ``huber_delta``. Sample
    weights multiply a sample's whole loss.

    The defaults are neither the paper's nor those of its released code, which
    :meth:`from_preset` gives.

    References
    ----------
    .. [1] W. Lei, A. Li, Y. Tan, H. Chen, X. Zhang. "Shazam: Unifying Multiple
       Foundation Models for Advanced Computational Pathology", 2025.

    Examples
    --------
    >>> from skshazam import ShazamClassifier
    >>> from skshazam.datasets import make_teacher_features
    >>> X, y, groups = make_teacher_features(random_state=0)
    >>> student = ShazamClassifier(depth=1, token_dim=16, max_epochs=5, random_state=0)
    >>> student.fit(X, y).predict_proba(X).shape == (len(y), len(student.classes_))
    True
    >>> student.attention(X[:2]).shape
    (2, 1, 3, 3)
    """

    _parameter_constraints: ClassVar[dict] = {
        **FusionClassifier._parameter_constraints,
        "depth": [Interval(Integral, 0, None, closed="left")],
        "distillation_weight": [Interval(Real, 0, None, closed="left")],
        "huber_delta": [Interval(Real, 0, None, closed="neither")],
        "huber": [StrOptions({"elementwise", "norm"})],
        "distillation_target": [
            StrOptions({"frozen", "token", "token_detached", "trained"})
        ],
        "block": [StrOptions({"residual", "plain"})],
    }

    def __init__(
        self,
        *,
        teacher_dims=None,
        token_dim=128,
        depth=1,
        distillation_weight=0.1,
        huber_delta=1.0,
        huber="elementwise",
        distillation_target="frozen",
        block="residual",
        projection="mlp",
        standardize=True,
        dropout=0.3,
        n_members=2,
        lr=1e-3,
        weight_decay=1e-3,
        lr_schedule="cosine",
        batch_size=64,
        max_epochs="auto",
        early_stopping=False,
        validation_fraction=0.1,
        patience=10,
        class_weight=None,
        warm_start=False,
        callbacks=None,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.teacher_dims = teacher_dims
        self.token_dim = token_dim
        self.depth = depth
        self.distillation_weight = distillation_weight
        self.huber_delta = huber_delta
        self.huber = huber
        self.distillation_target = distillation_target
        self.block = block
        self.projection = projection
        self.standardize = standardize
        self.dropout = dropout
        self.n_members = n_members
        self.lr = lr
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self._init_skorch()

    @classmethod
    def from_preset(cls, preset, **overrides):
        """Return a classifier configured as a source describes it.

        Parameters
        ----------
        preset : {"paper", "released"}
            The equations of the paper taken literally, or what its released code does.
        **overrides : dict
            Parameters that differ from the preset.

        Returns
        -------
        classifier : ShazamClassifier
            Not fitted.

        Raises
        ------
        ValueError
            There is no such preset.

        Examples
        --------
        >>> ShazamClassifier.from_preset("paper", depth=3).block
        'plain'
        """
        if preset not in PRESETS:
            raise ValueError(
                f"preset={preset!r}; expected one of {sorted(PRESETS)}. "
                "ShazamClassifier() alone has the recommended defaults."
            )
        return cls(**{**PRESETS[preset], **overrides})

    def attention(self, X):
        """Return the attention between teachers, layer by layer.

        Parameters
        ----------
        X : TeacherFeatures, DataFrame or array-like of shape (n_samples, n_features)
            Features of the teachers of ``fit``, in the same order.

        Returns
        -------
        attention : ndarray of shape (n_samples, depth, n_teachers, n_teachers), \
dtype=float32
            Entry [s, k, i, j] is how much teacher i listens to teacher j in layer k;
            sums to 1 over j. It describes the computation and does not by itself say
            how much a teacher matters to the prediction.
        """
        n_teachers = len(self.teacher_dims_) if self.__sklearn_is_fitted__() else 0

        def stacked(output):
            if output.attention:
                return torch.stack(output.attention, dim=1)
            return output.fused.new_empty(len(output.fused), 0, n_teachers, n_teachers)

        return self._map_members(X, stacked)

    def _get_network_arguments(self):
        return {
            **super()._get_network_arguments(),
            "depth": self.depth,
            "block": self.block,
            "distillation_target": self.distillation_target,
        }

    def _make_network(self, **arguments):
        return ShazamNetwork(**arguments)

    def _training_outputs(self, network, features, targets=None):
        output = network(features)
        if self.distillation_weight == 0:
            return (output.logits,)
        targets = output.targets if targets is None else targets
        return output.logits, output.fused, targets

    def _fixed_outputs(self, network, features):
        if self.distillation_weight == 0 or network.targets.kind != "frozen":
            return {}
        return {"targets": network.targets.maps(network.standardization(features))}

    def _penalties(self, fused, targets):
        cosine = cosine_distillation(fused, targets, reduction="none")
        huber = huber_distillation(
            fused, targets, self.huber_delta, self.huber, reduction="none"
        )
        return self.distillation_weight * (cosine + huber)
