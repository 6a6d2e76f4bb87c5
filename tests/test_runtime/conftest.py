"""The fixtures of the inferencer with PyTorch."""

from tests.test_apis.conftest import (  # noqa: F401
    inferencer,
    make_inferencer,
    make_network,
    network,
    noise,
    one_thread,
    photos,
)
