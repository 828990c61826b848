"""Every test has a cache of its own."""

import pytest


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPLATFACTORY_CACHE", str(tmp_path / "cache"))
