import os

import pytest
from hypothesis import HealthCheck, settings

# A machine that checks every change must not find a new example on one of them; people's machines may.
# A slow example says that the machine is busy.
BUSY = (HealthCheck.too_slow,)
settings.register_profile("here", deadline=None, suppress_health_check=BUSY)
settings.register_profile("ci", deadline=None, suppress_health_check=BUSY, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew instead of comparing")
