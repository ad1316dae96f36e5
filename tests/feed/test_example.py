"""The FastAPI example runs as it stands in the README, over ASGI; importing xfast stays cheap."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.feed.conftest import Town
from xfast.feed import Feed

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "examples" / "fastapi_feed.py"


def test_readme_shows_the_example_in_20_lines() -> None:
    text = EXAMPLE.read_text()
    assert f"```python\n{text}```" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert sum(bool(line.strip()) for line in text.splitlines()) <= 20


async def test_the_example_serves(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    async def here(*args: Any) -> Feed:
        return town.feed

    monkeypatch.setattr(Feed, "demo_async", here)
    posts = [str(town.post(1_000 + index, f"post {index}")) for index in range(50)]
    spec = importlib.util.spec_from_file_location("fastapi_feed", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    app = module.app
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://feed") as client,
    ):
        first = (await client.get("/users/7/feed", params={"limit": 5})).json()
        assert [item["kind"] for item in first["items"]] == ["post"] * 5
        assert {item["post_id"] for item in first["items"]} <= set(posts)
        liked = first["items"][0]["post_id"]
        reply = await client.post(f"/users/7/likes/{liked}")
        assert (reply.status_code, reply.json()) == (200, {"engagement": 1})
        assert len((await client.get("/users/7/feed")).json()["items"]) == 35
        assert (await client.get("/users/nobody/feed")).status_code == 422
        assert town.feed.network.store.counts([int(liked)]).favorites.tolist() == [1]


def test_importing_xfast_imports_nothing_heavy() -> None:
    code = "import sys, numpy; before = set(sys.modules); import xfast; print(*sorted(set(sys.modules) - before))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    for name in (
        "jax",
        "jaxlib",
        "grpc",
        "pyarrow",
        "sqlalchemy",
        "rich",
        "optax",
        "google",
        "sqlite3",
        "asyncio",
        "email",
    ):
        assert name not in {module.split(".")[0] for module in out}
    assert {module for module in out if module.startswith("xfast")} == {"xfast", "xfast.errors"}
