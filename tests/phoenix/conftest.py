"""Models that the tests of this folder share, so that JAX compiles each shape once."""

from __future__ import annotations

from pathlib import Path

import pytest

from xfast.phoenix import Artifacts, load_artifacts

FIXTURE = Path(__file__).parent.parent / "data" / "phoenix_a"


@pytest.fixture(scope="session")
def fixture_a() -> Path:
    """The fixture directory that ships with the tests."""
    return FIXTURE


@pytest.fixture(scope="session")
def artifacts(fixture_a: Path) -> Artifacts:
    """Its model files."""
    return load_artifacts(fixture_a / "artifacts")
