"""Files of densities, or of structures, and the rows of a property table that they belong to."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from taskgroup.datasets.ingest.layout import Claim, Match, claim_of
from taskgroup.datasets.store import Refused
from taskgroup.densities import density_paths, structure_lines
from taskgroup.densities.compression import bare_name
from taskgroup.errors import DensityError, InputError

_STRUCTURE_SUFFIXES = (".cif", ".mcif", ".vasp", ".poscar", ".json", ".xsf", ".cssr", ".yaml")
# Words of a file's name that say what field it holds: others than the total density stand back where both are there.
_OTHER_FIELD = re.compile(
    r"spin|mag|pot|elf|esp|hartree|diff|delta|parchg|partial|orbital|homo|lumo|wave|psi|ldos|stm|core"
    r"|(?<![a-z])mo(?![a-z])",
    re.IGNORECASE,
)
_TOTAL_DENSITY = re.compile(r"dens|charge|rho|total", re.IGNORECASE)
# One calculation's files, best first: what VASP writes with all digits, other formats, what it writes with five.
_WORD_ORDER = ("CHGCAR", "other", "CHG", "AECCAR")
_STRUCTURE_ORDER = ("CONTCAR", "POSCAR", "other")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Source:
    """One row's crystal: the file of its density (two: AECCAR0 + AECCAR2) or of its structure, or a line of a file.

    ``line`` is text and becomes a structure where it is used: 100,000 of them are 40 MB, as structures they were 1 GB.
    ``electrons`` and ``formula`` are what the property table states of the row, ``labelled_per_cell`` whether it has
    values per primitive cell, ``frame`` which configuration of a file with several is meant.
    """

    id: str
    files: tuple[Path, ...] = ()
    line: str | None = None
    electrons: float | None = None
    formula: str | None = None
    labelled_per_cell: bool = False
    frame: int | None = None

    def __str__(self) -> str:
        text = " + ".join(map(str, self.files))
        if self.line is not None:
            text += f", structure '{self.id}'"
        return text


@dataclass(frozen=True)
class Matched:
    """Sources of rows, in the order of their files (structures: of their ids).

    ``without_row`` names sources that belong to no row; ``refused`` are rows whose files are ambiguous; ``notes`` tell
    what was guessed.
    """

    sources: tuple[Source, ...]
    without_row: tuple[str, ...]
    refused: tuple[Refused, ...] = ()
    notes: tuple[str, ...] = ()


def find_densities(
    folder: Path, ids: Collection[str], all_electron: bool = False, match: str | None = None
) -> Matched:
    """Find the density files under ``folder`` by row id.

    The id is the file's name without endings and VASP words (``mp-19.CHGCAR.gz``, ``mp-19_CHGCAR``, ``mp-19.cube``),
    its path (``set/mp-19``), else the name of a folder above it (``mp-19/CHGCAR``, ``mp-19/static/CHGCAR``), or what
    stands at ``{id}`` in ``match`` (``{id}/static``). Of several files of a row the CHGCAR is taken before others, or,
    with ``all_electron``, AECCAR0 + AECCAR2. A row is refused where two files have the same claim to it. Files in tar
    and zip archives are found as if these were folders; ``folder`` may be an archive itself.
    """
    return match_densities(densities_under(folder), folder, ids, all_electron, match)


def densities_under(folder: Path) -> list[Path | DensityError]:
    """Return the density files of a folder or an archive, and an error for each archive that cannot be read."""
    if not folder.exists():
        raise InputError(f"{folder}: no such folder")
    return list(density_paths(folder))


def match_densities(
    found: Sequence[Path | DensityError],
    folder: Path,
    ids: Collection[str],
    all_electron: bool = False,
    match: str | None = None,
) -> Matched:
    """Do what ``find_densities`` does with what was found under ``folder``."""
    paths = [place for place in found if isinstance(place, Path)]
    damaged = [place for place in found if not isinstance(place, Path)]
    order = ("AECCAR", *_WORD_ORDER[:3]) if all_electron else _WORD_ORDER
    matched = _match(paths, folder, ids, match, order)
    places = {path: number for number, path in enumerate(paths)}
    # an archive is read in its own order, which takes one pass
    in_order = sorted(matched.sources, key=lambda source: places[source.files[0]])
    notes = [f"an archive is left out from here on: {error}" for error in damaged]
    return replace(matched, sources=tuple(in_order), notes=(*notes, *matched.notes))


def find_structures(place: Path, ids: Collection[str], match: str | None = None) -> Matched:
    """Find structures by row id: the lines of a ``.jsonl`` file, compressed or not, or the files under a folder."""
    if place.is_file():
        return _match_lines(place, ids)
    paths = [path for path in _files(place) if _is_structure(path)]
    return _match(paths, place, ids, match, _STRUCTURE_ORDER)


def _is_structure(path: Path) -> bool:
    name = bare_name(path.name)
    if name.lower().endswith(_STRUCTURE_SUFFIXES):
        return True
    return re.search("POSCAR|CONTCAR", name) is not None


def _match_lines(place: Path, ids: Collection[str]) -> Matched:
    sources: dict[str, Source] = {}
    refused: dict[str, Refused] = {}
    for line in structure_lines(place):
        if isinstance(line, DensityError):
            name = f"damaged line {len(refused) + 1}"
            refused[name] = Refused(name, str(place), str(line))
            continue
        if line.id in sources or line.id in refused:
            sources.pop(line.id, None)
            reason = f"structure '{line.id}' stands there twice"
            refused[line.id] = Refused(line.id, line.place, reason)
            continue
        # lines of no row are only counted
        text = line.text if line.id in ids else ""
        sources[line.id] = Source(line.id, (place,), text)
    return _matched(sources, refused, ids, place, [])


def _files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    for path in sorted(folder.rglob("*")):
        if not path.name.startswith(".") and path.is_file():
            yield path


def _match(
    paths: Sequence[Path],
    folder: Path,
    ids: Collection[str],
    match: str | None,
    order: Sequence[str],
) -> Matched:
    pattern = None if match is None else Match(match)
    claims_by_row: dict[str, list[Claim]] = {}
    for path in paths:
        claim = claim_of(path, folder, ids, pattern)
        claims_by_row.setdefault(claim.row_id, []).append(claim)
    sources: dict[str, Source] = {}
    refused: dict[str, Refused] = {}
    guesses = _Guesses()
    for row_id, claims in claims_by_row.items():
        if row_id not in ids:
            sources[row_id] = Source(row_id, (claims[0].path,))
            continue
        try:
            files = _choose(claims, order, guesses)
        except InputError as error:
            places = ", ".join(str(claim.path) for claim in claims[:_SHOWN])
            refused[row_id] = Refused(row_id, places, f"row '{row_id}': {error}")
            continue
        if files:
            sources[row_id] = Source(row_id, files)
    return _matched(sources, refused, ids, folder, guesses.notes())


class _Guesses:
    """What was guessed of many rows, to be told in a line each."""

    def __init__(self) -> None:
        self._rows_by_guess: dict[str, list[str]] = {}

    def add(self, guess: str, row_id: str) -> None:
        self._rows_by_guess.setdefault(guess, []).append(row_id)

    def notes(self) -> list[str]:
        notes = []
        for guess, rows in self._rows_by_guess.items():
            shown = ", ".join(rows[:_SHOWN])
            if len(rows) > _SHOWN:
                shown += f", ... ({len(rows)} rows)"
            notes.append(f"{guess}: {shown}")
        return notes


def _choose(claims: Sequence[Claim], order: Sequence[str], guesses: _Guesses) -> tuple[Path, ...]:
    """Return the file of a row, or the pair of AECCAR files. Raises InputError: two have the same claim."""
    row_id = claims[0].row_id
    claims = _without_twins(claims, guesses)
    # a lone AECCAR file is half a density
    words = {claim.word for claim in claims}
    if not {"AECCAR0", "AECCAR2"} <= words:
        order = sorted(order, key=lambda word: word == "AECCAR")
    candidates: dict[tuple, list[Claim]] = {}
    for claim in claims:
        word = "AECCAR" if claim.word.startswith("AECCAR") else claim.word
        # AECCAR1 holds overlapping atoms, not the crystal
        if claim.word == "AECCAR1":
            continue
        if word not in order:
            word = "other"
        is_other_field = word == "other" and _OTHER_FIELD.search(claim.label) is not None
        names_density = _TOTAL_DENSITY.search(claim.label) is not None or claim.label in (
            "",
            row_id,
        )
        key = (is_other_field, claim.level, claim.rank, order.index(word), not names_density)
        candidates.setdefault(key, []).append(claim)
    if not candidates:
        return ()
    best_key = min(candidates)
    best = candidates[best_key]
    if order[best_key[3]] == "AECCAR":
        return _pair(best)
    if len(best) > 1:
        raise InputError(
            f"one file is needed, found {len(best)}: {best[0].path}, {best[1].path}; "
            "name the folder or file to take with --match, such as '{id}/static'"
        )
    _tell_guess(best[0], [claim for key in candidates for claim in candidates[key]], guesses)
    return (best[0].path,)


def _without_twins(claims: Sequence[Claim], guesses: _Guesses) -> list[Claim]:
    """Keep one of each file that lies there compressed and not."""
    by_name: dict[Path, Claim] = {}
    for claim in claims:
        name = claim.path.with_name(bare_name(claim.path.name))
        twin = by_name.get(name)
        if twin is None:
            by_name[name] = claim
            continue
        # the plain file is read fastest
        if len(claim.path.name) < len(twin.path.name):
            by_name[name] = claim
        taken = by_name[name].path.name
        guesses.add(f"of a file and its compressed copy, {taken} is taken", claim.row_id)
    return list(by_name.values())


def _pair(claims: Sequence[Claim]) -> tuple[Path, ...]:
    """Return AECCAR0 and AECCAR2, or the one of them that is there."""
    files = []
    for word in ("AECCAR0", "AECCAR2"):
        of_word = [claim.path for claim in claims if claim.word == word]
        if len(of_word) > 1:
            raise InputError(
                f"one {word} is needed, found {len(of_word)}: {of_word[0]}, {of_word[1]}"
            )
        files += of_word
    return tuple(files)


def _tell_guess(taken: Claim, claims: Sequence[Claim], guesses: _Guesses) -> None:
    """Tell where a folder above the file gave the id, and which of several folders is taken."""
    if taken.place:
        guesses.add(f"files are matched as '{taken.place}'", taken.row_id)
    others = {claim.folder for claim in claims} - {taken.folder}
    if others:
        names = ", ".join(sorted(others)[:_SHOWN])
        guesses.add(f"of several folders '{taken.folder}' is taken, not {names}", taken.row_id)


def _matched(
    sources: dict[str, Source],
    refused: dict[str, Refused],
    ids: Collection[str],
    place: Path,
    notes: Sequence[str],
) -> Matched:
    in_order = tuple(sources[row_id] for row_id in ids if row_id in sources)
    if not in_order:
        if refused:
            raise InputError(f"{place}: {next(iter(refused.values())).reason}")
        found = ", ".join(list(sources)[:_SHOWN]) or "none"
        wanted = ", ".join(list(ids)[:_SHOWN]) or "none"
        raise InputError(
            f"{place}: nothing there belongs to a row of the property table "
            f"(found {found}; rows {wanted})"
        )
    without_row = tuple(row_id for row_id in sources if row_id not in ids)
    return Matched(in_order, without_row, tuple(refused.values()), tuple(notes))
