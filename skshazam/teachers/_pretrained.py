"""timm's own networks: which files they are made from, fetched if need be.

timm is handed local files only, and never loads weights itself, so that these are
found, pinned, recorded, refused and checked like all others.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from skshazam.exceptions import TeacherLoadingError, TeacherSpecError
from skshazam.teachers._hub import (
    HUB_PREFIX,
    HubAddress,
    HubFile,
    check_address,
    fetch_from_hub,
)
from skshazam.teachers._refusals import plain_copy
from skshazam.teachers._spec import TeacherSpec, find_configuration

__all__ = [
    "TimmSource",
    "check_architecture",
    "config_address",
    "fetch_timm_source",
    "path_of_url",
    "pretrained_address",
]

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
    weights : HubFile or Path, default=None
        The pretrained weights, if any are wanted.
    configuration : HubFile or Path, default=None
        The config.json that the architecture is read from, if it is.
    """

    architecture: str
    weights: HubFile | Path | None = None
    configuration: HubFile | Path | None = None


def check_architecture(spec: TeacherSpec) -> None:
    """Refuse an architecture that timm does not know, with the nearest it does.

    Parameters
    ----------
    spec : TeacherSpec
        Any teacher.

    Raises
    ------
    TeacherSpecError
        It names an architecture, not on the Hub, and timm has none of that name.
    """
    import difflib

    if spec.architecture is None or spec.architecture.startswith(HUB_PREFIX):
        return
    import timm

    name = spec.architecture.partition(".")[0]
    if timm.is_model(name):
        return
    nearest = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.3)
    raise TeacherSpecError(
        f"Teacher {spec.name!r}: timm {timm.__version__} knows no architecture "
        f"{spec.architecture!r}. Nearest: {', '.join(nearest) or 'none'}."
    )


def config_address(spec: TeacherSpec) -> HubAddress | None:
    """Return where the configuration of an architecture "hf-hub:..." lies.

    Parameters
    ----------
    spec : TeacherSpec
        Its revision pins the configuration if it pins the weights beside it.

    Returns
    -------
    address : HubAddress or None
        None for every other teacher, and where it lies beside local weights.

    Raises
    ------
    TeacherSpecError
        The address can be no repository on the Hub.
    """
    if not (spec.architecture or "").startswith(HUB_PREFIX):
        return None
    if find_configuration(spec) is not None:
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
    config = config_address(spec)
    if config is not None:
        return replace(config, filenames=_WEIGHTS)
    import timm

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


def path_of_url(spec: TeacherSpec) -> tuple[str, Path]:
    """Return where timm has weights that are not on the Hub, and torch's copy.

    Parameters
    ----------
    spec : TeacherSpec
        A teacher of timm whose ``pretrained_address`` is None.

    Returns
    -------
    url : str
        Where they are.
    path : Path
        In torch's own cache; nothing need be there.
    """
    import timm
    from torch import hub

    url = timm.get_pretrained_cfg(spec.architecture).url
    return url, Path(hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


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
    beside = find_configuration(spec)
    if beside is not None:
        return TimmSource(f"local-dir:{beside.parent}", configuration=beside)
    config = config_address(spec)
    wanted = pretrained_address(spec) if spec.weights is None else None
    if config is None:
        return TimmSource(spec.architecture, _fetch_pretrained(spec, wanted))
    hint = (
        f"Already have the files? Pass weights={{{spec.name!r}: '/path/to/folder'}}, a "
        "folder with config.json and the weights; nothing is then downloaded."
    )
    found = fetch_from_hub(config, spec.name, hint)
    weights = None
    if wanted is not None:
        # Of the same commit, and therefore in the same folder.
        wanted = replace(wanted, repo_id=found.address.repo_id, revision=found.commit)
        weights = fetch_from_hub(wanted, spec.name, hint)
    return TimmSource(f"local-dir:{found.snapshot}", weights, found)


def _fetch_pretrained(
    spec: TeacherSpec, wanted: HubAddress | None
) -> HubFile | Path | None:
    """Return the weights that come with an architecture that timm knows by name."""
    if spec.weights is not None:
        return None
    if wanted is not None:
        return fetch_from_hub(wanted, spec.name)
    from torch import hub

    url, path = path_of_url(spec)
    if path.is_file():
        return path
    # As torch.hub does: part of the digest is in the name.
    digest = re.search(r"-([0-9a-f]{8,})\.", path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        hub.download_url_to_file(
            url, str(path), hash_prefix=digest and digest[1], progress=False
        )
    except Exception as error:  # noqa: BLE001 - urllib, sockets and torch raise their own
        raise TeacherLoadingError(
            f"Teacher {spec.name!r}: cannot fetch {url}: {error}.\n1. Try again.\n"
            f"2. Or fetch it elsewhere, and pass weights={{{spec.name!r}: "
            "'/path/to/file'}."
        ) from plain_copy(error)
    return path
