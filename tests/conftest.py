"""What holds for every test."""

import signal

import pytest


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Prepared rows of tests stay out of the user's cache; workers inherit the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKGROUP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _interrupts_arrive():
    """A shell starts jobs in the background deaf to Ctrl-C, and what they start, too; tests of interrupts need it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
