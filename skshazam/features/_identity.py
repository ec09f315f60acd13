"""Under which name a teacher's features are stored: all that decides their values."""

from skshazam.teachers import TeacherSpec
from skshazam.teachers._fingerprint import digest_of
from skshazam.teachers._preprocessing import PREPROCESSINGS

__all__ = ["describe_features", "feature_fingerprint"]


def feature_fingerprint(
    spec: TeacherSpec, *, precision: str = "auto", preprocessing: str = "fast"
) -> str:
    """Return the digest of everything that decides the features of an image.

    Parameters
    ----------
    spec : TeacherSpec
        The teacher.
    precision : {"auto", "float32", "float16", "bfloat16"}, default="auto"
        "auto" counts as the teacher's own dtype: a device without half precision
        computes the same features in float32, which is at least as exact.
    preprocessing : {"fast", "pil"}, default="fast"
        Who resizes.

    Returns
    -------
    fingerprint : str
        64 hexadecimal digits. Batch size, threads, ``compile`` and ``channels_last``
        are not in it, because they move float32 features by some 1e-6 of their scale;
        nor is the device, whose resizing may differ in some pixels by a grey level or
        two, which moved features by up to 3e-3 of theirs.
    """
    return digest_of(
        {
            "teacher": spec.fingerprint(),
            "precision": spec.dtype if precision == "auto" else precision,
            "preprocessing": PREPROCESSINGS[preprocessing],
        }
    )


def describe_features(
    spec: TeacherSpec,
    *,
    precision: str,
    preprocessing: str,
    dim: int | None = None,
    commit: str | None = None,
) -> dict:
    """Return what people want to know about stored features, as JSON data.

    Parameters
    ----------
    spec : TeacherSpec
        The teacher.
    precision, preprocessing : str
        As for :func:`feature_fingerprint`.
    dim : int, default=None
        Length of a feature vector, once the teacher was loaded.
    commit : str, default=None
        The Hub commit of its weights, once it was loaded.

    Returns
    -------
    facts : dict
        No path of this machine is in it.
    """
    on_hub = spec.weights is not None and spec.weights.startswith("hf-hub:")
    return {
        "name": spec.name,
        "dim": dim or spec.dim,
        "commit": commit,
        "architecture": spec.architecture,
        "weights": spec.weights if on_hub or spec.weights == "random" else None,
        "revision": spec.revision,
        "pooling": spec.pooling,
        "input_size": list(spec.input_size),
        "precision": spec.dtype if precision == "auto" else precision,
        "preprocessing": PREPROCESSINGS[preprocessing],
        "licence": spec.licence,
        "source": spec.source,
    }
