"""URLs: built for odd paths, resolved from the environment, shown without passwords."""

from pathlib import Path

import pytest
import sqlalchemy
from hypothesis import example, given
from hypothesis import strategies as st

from taskgroup.errors import ConfigError
from taskgroup.urls import database_url, redact, resolve, sqlite_url

SECRETS = ("secret", "s3cr3t!", "p%40ss", "a/b", "with@at", "a:b", "#?&")

# Anything a file may be called: no separator, no zero byte, no lone surrogate.
NAMES = st.text(
    st.characters(blacklist_characters="/\x00", blacklist_categories=("Cs",)),
    min_size=1,
    max_size=20,
).filter(lambda name: name not in (".", ".."))


@given(NAMES, NAMES)
@example("what?", "a%20b")
@example("#1", "{SCHEMA_VERSION}")
@example("a b", "100%")
def test_the_url_of_a_path_leads_back_to_the_path(folder: str, file: str):
    path = f"/{folder}/{file}.db"
    assert sqlalchemy.make_url(sqlite_url(path)).database == path
    assert database_url("storage", sqlite_url(path)) == sqlite_url(path)


@pytest.mark.parametrize("name", ["what?", "a%20b", "#1", "a b", "{x}", "é", "a&b=c", "a'b"])
def test_a_database_lies_where_its_path_says(tmp_path: Path, name: str):
    folder = tmp_path / name
    folder.mkdir()
    engine = sqlalchemy.create_engine(sqlite_url(folder / "x.db"))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table t (a integer)"))
    engine.dispose()
    assert [path.name for path in folder.iterdir()] == ["x.db"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_password_is_not_shown(secret: str):
    url = f"postgresql+psycopg://user:{secret}@host:5432/db"
    assert redact(url) == "postgresql+psycopg://user:***@host:5432/db"
    assert redact(f"cannot use '{url}': refused") == f"cannot use '{redact(url)}': refused"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user@host/db",
        "sqlite:////tmp/a:b@c.db",
        "journal:/tmp/journal.log",
        "http://localhost:5000/path",
        "no URL: a@b",
    ],
)
def test_what_holds_no_password_stays_as_it_is(text: str):
    assert redact(text) == text


def test_a_password_among_the_options_of_a_url_is_not_shown():
    text = redact("postgresql://host/db?user=me&password=secret&sslmode=require")
    assert text == "postgresql://host/db?user=me&password=***&sslmode=require"


def test_a_url_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_STORAGE", "postgresql://user:secret@host/db")
    assert resolve("storage", "env:MY_STORAGE") == "postgresql://user:secret@host/db"
    assert resolve("storage", "sqlite:////tmp/x.db") == "sqlite:////tmp/x.db"
    monkeypatch.delenv("MY_STORAGE")
    with pytest.raises(ConfigError, match=r"storage: .*variable MY_STORAGE, which is not set"):
        resolve("storage", "env:MY_STORAGE")


def test_a_redacted_password_is_left_to_the_driver():
    assert resolve("storage", "postgresql://user:***@host/db") == "postgresql://user@host/db"


def test_what_is_no_database_url_is_refused_without_showing_a_password():
    with pytest.raises(ConfigError, match="storage: a database URL is like") as refused:
        database_url("storage", "postgresql://user:secret@host:port/db")
    assert "secret" not in str(refused.value)
    with pytest.raises(ConfigError, match="found 'nonsense'"):
        database_url("storage", "nonsense")
