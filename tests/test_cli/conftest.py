"""The smallest network, and images."""

from tests.test_apis.conftest import make_network, network, photos  # noqa: F401
