"""Files on the Hub: its cache first, then one question, then a download."""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

from skshazam.exceptions import TeacherSpecError
from skshazam.teachers._refusals import Refusal, gravest, plain_copy, refusal_of
from skshazam.teachers._spec import TeacherSpec

__all__ = [
    "HUB_PREFIX",
    "HubAddress",
    "HubFile",
    "ask_hub",
    "fetch_from_hub",
    "find_in_cache",
    "weights_address",
]

logger = logging.getLogger("skshazam")

HUB_PREFIX = "hf-hub:"

# The Hub's two names for one network's weights, for which it converts the one to the
# other: whoever names the first takes the second where the first is missing.
_FORMATS = ("model.safetensors", "pytorch_model.bin")

# Seconds until a refused connection is tried once more.
_PAUSE = 1.0


@dataclass(frozen=True)
class HubAddress:
    """Where on the Hub a file lies, under the first of its names that is there.

    Parameters
    ----------
    repo_id : str
        "owner/repository".
    filenames : tuple of str
        Names that the file may have, best first.
    revision : str, default=None
        Branch, tag or commit; None is the branch "main".
    """

    repo_id: str
    filenames: tuple[str, ...]
    revision: str | None = None

    def __str__(self) -> str:
        """Look like what follows "hf-hub:" in a spec's weights."""
        return f"{self.repo_id}/{self.filename}"

    @property
    def filename(self) -> str:
        """The best name."""
        return self.filenames[0]

    @property
    def cache_folder(self) -> str:
        """Name of the repository's folder in the Hub's cache."""
        return f"models--{self.repo_id.replace('/', '--')}"

    def by_name(self) -> list["HubAddress"]:
        """Return one address a name, best first."""
        return [replace(self, filenames=(name,)) for name in self.filenames]

    def spellings(self) -> list["HubAddress"]:
        """Return this address, and those of cached repositories equal but for case.

        The cache knows a repository as it was spelled by whoever asked for it.
        """
        folders = {path.name for path in _folders(_cache())}
        wanted = self.cache_folder
        return [self] + [
            replace(self, repo_id=name.removeprefix("models--").replace("--", "/", 1))
            for name in sorted(folders - {wanted})
            if name.lower() == wanted.lower()
        ]

    def cached_commits(self) -> list[str]:
        """Return the commits at which the cache holds one of the files, sorted."""
        return sorted(
            snapshot.name
            for snapshot in _folders(_cache() / self.cache_folder / "snapshots")
            if any((snapshot / name).is_file() for name in self.filenames)
        )

    def download_command(self, *, force: bool = False) -> str:
        """Return the command line that puts the file into the cache."""
        revision = f" --revision {self.revision}" if self.revision else ""
        again = " --force-download" if force else ""
        return f"hf download {self.repo_id} {self.filename}{revision}{again}"


@dataclass(frozen=True)
class HubFile:
    """A file of the Hub on this machine.

    Parameters
    ----------
    path : Path
        In the Hub's cache.
    address : HubAddress
        Where it is from, as spelled in the cache.
    """

    path: Path
    address: HubAddress

    @property
    def snapshot(self) -> Path:
        """The folder that looks like the repository at this file's commit."""
        return self.path.parents[self.address.filename.count("/")]

    @property
    def commit(self) -> str:
        """The commit this file is from; the cache names its snapshots by it."""
        return self.snapshot.name


def weights_address(spec: TeacherSpec) -> HubAddress:
    """Return where the weights "hf-hub:owner/repository/file" of a spec lie.

    Parameters
    ----------
    spec : TeacherSpec
        Its weights are on the Hub.

    Returns
    -------
    address : HubAddress

    Raises
    ------
    TeacherSpecError
        The address can be no file on the Hub.
    """
    owner, _, rest = spec.weights.removeprefix(HUB_PREFIX).partition("/")
    repository, _, filename = rest.partition("/")
    if not (owner and repository and filename):
        raise TeacherSpecError(
            f"Teacher {spec.name!r}: weights={spec.weights!r}; expected "
            f"'{HUB_PREFIX}owner/repository/file'."
        )
    folder, slash, name = filename.rpartition("/")
    names = _FORMATS if name == _FORMATS[0] else (name,)
    address = HubAddress(
        f"{owner}/{repository}",
        tuple(f"{folder}{slash}{each}" for each in names),
        spec.revision,
    )
    check_address(address, spec)
    return address


def check_address(address: HubAddress, spec: TeacherSpec) -> None:
    """Raise TeacherSpecError where no repository or file can have such a name."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HFValidationError

    reason = "a part of its path is '.' or '..'"
    parts = [part for name in address.filenames for part in name.split("/")]
    try:
        hf_hub_url(address.repo_id, address.filename)
        if not {"", ".", ".."} & set(parts):
            return
    except HFValidationError as error:
        reason = str(error)
    raise TeacherSpecError(
        f"Teacher {spec.name!r}: {HUB_PREFIX}{address} names no file that can exist: "
        f"{reason}"
    )


def find_in_cache(address: HubAddress) -> HubFile | None:
    """Return a file that the Hub's cache holds; nothing is asked or downloaded.

    Parameters
    ----------
    address : HubAddress
        Where it is from.

    Returns
    -------
    file : HubFile or None
        None if the cache lacks it, at this revision.
    """
    from huggingface_hub import try_to_load_from_cache

    for spelled in address.spellings():
        for named in spelled.by_name():
            found = try_to_load_from_cache(
                named.repo_id, named.filename, revision=named.revision
            )
            if isinstance(found, str):
                return HubFile(Path(found), named)
    return None


def ask_hub(address: HubAddress):
    """Ask the Hub about one file without fetching it.

    Parameters
    ----------
    address : HubAddress
        The first of its names is asked for.

    Returns
    -------
    metadata : huggingface_hub.HfFileMetadata or None
        Its commit and size; None if it cannot be had.
    refusal : Refusal or None
        Why not.
    error : Exception or None
        What the refusal can be raised from.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(address.repo_id, address.filename, revision=address.revision)
    tries = 2
    while True:
        tries -= 1
        try:
            timeout = constants.HF_HUB_ETAG_TIMEOUT
            return get_hf_file_metadata(url, timeout=timeout), None, None
        except Exception as error:  # noqa: BLE001 - httpx's share no root with OSError
            if tries and type(error).__name__ == "ConnectError":
                time.sleep(_PAUSE)
                continue
            return None, refusal_of(error, address), plain_copy(error)


def fetch_from_hub(address: HubAddress, name: str, hint: str | None = None) -> HubFile:
    """Return a file of the Hub: the cached copy if there is one, else a download.

    Parameters
    ----------
    address : HubAddress
        Where it lies.
    name : str
        The teacher it is for, named in errors.
    hint : str, default=None
        Their last step; None is to pass a local file.

    Returns
    -------
    file : HubFile
        On this machine.

    Raises
    ------
    GatedTeacherError
        The Hub asks to accept terms first, or refuses the token.
    OfflineTeacherError
        The cache lacks the file, and the Hub cannot or may not be asked.
    TeacherLoadingError
        There is no such repository, revision or file, or it cannot be fetched.
    """
    cached = find_in_cache(address)
    if cached is not None:
        return cached
    causes = {}
    for named in address.by_name():
        found, refusal, cause = _download(named)
        if found is not None:
            return found
        causes[refusal] = cause
        if not refusal.file_missing:
            break
    told = gravest(list(causes))
    raise told.error(name, hint) from causes[told]


def _download(
    address: HubAddress,
) -> tuple[HubFile | None, Refusal | None, Exception | None]:
    """Return one file, or why it cannot be had and from what to raise that."""
    from huggingface_hub import hf_hub_download

    # The Hub's client, left alone, tries for half a minute to reach a host that is not
    # there, and for minutes if packets are dropped. So ask once; a host that answers
    # slowly or badly is left to it.
    _, refusal, error = ask_hub(address)
    if refusal is not None and not refusal.passing:
        return None, refusal, error
    logger.info("Fetching %s", address)
    try:
        path = hf_hub_download(
            address.repo_id, address.filename, revision=address.revision
        )
    except Exception as error:  # noqa: BLE001 - hf_xet and httpx raise their own
        return None, refusal_of(error, address), plain_copy(error)
    return HubFile(Path(path), address), None, None


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _folders(parent: Path) -> list[Path]:
    """Return the folders in a folder, none if there is no such thing."""
    try:
        return [path for path in parent.iterdir() if path.is_dir()]
    except OSError:
        return []
