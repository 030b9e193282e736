"""What holds for every test."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Prepared rows of tests stay out of the user's cache; workers inherit the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKGROUP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
