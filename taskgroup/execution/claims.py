"""Claims on the networks in training, so that the processes of one run never train the same network at the same time.

    <run>/claims/<key>.<token>   name of the process that trains this network

A claim is a lease with a fencing token (Kleppmann, "How to do distributed locking", 2016). It is one file, linked into
its place: on every POSIX file system, shared ones too, only one process can create it. It holds as long as its owner
shows signs of life (``Heartbeat``). A claim whose owner is silent is not removed but outbid by the file with the next
token, which again one process alone can create. The claim with the highest token counts. So an owner that was stopped
and goes on finds that it was outbid, and throws away what it has: ``is_current`` is asked before anything is published.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

_CLAIMS = "claims"
# Another name for files that are not in their place yet.
_DRAFT = ".draft-"


@dataclass(frozen=True)
class Claim:
    """The right of one process to train one network; ``token`` counts how often the right was taken over."""

    folder: Path
    key: str
    owner: str
    token: int

    @property
    def path(self) -> Path:
        """The file of the claim."""
        return self.folder / _CLAIMS / f"{self.key}.{self.token}"

    def is_current(self) -> bool:
        """Return whether the claim still counts: it was neither given back nor outbid."""
        newest = newest_claim(self.folder, self.key)
        return newest is not None and newest.token == self.token and newest.owner == self.owner


class Claims:
    """The claims of one process; its threads share them.

    Parameters
    ----------
    folder: the run folder.
    owner: name of this process.
    lives: answers whether another process still works.
    """

    def __init__(self, folder: Path, owner: str, lives: Callable[[str], bool]) -> None:
        self._folder = folder
        self._owner = owner
        self._lives = lives
        self._held: dict[str, Claim] = {}
        (folder / _CLAIMS).mkdir(parents=True, exist_ok=True)

    def take(self, key: str) -> Claim | None:
        """Return this process's claim on a network; None where a living process holds it."""
        newest = newest_claim(self._folder, key)
        token = 0
        if newest is not None:
            if self._lives(newest.owner):
                return None
            token = newest.token + 1
        claim = Claim(self._folder, key, self._owner, token)
        # Another process may have been faster, also by giving back what both have seen.
        if not _create(claim) or not claim.is_current():
            return None
        self._held[key] = claim
        return claim

    def holds(self, key: str) -> bool:
        """Return whether this process's claim on a network still counts."""
        claim = self._held.get(key)
        return claim is not None and claim.is_current()

    def give_back(self, key: str) -> None:
        """Remove this process's claim on a network, and those that it has outbid."""
        claim = self._held.pop(key)
        if not claim.is_current():
            claim.path.unlink(missing_ok=True)
            return
        # The lowest first: as long as any is left, the highest must be this one.
        for token in range(claim.token + 1):
            path = self._folder / _CLAIMS / f"{key}.{token}"
            path.unlink(missing_ok=True)


def newest_claim(folder: Path, key: str) -> Claim | None:
    """Return the claim on a network that counts; None where nobody trains it."""
    tokens = []
    for name in _names(folder / _CLAIMS):
        claimed_key, _, token = name.rpartition(".")
        if claimed_key == key and token.isdigit():
            tokens.append(int(token))
    if not tokens:
        return None
    newest = Claim(folder, key, "", max(tokens))
    try:
        owner = newest.path.read_text(encoding="utf-8")
    except FileNotFoundError:
        # It was given back since.
        return None
    return Claim(folder, key, owner, newest.token)


def own_claim(folder: Path, key: str, owner: str) -> Claim | None:
    """Return the claim of a process on a network; None where it has none, such as a process that works alone."""
    newest = newest_claim(folder, key)
    if newest is None or newest.owner != owner:
        return None
    return newest


def _create(claim: Claim) -> bool:
    """Create the file of a claim with its content in one step; False where it exists."""
    draft = claim.path.with_name(f"{_DRAFT}{uuid4().hex}")
    draft.write_text(claim.owner, encoding="utf-8")
    try:
        os.link(draft, claim.path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def _names(folder: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(folder)
    return []
