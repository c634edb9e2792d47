"""The configuration of a space that is most like one of another space: how a schedule is copied to other shapes."""

from math import prod

import numpy as np

from tuner.neighbours import apart
from tuner.search.candidates import Candidates
from tuner.space import Config, Indices, Space

NEIGHBOURS = 2**17  # configurations closest to the wanted one that are looked at first
ELSEWHERE = 50_000  # random ones that are looked at when none of those is legal


def nearest(space: Space, pool: Indices, config: Config) -> int:
    """The member of ``pool`` that is most like ``config``; knobs that only one of the two has do not count."""
    distance = np.zeros(len(pool))
    for knob, digits in zip(space.knobs, space.digits(pool).T, strict=True):
        if knob.name in config:
            distance += np.array([apart(value, config[knob.name]) for value in knob.values])[digits]
    return int(pool[int(np.argmin(distance))])


def nearest_legal(candidates: Candidates, config: Config) -> int | None:
    """The legal configuration most like ``config``, which may lack knobs of this space; None when none was found."""
    space = candidates.space
    close = _neighbourhood(space, config)
    close = close[candidates.legal(close)]
    pool = close if len(close) else candidates.random(np.random.default_rng(0), ELSEWHERE)
    return nearest(space, pool, config) if len(pool) else None


def config_distance(first: Config, second: Config) -> float:
    """How far apart two configurations are, over the knobs that both have."""
    return sum(apart(value, second[name]) for name, value in first.items() if name in second)


def _neighbourhood(space: Space, config: Config) -> Indices:
    """All combinations of the values closest to the wanted ones; as many values of each knob as there is room for."""
    wanted = {**{knob.name: knob.values[0] for knob in space.knobs}, **config}
    costs = [[apart(value, wanted[knob.name]) for value in knob.values] for knob in space.knobs]
    widths = [1] * len(costs)
    for _, knob in sorted((cost, knob) for knob, each in enumerate(costs) for cost in sorted(each)[1:]):
        widths[knob] += 1
        if prod(widths) > NEIGHBOURS:
            widths[knob] -= 1
            break
    closest = [np.argsort(each, kind="stable")[:width] for each, width in zip(costs, widths, strict=True)]
    return space.indices(np.stack([each.ravel() for each in np.meshgrid(*closest, indexing="ij")], axis=1))
