"""ConcatClassifier: the teachers' tokens side by side."""

from skshazam.fusion._base import FusionClassifier
from skshazam.networks import ConcatNetwork

__all__ = ["ConcatClassifier"]


class ConcatClassifier(FusionClassifier):
    """Fuse the features of several teachers side by side and classify.

    Each teacher's feature is projected to a token; one layer maps all tokens, side by
    side, to the fused vector, which goes to an MLP.

    Parameters
    ----------
    teacher_dims : sequence of int, default=None
        Widths of the teachers' blocks of columns. None takes them from X: from the
        ``TeacherFeatures`` that ``TeacherFeatureTransformer`` returns, or from column
        names ``<teacher>__<i>``.
    token_dim : int, default=128
        Width of a token (released code; the paper gives none). More is slower and
        fits more.
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
    module_ : ConcatNetwork or NetworkEnsemble
        The trained network, or several.
    history_ : skorch.history.History
        Losses by epoch.
    n_iter_ : int
        Epochs run.

    See Also
    --------
    skshazam.ShazamClassifier : The student that these rivals are compared with.
    skshazam.networks.ConcatNetwork : The network, for use without scikit-learn.

    Notes
    -----
    Everything but the fusion is that of ``ShazamClassifier``: projections, classifier,
    training. There is no distillation.

    The fused vector is LayerNorm(ReLU(W [T_1, ..., T_N] + b)). The paper says no more
    than that Concat "concatenates teacher features before classification" [1]_; without
    the ReLU it could compute nothing that ``SumClassifier`` cannot.

    References
    ----------
    .. [1] W. Lei, A. Li, Y. Tan, H. Chen, X. Zhang. "Shazam: Unifying Multiple
       Foundation Models for Advanced Computational Pathology", 2025, section 3.4.

    Examples
    --------
    >>> from skshazam.datasets import make_teacher_features
    >>> from skshazam.fusion import ConcatClassifier
    >>> X, y, groups = make_teacher_features(random_state=0)
    >>> rival = ConcatClassifier(token_dim=16, max_epochs=5, random_state=0)
    >>> rival.fit(X, y).predict_proba(X).shape == (len(y), len(rival.classes_))
    True
    """

    def __init__(
        self,
        *,
        teacher_dims=None,
        token_dim=128,
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

    def _make_network(self, **arguments):
        return ConcatNetwork(**arguments)
