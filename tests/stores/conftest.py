"""A fresh database per test: SQLite in a file or in memory, PostgreSQL in a schema of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest


@pytest.fixture
def postgres_schema(postgres_url: str) -> Iterator[str]:
    """A URL whose tables are this test's own."""
    import psycopg

    schema = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        yield f"{postgres_url}?options={quote(f'-c search_path={schema}')}"
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def url(request: pytest.FixtureRequest) -> str:
    """Each kind of database in turn."""
    name = {"memory": None, "sqlite": "sqlite_url", "postgres": "postgres_schema"}[request.param]
    return request.getfixturevalue(name) if name else "sqlite://"
