"""The recipe of the jobs."""

from __future__ import annotations

import pytest

from gapjax.selfimprove import parse_recipe
from tests.launch.jobs import RECIPE


@pytest.fixture(scope="session")
def recipe():
    return parse_recipe(RECIPE)
