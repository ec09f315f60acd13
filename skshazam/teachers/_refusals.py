"""Why a file of the Hub cannot be had, in one sentence, and what to do about it.

Neither the access token nor the query of a signed address is in these sentences, or in
the errors they are raised from: those are copies of the client's, as text alone.
"""

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass

from skshazam.exceptions import (
    GatedTeacherError,
    OfflineTeacherError,
    TeacherLoadingError,
)

__all__ = ["Refusal", "gravest", "local_file_hint", "plain_copy", "refusal_of"]

_NO_CONNECTION = {"ConnectError", "ConnectTimeout", "ProxyError"}
_BAD_HEADER = {"LocalProtocolError", "UnicodeEncodeError"}
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}

_LOG_IN = "Run `hf auth login`, or set HF_TOKEN."
_TOKENS = "https://huggingface.co/settings/tokens"
_ERRORS = {"refused": GatedTeacherError, "offline": OfflineTeacherError}


@dataclass(frozen=True)
class Refusal:
    """Why a file of the Hub cannot be had.

    Parameters
    ----------
    status : {"refused", "missing", "offline", "failed"}
        What the user lacks: access, the right name, a connection, or luck.
    reason : str
        A clause without a full stop.
    steps : tuple of str
        What to do about it, in this order.
    passing : bool, default=False
        Whether the Hub's client, which waits and asks again, may still succeed.
    file_missing : bool, default=False
        Whether the repository is there and another file of it may be, too.
    """

    status: str
    reason: str
    steps: tuple[str, ...]
    passing: bool = False
    file_missing: bool = False

    def error(self, name: str, hint: str | None = None) -> TeacherLoadingError:
        """Return the typed error of this refusal for a teacher of that name.

        Parameters
        ----------
        name : str
            The teacher.
        hint : str, default=None
            The last step; None is ``local_file_hint``.

        Returns
        -------
        error : TeacherLoadingError
        """
        steps = (*self.steps, hint or local_file_hint(name))
        numbered = (f"{number}. {step}" for number, step in enumerate(steps, 1))
        kind = _ERRORS.get(self.status, TeacherLoadingError)
        return kind("\n".join((f"Teacher {name!r}: {self.reason}.", *numbered)))


def gravest(refusals: Sequence[Refusal]) -> Refusal:
    """Return which refusal to tell, of those of one file's names in their order.

    Parameters
    ----------
    refusals : sequence of Refusal
        All but the last say that there is no file of that name.

    Returns
    -------
    refusal : Refusal
        The first if the file has none of the names, else what is in the way.
    """
    return refusals[0] if refusals[-1].file_missing else refusals[-1]


def local_file_hint(name: str) -> str:
    """Return the sentence that tells how to do without the Hub."""
    return (
        f"Already have the file? Pass weights={{{name!r}: '/path/to/file'}}; nothing "
        "is then downloaded."
    )


def refusal_of(error: Exception, address) -> Refusal:
    """Return what an error of the Hub's client means to the user.

    Parameters
    ----------
    error : Exception
        What the client raised.
    address : HubAddress
        What was asked for.

    Returns
    -------
    refusal : Refusal
    """
    from huggingface_hub import errors

    repo_id = address.repo_id
    page = f"https://huggingface.co/{repo_id}"
    if isinstance(error, errors.GatedRepoError):
        return Refusal(
            "refused",
            f"the Hub refused {repo_id}: {_whose_access()}",
            (f"Accept the terms at {page}.", _LOG_IN),
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return Refusal(
            "missing",
            f"the Hub has no repository {repo_id!r}, or hides it from this account",
            ("Check the spelling.", f"Is it private? {_LOG_IN}"),
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return Refusal(
            "missing",
            f"{repo_id} has no revision {address.revision!r}",
            (f"Choose one of {page}/commits/main.",),
        )
    # LocalEntryNotFoundError is one too: nothing cached, and no connection.
    if isinstance(error, errors.LocalEntryNotFoundError):
        return _offline(error.__cause__ or error, address)
    if isinstance(error, errors.EntryNotFoundError):
        return Refusal(
            "missing",
            f"{repo_id} has no file {address.filename!r} at "
            f"{address.revision or 'main'!r}",
            (f"Choose one of {page}/tree/{address.revision or 'main'}.",),
            file_missing=True,
        )
    if isinstance(error, errors.OfflineModeIsEnabled) or _is(error, _NO_CONNECTION):
        return _offline(error, address)
    return (
        _of_storage(error, address)
        or _of_access(error, address)
        or _of_anything(error, address)
    )


def _whose_access() -> str:
    """Return why a gated repository is closed."""
    if _token() is None:
        return "it asks to accept its terms, and there is no token on this machine"
    return "this account has not been granted access"


def _offline(error: Exception, address) -> Refusal:
    """Return the refusal of a machine without a connection or with a forbidden one."""
    from huggingface_hub import constants, errors

    cannot = (
        "HF_HUB_OFFLINE forbids to ask the Hub"
        if isinstance(error, errors.OfflineModeIsEnabled)
        else f"the Hub cannot be reached ({_text(error)})"
    )
    cached = "".join(
        f"; cached is revision {commit!r}" for commit in address.cached_commits()[:3]
    )
    return Refusal(
        "offline",
        f"{address} is not in the Hub's cache at {constants.HF_HUB_CACHE!r}{cached}, "
        f"and {cannot}",
        (
            f"On a machine with a connection: `{address.download_command()}`.",
            f"Copy the folder {address.cache_folder!r} from the cache there into the "
            "one here, links included (`rsync -a`).",
        ),
    )


def _of_storage(error: Exception, address) -> Refusal | None:
    """Return the refusal of a server that the Hub, which said yes, sent us on to."""
    from urllib.parse import urlsplit

    from huggingface_hub import constants

    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    # Any other message of httpx may lack what it was the answer to.
    asked = getattr(response, "url", None) if status in (401, 403) else None
    if asked is None:
        return None
    url = urlsplit(str(asked))
    if url.netloc == urlsplit(constants.ENDPOINT).netloc and "/resolve/" in url.path:
        return None
    return Refusal(
        "failed",
        f"the Hub hands out {address}, but {url.hostname}, where it is stored, refused "
        f"it: {_text(error)}",
        (
            "Try again: the link that the Hub gave may have expired.",
            f"Is there a proxy? It has to let {url.hostname} through.",
        ),
        passing=True,
    )


def _of_access(error: Exception, address) -> Refusal | None:
    """Return the refusal of a token that is unknown, too weak or not even text."""
    if _is(error, _BAD_HEADER):
        return Refusal(
            "refused",
            "the token of this machine holds characters that no token has, so that "
            "the Hub was not asked",
            (f"{_LOG_IN} A new one is made at {_TOKENS}.",),
        )
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return Refusal(
            "refused",
            f"the Hub does not know the token that it was asked for {address} with",
            (f"Make a new one at {_TOKENS}.", f"{_LOG_IN} Or go without, if it may."),
        )
    if status == 403:
        return Refusal(
            "refused",
            f"the Hub refused {address}: {_text(error)}",
            (f"Let the token read gated repositories: {_TOKENS}.",),
        )
    return None


def _of_anything(error: Exception, address) -> Refusal:
    """Return the refusal of a disk or of a server that does not do its part."""
    from huggingface_hub import constants

    if isinstance(error, OSError) and error.errno in _DISK:
        return Refusal(
            "failed",
            f"{address} cannot be kept in {constants.HF_HUB_CACHE!r}: {_text(error)}",
            ("Make room there, or set HF_HOME to a folder of yours that has it.",),
        )
    return Refusal(
        "failed",
        f"cannot fetch {address}: {type(error).__name__}: {_text(error)}",
        ("Try again; of a half-fetched file nothing is used.",),
        passing=True,
    )


def _is(error: Exception, names: set[str]) -> bool:
    """Return whether an error is of one of these classes or below them.

    By name: the classes belong to httpx, or to httpx2 from version 2 of the Hub's
    client on.
    """
    return any(kind.__name__ in names for kind in type(error).__mro__)


def _text(error: Exception) -> str:
    """Return what an error says, on one line, without the token or signatures."""
    text = _without_token(" ".join(str(error).split()).rstrip("."))
    return _without_secrets_of_addresses(text)[:300] or type(error).__name__


def _without_secrets_of_addresses(text: str) -> str:
    """Return a text whose addresses have neither a query nor a password.

    The query of an address that is signed beforehand opens the file to anybody.
    """
    text = re.sub(r"://[^\s/@]+@", "://", text)
    return re.sub(r"(://[^\s?#'\"]*)[?#][^\s'\"]*", r"\1", text)


def _without_token(text: str) -> str:
    """Return a text with the token, as it is and as repr shows it, starred out."""
    token = _token()
    for shown in (token, repr(token)[1:-1]) if token else ():
        text = text.replace(shown, "***")
    return text


def _token() -> str | None:
    """Return the token of this machine, if it can be had."""
    from huggingface_hub import get_token

    try:
        return get_token()
    except Exception:  # noqa: BLE001 - asks another host where CI is a trusted publisher
        return None


def plain_copy(error: Exception) -> RuntimeError:
    """Return an error to raise from: what another one says, and nothing it holds.

    Parameters
    ----------
    error : Exception
        What the Hub's client raised. It holds requests, among them those of a
        redirection, whose headers carry the token.

    Returns
    -------
    copy : RuntimeError
        The name of its class and its text.
    """
    return RuntimeError(f"{type(error).__name__}: {_text(error)}")
