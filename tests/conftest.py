"""Settings shared by all tests."""

from __future__ import annotations

import os

import pytest
import torch

from zipsplat.float32_products import EXACT, SWITCH

# Numbers of tests do not depend on what happens to be faster here; subprocesses take it over.
os.environ[SWITCH] = EXACT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device, and none is visible to PyTorch")
    for item in items:
        if "cuda" in item.keywords:
            item.add_marker(skip)
