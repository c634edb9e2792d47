from collections.abc import Iterator

import pytest

from tuner.measure import Limits, Measurer
from tuner.target import Target


@pytest.fixture(scope="module")
def measurer() -> Iterator[Measurer]:
    limits = Limits(compile=20.0, run=1.0, memory=256 << 20)
    with Measurer(Target.host(threads=1), limits=limits) as measurer:
        yield measurer
