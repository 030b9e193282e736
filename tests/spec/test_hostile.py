"""Studies that somebody wrote to hurt, or with a slip of the pen: refused in one line, soon, without filling memory."""

import resource
import time
from pathlib import Path

import pytest

from taskgroup.errors import ConfigError
from taskgroup.spec.config import load_study

STUDY = """
name: small
dataset: crystals
targets: [bulk_modulus, volume]
space: quickstart
search: {n_trials: 3}
"""
DIGITS = "9" * 5000
BOMB = "\n".join(
    [f"a: &a [{', '.join('x' * 9)}]"]
    + [
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]"
        for before, name in zip("abcdefghi", "bcdefghij", strict=True)
    ]
)

OVERRIDES = {
    "workers": ("executor.workers=1000000", "executor.workers"),
    "threads": ("executor.threads=1000000", "executor.threads"),
    "members": ("refit.members=1000000000", "refit.members"),
    "members in short": ("refit.members=1e9", "refit.members"),
    "finalists": ("refit.top=1000000000", "refit.top"),
    "trials": ("search.n_trials=1000000000000", "search.n_trials"),
    "start": ("search.startup_trials=1000000000000", "search.startup_trials"),
    "seed": (f"search.seed={2**64}", "search.seed"),
    "negative seed of the split": ("split.seed=-1", "split.seed"),
    "seed of the split": (f"split.seed={2**64}", "split.seed"),
    "digits": (f"search.seed={DIGITS}", "--set search.seed"),
    "fewer digits": (f"search.seed={DIGITS[:4200]}", "search.seed"),
    "binary digits": ("search.seed=0b" + "1" * 4900, "search.seed"),
    "brackets": ("targets=" + "[" * 5000, "--set targets: more than 50 levels"),
    "long value": ("search.sampler=" + "x" * 5000, "search.sampler"),
    "longer value": ("search.sampler=" + "x" * 50_000, "at most 5,000"),
    "long key": (f"search.{'x' * 5000}=1", "unknown key"),
    "control characters": ('search.sampler="\\e[31m\\a"', "search.sampler"),
    "no number": ("executor.time_limit=.nan", "executor.time_limit"),
    "date": ("name=9999-99-99", "name"),
}
FILES = {
    "brackets": (STUDY + "x: " + "[" * 5000, "more than 50 levels"),
    "fewer brackets": (STUDY + "x: " + "[" * 400, "line 7: more than 50 levels"),
    "closed brackets": (STUDY + f"x: {'[' * 5000}{']' * 5000}", "more than 50 levels"),
    "braces": (STUDY + "x: " + "{a: " * 5000, "more than 50 levels"),
    "indents": (STUDY + "\n".join(f"{' ' * n}k:" for n in range(200)), "more than 50 levels"),
    "aliases": (f"{BOMB}\n{STUDY}", "line 5: more than 20,000 values, aliases written out"),
    "an alias of itself": (STUDY + "x: &x [*x]", "inside of what it stands for"),
    "digits": (STUDY.replace("3}", f"{DIGITS}}}"), "a value cannot be read"),
    "base sixty": (STUDY.replace("3}", "1" + ":1" * 2400 + "}"), "search.n_trials"),
    "control characters": (STUDY.replace("small", '"\\e[31m\\0"'), "name"),
    "zero byte": (STUDY + "\0", "not valid YAML"),
    "long name": (STUDY.replace("small", "s" * 4000), "name"),
    "large": (STUDY + "#" * 2_000_000, "at most 1,000,000 characters"),
    "binary": (b"\xff\xfe\x00" * 100, "not valid YAML"),
    "list as key": (STUDY + "? [[a], [b]]\n: 1", ""),
}


def refused(*arguments: object) -> str:
    """Return the message of a refusal that was cheap."""
    start = time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError) as caught:
        load_study(*arguments)
    grown_kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert time.process_time() - start < 2
    assert grown_kilobytes < 500_000
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 6000
    assert "\x1b" not in message
    return message


@pytest.mark.parametrize("case", OVERRIDES)
def test_overrides(case: str, tmp_path: Path):
    override, expected = OVERRIDES[case]
    file = tmp_path / "small.yaml"
    file.write_text(STUDY)
    assert expected in refused(file, (override,))


@pytest.mark.parametrize("case", FILES)
def test_files(case: str, tmp_path: Path):
    content, expected = FILES[case]
    file = tmp_path / "small.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert expected in refused(file)
