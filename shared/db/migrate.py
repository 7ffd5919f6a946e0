"""Brings the database to the newest schema: ``python -m shared.db.migrate [upgrade|check|downgrade REVISION]``.

Safe to run from several places at once: an advisory lock lets one through, and the others then find nothing to do.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, create_engine

from shared.errors import ConfigurationError
from shared.settings import database_url

# Alembic is imported where it is used: it takes 0.4 s, and every program of the product imports this module.
if TYPE_CHECKING:
    from alembic.config import Config

_HERE = Path(__file__).parent


def config(url: str) -> Config:
    """Alembic's configuration for the database at ``url``."""
    from alembic.config import Config

    conf = Config()
    conf.set_main_option("script_location", str(_HERE / "migrations"))
    conf.attributes["url"] = url
    return conf


def upgrade(url: str, revision: str = "head") -> None:
    """Apply what is missing."""
    from alembic import command

    command.upgrade(config(url), revision)


def downgrade(url: str, revision: str = "base") -> None:
    """Take back down to ``revision``."""
    from alembic import command

    command.downgrade(config(url), revision)


def check(url: str) -> None:
    """Raise where the tables in code and the migrations differ."""
    from alembic import command

    command.check(config(url))


def head() -> str:
    """The newest revision that this code knows."""
    from alembic.script import ScriptDirectory

    revision = ScriptDirectory.from_config(config("")).get_current_head()
    if revision is None:
        msg = "The migrations are missing from the installation."
        raise ConfigurationError(msg)
    return revision


def current(engine: Engine) -> str | None:
    """The revision the database is at; None where it was never migrated."""
    from alembic.runtime.migration import MigrationContext

    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def is_current(url: str) -> bool:
    """Whether nothing is left to apply."""
    engine = create_engine(url)
    try:
        return current(engine) == head()
    finally:
        engine.dispose()


def main(arguments: list[str]) -> int:
    """Command line."""
    url = database_url()
    match arguments:
        case [] | ["upgrade"]:
            upgrade(url)
        case ["check"]:
            check(url)
        case ["downgrade", revision]:
            downgrade(url, revision)
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
