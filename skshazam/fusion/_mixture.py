"""MoEClassifier: a gate weights the teachers, sample by sample."""

from typing import ClassVar

from sklearn.utils._param_validation import StrOptions

from skshazam.fusion._base import FusionClassifier
from skshazam.networks import MoENetwork

__all__ = ["MoEClassifier"]


class MoEClassifier(FusionClassifier):
    """Fuse the features of several teachers by a mixture of experts and classify.

    Each teacher's feature is projected to a token; a gate that sees all tokens gives
    every teacher a weight; the weighted mean of the normalised tokens, the fused
    vector, goes to an MLP.

    Parameters
    ----------
    teacher_dims : sequence of int, default=None
        Widths of the teachers' blocks of columns. None takes them from X: from the
        ``TeacherFeatures`` that ``TeacherFeatureTransformer`` returns, or from column
        names ``<teacher>__<i>``.
    token_dim : int, default=128
        Width of a token (released code; the paper gives none). More is slower and
        fits more.
    gate : {"after_norm", "before_norm"}, default="after_norm"
        Where the weight acts: on the normalised token, so that a teacher of weight 0 is
        not heard; or on the token before it is normalised (released code), which undoes
        it: see Notes.
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
    module_ : MoENetwork or NetworkEnsemble
        The trained network, or several.
    history_ : skorch.history.History
        Losses by epoch.
    n_iter_ : int
        Epochs run.

    See Also
    --------
    skshazam.ShazamClassifier : The student that these rivals are compared with.
    skshazam.networks.MoENetwork : The network, for use without scikit-learn.

    Notes
    -----
    Everything but the fusion is that of ``ShazamClassifier``: projections, classifier,
    training. There is no distillation.

    With g = softmax(W_g [T_1, ..., T_N] + b_g), the fused vector is sum_i g_i
    LayerNorm(T_i) for "after_norm". The paper's released code, of a later version,
    normalises g_i T_i instead, and LayerNorm(g T) = LayerNorm(T) but for the ε of the
    norm: at initialisation a token of weight 0.5 and one of weight 0.2 differ by 0.03 %
    ("before_norm", which takes the mean over teachers).

    All experts answer for every sample; sparse gates [2]_ save time where there are
    hundreds.

    References
    ----------
    .. [1] W. Lei, A. Li, Y. Tan, H. Chen, X. Zhang. "Shazam: Unifying Multiple
       Foundation Models for Advanced Computational Pathology", 2025, section 3.4.
    .. [2] N. Shazeer et al., "Outrageously large neural networks: the sparsely-gated
       mixture-of-experts layer", 2017, arXiv 1701.06538.

    Examples
    --------
    >>> from skshazam.datasets import make_teacher_features
    >>> from skshazam.fusion import MoEClassifier
    >>> X, y, groups = make_teacher_features(random_state=0)
    >>> rival = MoEClassifier(token_dim=16, max_epochs=5, random_state=0)
    >>> rival.fit(X, y).predict_proba(X).shape == (len(y), len(rival.classes_))
    True
    >>> rival.expert_weights(X[:2]).shape
    (2, 3)
    """

    _parameter_constraints: ClassVar[dict] = {
        **FusionClassifier._parameter_constraints,
        "gate": [StrOptions({"after_norm", "before_norm"})],
    }

    def __init__(
        self,
        *,
        teacher_dims=None,
        token_dim=128,
        gate="after_norm",
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
        self.gate = gate
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

    def expert_weights(self, X):
        """Return how much the gate lets each teacher be heard, sample by sample.

        Parameters
        ----------
        X : TeacherFeatures, DataFrame or array-like of shape (n_samples, n_features)
            Features of the teachers of ``fit``, in the same order.

        Returns
        -------
        weights : ndarray of shape (n_samples, n_teachers), dtype=float32
            Columns in the order of ``teacher_blocks_.names``; rows sum to 1; the mean
            over the members. With ``gate="before_norm"`` they have next to no effect
            on the prediction, and say nothing about the teachers.
        """
        return self._map_members(X, lambda output: output.expert_weights)

    def _get_network_arguments(self):
        return {**super()._get_network_arguments(), "gate": self.gate}

    def _make_network(self, **arguments):
        return MoENetwork(**arguments)
