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


def require_service(reason: str) -> None:
    """Fail where services are promised (``XFAST_REQUIRE_SERVICES=1``, as in CI), skip with the reason elsewhere."""
    if os.environ.get("XFAST_REQUIRE_SERVICES") == "1":
        pytest.fail(f"XFAST_REQUIRE_SERVICES=1, but {reason}")
    pytest.skip(reason)
