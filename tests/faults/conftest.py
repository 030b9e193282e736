"""The table of promises that ``make test-faults`` prints at its end."""

from collections.abc import Callable

import pytest

_ROWS = pytest.StashKey[list[str]]()


@pytest.fixture
def promise(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Adds a row to the table: what is promised, what was done, and what was lost or done twice."""

    def add(
        what: str,
        done: str,
        *,
        lost: int = 0,
        doubled: int = 0,
        tracebacks: int = 0,
        hangs: int = 0,
    ) -> None:
        row = f"| {what} | {done} | {lost} | {doubled} | {tracebacks} | {hangs} |"
        request.config.stash.setdefault(_ROWS, []).append(row)

    return add


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash.get(_ROWS, [])
    if rows:
        terminalreporter.write_line("")
        terminalreporter.write_line("| promise | done | lost | doubled | tracebacks | hangs |")
        terminalreporter.write_line("|---|---|---|---|---|---|")
        for row in rows:
            terminalreporter.write_line(row)
