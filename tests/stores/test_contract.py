"""Every shipped store passes the public contract, with its cache and without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xfast.stores import Store, open_store
from xfast.stores.testing import StoreContract


class TestSqlStores(StoreContract):
    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        store = open_store(url, cache_age_ms=3_600_000)
        yield store
        store.close()


class TestWithoutCache(StoreContract):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        store = open_store("sqlite://", cache_entries=0)
        yield store
        store.close()
