"""timm's own networks: which files of the Hub they are made from.

timm is handed local files only, so that its weights are found, pinned, recorded and
refused like all others.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from skshazam.exceptions import TeacherSpecError
from skshazam.teachers._hub import (
    HUB_PREFIX,
    HubAddress,
    HubFile,
    check_address,
    fetch_from_hub,
)
from skshazam.teachers._spec import TeacherSpec

__all__ = ["TimmSource", "config_address", "fetch_timm_source", "pretrained_address"]

# In timm's own order.
_WEIGHTS = (
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)


@dataclass(frozen=True)
class TimmSource:
    """What timm is to build from, all of it on this machine.

    Parameters
    ----------
    architecture : str
        A name that timm's ``create_model`` takes.
    overlay : dict, default={}
        Its ``pretrained_cfg_overlay``.
    weights : HubFile, default=None
        The pretrained weights, if any are wanted and they are on the Hub.
    """

    architecture: str
    overlay: dict[str, Any] = field(default_factory=dict)
    weights: HubFile | None = None


def config_address(spec: TeacherSpec) -> HubAddress | None:
    """Return where the configuration of an architecture "hf-hub:..." lies.

    Parameters
    ----------
    spec : TeacherSpec
        Its revision pins the configuration if it pins the weights beside it.

    Returns
    -------
    address : HubAddress or None
        None for every other teacher.

    Raises
    ------
    TeacherSpecError
        The address can be no repository on the Hub.
    """
    if not (spec.architecture or "").startswith(HUB_PREFIX):
        return None
    repo_id, _, revision = spec.architecture.removeprefix(HUB_PREFIX).partition("@")
    pinned = spec.revision if spec.weights is None else None
    address = HubAddress(repo_id, ("config.json",), pinned or revision or None)
    check_address(address, spec)
    return address


def pretrained_address(spec: TeacherSpec) -> HubAddress | None:
    """Return where the weights that come with an architecture lie on the Hub.

    Parameters
    ----------
    spec : TeacherSpec
        A teacher of timm whose weights are None.

    Returns
    -------
    address : HubAddress or None
        None if timm fetches them from elsewhere.

    Raises
    ------
    TeacherSpecError
        timm has no such weights.
    """
    import timm

    config = config_address(spec)
    if config is not None:
        return replace(config, filenames=_WEIGHTS)
    try:
        known = timm.get_pretrained_cfg(spec.architecture)
    except RuntimeError as error:
        raise TeacherSpecError(f"Teacher {spec.name!r}: timm says: {error}") from error
    if known is None or not (known.hf_hub_id or known.url):
        tags = timm.list_pretrained(f"{spec.architecture.partition('.')[0]}.*")
        raise TeacherSpecError(
            f"Teacher {spec.name!r}: timm has no pretrained weights for "
            f"{spec.architecture!r}; it has {', '.join(tags) or 'none of its kind'}. "
            "Pass weights=: a file, a folder or 'hf-hub:owner/repository/file'."
        )
    if not known.hf_hub_id:
        return None
    names = (known.hf_hub_filename,) if known.hf_hub_filename else _WEIGHTS[:2]
    return HubAddress(known.hf_hub_id, names, spec.revision)


def fetch_timm_source(spec: TeacherSpec) -> TimmSource:
    """Return what timm builds a teacher from, fetched if need be.

    Parameters
    ----------
    spec : TeacherSpec
        A teacher of timm.

    Returns
    -------
    source : TimmSource

    Raises
    ------
    TeacherSpecError
        timm has no such weights, or an address can be none on the Hub.
    TeacherLoadingError
        A file cannot be had, and why (see ``fetch_from_hub``).
    """
    config = config_address(spec)
    wanted = pretrained_address(spec) if spec.weights is None else None
    if config is None:
        if wanted is None:
            return TimmSource(spec.architecture)
        weights = fetch_from_hub(wanted, spec.name)
        # timm's custom_load tells how to read a file of its original authors.
        overlay = {"file": str(weights.path), "custom_load": False}
        return TimmSource(spec.architecture, overlay, weights)
    found = fetch_from_hub(config, spec.name)
    architecture = f"local-dir:{found.snapshot}"
    if wanted is None:
        return TimmSource(architecture)
    # Of the same commit, and therefore in the same folder.
    beside = replace(wanted, repo_id=found.address.repo_id, revision=found.commit)
    return TimmSource(architecture, weights=fetch_from_hub(beside, spec.name))
