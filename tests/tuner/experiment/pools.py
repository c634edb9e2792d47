"""Trials made up for tests: real spaces and schedules of small matrix products, and times that follow a formula."""

from datetime import UTC, datetime

import numpy as np

from tunedb.formats.native import Record, encode
from tuner.experiment.pool import Pool
from tuner.target import Target
from tuner.templates import template_for
from tuner.trial import Environment, Status, Trial
from tuner.workload import Workload, parse

TARGET = Target("cpu", "x86_64-unknown-linux-gnu", "znver5", ("avx2",), "made up", 256, 16, 32768, 1 << 20, 0, 2, 1)
ENVIRONMENT = Environment((("cpu", "made up"), ("llvm", "20"), ("os", "none")))


def trials(key: str, count: int = 60, seed: int = 0, target: Target = TARGET) -> list[Trial]:
    """The larger the body of a schedule is, up to a point, the faster it is; some fail."""
    workload = parse(key)
    template = template_for(workload, target)
    space = template.space(workload, target)
    drawn = space.sample(np.random.default_rng(seed), 40 * count)
    drawn = drawn[~template.illegal(workload, target, space.columns(drawn))][:count]
    features = template.features(workload, target, space.columns(drawn))
    slowness = np.exp(0.3 * np.abs(features[:, :4] - features[:, :4].mean(axis=0)).sum(axis=1))
    return [
        trial(workload, target, template.key, dict(space.config(index)), 1e-4 * factor, number)
        for number, (index, factor) in enumerate(zip(drawn.tolist(), slowness.tolist(), strict=True))
    ]


def trial(
    workload: Workload, target: Target, template: str, config: dict[str, int | str], seconds: float, number: int
) -> Trial:
    """Every twentieth one fails."""
    failed = number % 20 == 19
    return Trial(
        workload=workload,
        target=target,
        environment=ENVIRONMENT,
        template=template,
        config=config,
        schedule=template_for(workload, target).schedule(workload, target, config),
        status=Status.TIMEOUT if failed else Status.CORRECT,
        times=() if failed else (seconds, 1.1 * seconds, 0.9 * seconds),
        error=None if failed else 1e-7,
        compile_seconds=0.02,
        run_seconds=0.03,
        sequence=number,
        created=datetime(2026, 1, 31, 12, 0, number % 60, tzinfo=UTC),
    )


def exported(trial: Trial) -> str:
    """The line of a trial in a log, from a session of its own workload."""
    session = {"tuner": "random", "workload": trial.workload.key}
    return encode(Record(trial, (trial.times,) if trial.times else (), session, trial.created))


def pool(key: str, count: int = 60, seed: int = 0) -> Pool:
    return Pool.of(trials(key, count, seed))
