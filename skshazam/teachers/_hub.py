"""Files on the Hub: its cache first, then a download, else what to do about it."""

import logging
from pathlib import Path

from skshazam.exceptions import (
    GatedTeacherError,
    TeacherLoadingError,
    TeacherSpecError,
)
from skshazam.teachers._spec import TeacherSpec

__all__ = ["HUB_PREFIX", "fetch_from_hub", "local_file_hint"]

logger = logging.getLogger("skshazam")

HUB_PREFIX = "hf-hub:"


def fetch_from_hub(spec: TeacherSpec) -> Path:
    """Return a file of the Hub: the cached copy if there is one, else a download.

    Parameters
    ----------
    spec : TeacherSpec
        Its weights are "hf-hub:owner/repository/file".

    Returns
    -------
    file : Path
        In the Hub's cache on this machine.

    Raises
    ------
    GatedTeacherError
        The Hub asks to accept terms first.
    TeacherLoadingError
        There is no such repository or file, or no connection.
    TeacherSpecError
        The address can be no file on the Hub.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    owner, _, rest = spec.weights.removeprefix(HUB_PREFIX).partition("/")
    repository, _, filename = rest.partition("/")
    if not (owner and repository and filename):
        raise TeacherSpecError(
            f"Teacher {spec.name!r}: weights={spec.weights!r}; expected "
            f"'{HUB_PREFIX}owner/repository/file'."
        )
    repo_id = f"{owner}/{repository}"
    request = {"repo_id": repo_id, "filename": filename, "revision": spec.revision}
    try:
        return Path(hf_hub_download(**request, local_files_only=True))
    except HFValidationError as error:
        raise TeacherSpecError(
            f"Teacher {spec.name!r}: weights={spec.weights!r} names no repository that "
            f"can exist: {error}"
        ) from error
    except LocalEntryNotFoundError:
        logger.info("Fetching %s of %s", filename, repo_id)
    try:
        return Path(hf_hub_download(**request))
    except GatedRepoError as error:
        raise GatedTeacherError(
            f"The Hub refused the weights of teacher {spec.name!r} ({repo_id}): this "
            "account has not been granted access.\n"
            f"1. Accept the terms at https://huggingface.co/{repo_id}.\n"
            "2. Run `hf auth login`, or set HF_TOKEN.\n"
            f"{local_file_hint(spec)}"
        ) from error
    except RepositoryNotFoundError as error:
        raise TeacherLoadingError(
            f"Teacher {spec.name!r}: the Hub has no repository {repo_id!r}, or hides "
            f"it from this account. Check the spelling. {local_file_hint(spec)}"
        ) from error
    except EntryNotFoundError as error:
        # LocalEntryNotFoundError is one too: nothing in the cache and no connection.
        missing = (
            f"{repo_id} is not in the Hub's cache, and the Hub cannot be reached"
            if isinstance(error, LocalEntryNotFoundError)
            else f"{repo_id} has no file {filename!r} at {spec.revision or 'main'!r}"
        )
        raise TeacherLoadingError(
            f"Teacher {spec.name!r}: {missing}.\n"
            f"1. On a machine with a connection: `hf download {repo_id} {filename}`.\n"
            "2. Copy the file here.\n"
            f"{local_file_hint(spec)}"
        ) from error
    except OSError as error:
        raise TeacherLoadingError(
            f"Teacher {spec.name!r}: cannot fetch {filename!r} of {repo_id}: {error}. "
            f"{local_file_hint(spec)}"
        ) from error


def local_file_hint(spec: TeacherSpec) -> str:
    """Return the sentence that tells how to do without the Hub."""
    return (
        f"Already have the file? Pass weights={{{spec.name!r}: '/path/to/file'}}; "
        "nothing is then downloaded."
    )
