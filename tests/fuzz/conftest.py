"""Profiles of hypothesis, chosen by the variable HYPOTHESIS_PROFILE.

``default`` draws the same few inputs on every run. ``thorough`` draws
thousands of new ones and keeps what fails in .hypothesis; ``make fuzz`` runs
it.
"""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

_COMMON = dict(deadline=None, suppress_health_check=list(HealthCheck))

settings.register_profile('default', max_examples=50, derandomize=True, database=None, **_COMMON)
settings.register_profile('thorough', max_examples=4000, print_blob=True, **_COMMON)
settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'default'))


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    """For so small inputs two threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
