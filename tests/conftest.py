"""Fixtures that every folder of tests shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# One profile for everyone: no deadline (shared machines stall), a seed derived from the test so that CI repeats.
settings.register_profile(
    "xfast", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("xfast")

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of specs, vectors and real data beside the checkout; users do not have it."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here (vectors and data sets that are not shipped)")
    return SHARED


def service_value(name: str) -> str:
    """The value of ``name`` (such as ``XFAST_POSTGRES_URL``) from the environment or from ``.services/env``.

    `make services` writes that file; without it the test fails or skips by `require_service`.
    """
    if name in os.environ:
        return os.environ[name]
    file = ROOT / ".services" / "env"
    lines = file.read_text().splitlines() if file.exists() else []
    values = dict(line.split("=", 1) for line in lines)
    if name not in values:
        require_service(f"{name} is neither set nor in {file}: `make services` starts the services")
    return values[name]


@pytest.fixture(scope="session")
def kafka_bootstrap() -> str:
    """``host:port`` of the real broker of `make services`."""
    return service_value("XFAST_KAFKA_BOOTSTRAP")


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """URL of an empty-at-first database of `make services`; each test makes its own schema."""
    return service_value("XFAST_POSTGRES_URL")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium program."""
    return service_value("XFAST_CHROMIUM")


def require_service(reason: str) -> None:
    """Fail where services are promised (``XFAST_REQUIRE_SERVICES=1``, as in CI), skip with the reason elsewhere."""
    if os.environ.get("XFAST_REQUIRE_SERVICES") == "1":
        pytest.fail(f"XFAST_REQUIRE_SERVICES=1, but {reason}")
    pytest.skip(reason)
