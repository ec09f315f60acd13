"""What a store says of a teacher in JSON: read, compared, and completed."""

import json
from collections.abc import Mapping
from pathlib import Path

from skshazam.exceptions import FeatureStoreMismatchError
from skshazam.storage._durable_file import storage_error

__all__ = ["check_facts", "read_json", "to_json"]

COMPARED_FACTS = ("dim", "commit")


def check_facts(known: Mapping, facts: Mapping, store: Path) -> None:
    """Refuse facts that contradict those under which rows were stored."""
    for fact in COMPARED_FACTS:
        held, given = known.get(fact), facts.get(fact)
        if held is None or given is None or held == given:
            continue
        name = facts.get("name") or known.get("name") or "this teacher"
        if fact == "commit":
            raise FeatureStoreMismatchError(
                f"The weights of {name!r} on the Hub changed: the store "
                f"{str(store)!r} holds features of commit {held}, this run "
                f"loaded {given}. Pin them with '{name}@{held}', or use another "
                "store."
            )
        raise FeatureStoreMismatchError(
            f"The store {str(store)!r} holds features of {name!r} with "
            f"{fact}={held!r}, this run has {given!r}. Use another store."
        )


def to_json(content: Mapping) -> bytes:
    """Return readable JSON."""
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def read_json(path: Path) -> dict | None:
    """Return a JSON object; None if there is no file, empty if it is no object."""
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            return content
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise storage_error(error, path) from error
    except (ValueError, RecursionError):
        pass
    return {}
