"""Which of a sample's weight and patient an estimator's ``fit`` takes, by what name."""

from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

__all__ = ["fit_arguments", "refuse_lost_weights"]


def fit_arguments(estimator, metadata: dict) -> dict:
    """Return the keyword arguments of ``estimator.fit`` without metadata routing.

    Parameters
    ----------
    estimator : estimator
        A pipeline hands metadata to its steps, a search to its estimator.
    metadata : dict
        ``sample_weight`` and ``groups``, as far as they were given.

    Returns
    -------
    arguments : dict
        What of it reaches an estimator that takes it.
    """
    if isinstance(estimator, Pipeline):
        return {
            f"{name}__{key}": value
            for name, step in estimator.steps
            for key, value in fit_arguments(step, metadata).items()
        }
    if isinstance(estimator, BaseSearchCV):
        groups = {key: metadata[key] for key in ("groups",) if key in metadata}
        return fit_arguments(estimator.estimator, metadata) | groups
    if not hasattr(estimator, "fit"):
        return {}  # a step that is None or "passthrough"
    return {
        key: value
        for key, value in metadata.items()
        if has_fit_parameter(estimator, key)
    }


def refuse_lost_weights(estimator, metadata: dict, arguments: dict) -> None:
    """Refuse sample weights that do not reach the classifier.

    Parameters
    ----------
    estimator : estimator
        Whose ``fit`` is to be called.
    metadata : dict
        What the user gave.
    arguments : dict
        What of it arrives.
    """
    last, prefix = _classifier_of(estimator)
    if "sample_weight" in metadata and f"{prefix}sample_weight" not in arguments:
        raise ValueError(
            f"sample_weight was given, but {type(last).__name__}.fit takes none. "
            "Pass an estimator that does, or no sample_weight."
        )


def _classifier_of(estimator):
    """Return what classifies in the end, and the prefix of its metadata."""
    if isinstance(estimator, BaseSearchCV):
        return _classifier_of(estimator.estimator)
    if isinstance(estimator, Pipeline):
        name, step = estimator.steps[-1]
        last, prefix = _classifier_of(step)
        return last, f"{name}__{prefix}"
    return estimator, ""
