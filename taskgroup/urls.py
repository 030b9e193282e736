"""URLs of databases and servers: built, never formatted; shown and stored without their passwords.

A password belongs into an environment variable, named as ``env:NAME`` where a URL is asked for, or into the file the
database driver reads by itself (``~/.pgpass`` of PostgreSQL).
"""

import os
import re
from pathlib import Path

from taskgroup.errors import ConfigError

REDACTED = "***"
_ENVIRONMENT = "env:"

# The password ends at the last "@" before a space: one with an unescaped "@" or "/" in it must not shine through.
_USER_AND_PASSWORD = re.compile(r"([A-Za-z][\w+.-]*://[^\s:/@]*:)\S*@")
# Some drivers also take a password from the query of the URL.
_SECRET_OPTION = re.compile(
    r"([?&;](?:password|passwd|pwd|token|secret|sslpassword)=)[^\s&;]*", re.I
)


def redact(text: str) -> str:
    """Return the text with the password of every URL in it replaced by ``***``.

    >>> redact("cannot reach postgresql://user:secret@host/db?sslmode=require")
    'cannot reach postgresql://user:***@host/db?sslmode=require'
    """
    without_passwords = _USER_AND_PASSWORD.sub(rf"\g<1>{REDACTED}@", text)
    return _SECRET_OPTION.sub(rf"\g<1>{REDACTED}", without_passwords)


def resolve(setting: str, value: str) -> str:
    """Return the URL that the value of a setting stands for: ``env:NAME`` is read from the environment.

    A URL whose password was redacted in a run folder is returned without one: database drivers then look for it where
    they always do (``PGPASSWORD``, ``~/.pgpass``). Raises ConfigError: the variable is not set.
    """
    if not value.startswith(_ENVIRONMENT):
        return value.replace(f":{REDACTED}@", "@")
    name = value.removeprefix(_ENVIRONMENT)
    if not os.environ.get(name):
        raise ConfigError(
            f"{setting}: '{value}' takes the URL from the environment variable {name}, which is not set"
        )
    return os.environ[name]


def sqlite_url(path: str | Path) -> str:
    """Return the URL of an SQLite file; a path may hold any character, such as ``?``, ``#``, ``%20`` and spaces.

    >>> sqlite_url("/runs/what?/optuna.db")
    'sqlite:////runs/what%3F/optuna.db'
    """
    import sqlalchemy  # here, since showing a run needs no database

    url = sqlalchemy.URL.create("sqlite", database=str(path))
    return url.render_as_string(hide_password=False)


def database_url(setting: str, url: str) -> str:
    """Return a database URL with its special characters escaped. Raises ConfigError: it is none."""
    import sqlalchemy

    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=False)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise ConfigError(
            f"{setting}: a database URL is like postgresql://USER@HOST/DATABASE, found '{redact(url)}'"
        ) from None
