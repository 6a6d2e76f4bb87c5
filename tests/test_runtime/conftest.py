"""The fixtures of the inferencer with PyTorch."""

from tests.test_apis.conftest import make_network, noise, one_thread, photos  # noqa: F401
