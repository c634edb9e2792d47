"""``tunedb experiment replay``: how well a database teaches about what it does not hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunedb.database import Database
from tunedb.experiments.records import layers as read_layers
from tuner.cost_model.global_model import Settings
from tuner.experiment.holdout import (
    Fold,
    HoldOut,
    HoldOutError,
    Layer,
    Score,
    by_copy,
    by_history,
    by_model,
    folds,
    lessons,
    random_summary,
    summary,
    train,
)

MODEL, COPY, RANDOM = "model", "nearest_copy", "random"


@dataclass(frozen=True)
class Question:
    """What is held out of a database, and how much of the rest may teach; 0 is all of it."""

    operator: str
    holdout: HoldOut
    seeds: int = 5
    folds: int = 4
    rows: int = 0  # random records of each layer
    layers: int = 0  # random layers


def transfer(
    database: Database, question: Question, settings: Settings, progress: Callable[[str, float], None]
) -> dict[str, Any]:
    """The figures of ``tunedb experiment replay --json``; ``progress`` is told what is done, and the share of it.

    Raises HoldOutError when the database holds too little.
    """
    progress("reading", 0.0)
    with database.read() as connection:
        known, left_out = read_layers(connection)
    if not known:
        raise HoldOutError("the database has no workload with enough timed records: import logs, or tune, first")
    scores: dict[str, dict[int, dict[str, list[Score]]]] = {}  # by fold, seed and row
    tested: dict[str, list[Layer]] = {}
    for seed in range(question.seeds):
        parts = list(folds(known, question.operator, question.holdout, question.folds, seed))
        for number, fold in enumerate(parts):
            name = fold.name if question.holdout != "layer" else "all"
            progress(f"seed {seed}, {fold.name}", (seed + number / len(parts)) / question.seeds)
            rows = _judge(fold, question, settings, seed)
            kept = scores.setdefault(name, {}).setdefault(seed, {})
            for row, found in rows.items():
                kept.setdefault(row, []).extend(found)
            if seed == 0:
                tested.setdefault(name, []).extend(fold.held_out)
    progress("done", 1.0)
    own = [layer for layer in known if layer.workload.operator == question.operator]
    return {
        "operator": question.operator,
        "holdout": question.holdout,
        "seeds": question.seeds,
        "rows": question.rows,
        "layers": question.layers,
        "objective": settings.objective,
        "known": {
            "layers": len(own),
            "configurations": sum(len(layer.seconds) for layer in own),
            "failed": sum(int(np.isinf(layer.seconds).sum()) for layer in own),
            "machines": sorted({layer.target.model for layer in own}),
            "networks": sorted({network for layer in own for network in layer.networks}),
            "left_out": left_out,
        },
        "overall": _table(list(scores.values()), [layer for part in tested.values() for layer in part]),
        "held_out": {name: _table([part], tested[name]) for name, part in scores.items() if name != "all"},
    }


def _judge(fold: Fold, question: Question, settings: Settings, seed: int) -> dict[str, list[Score]]:
    rest = fold.rest
    if question.layers:
        drawn = np.random.default_rng([seed, 4]).permutation(len(rest))[: question.layers]
        rest = tuple(rest[place] for place in sorted(drawn.tolist()))
    taught = lessons(rest, question.rows, seed)
    model = train(taught, seed, settings)
    rows: dict[str, list[Score]] = {MODEL: [by_model(model, layer) for layer in fold.held_out]}
    rows[COPY] = [score for layer in fold.held_out if (score := by_copy(taught, layer, seed)) is not None]
    if seed == 0:  # what was recorded is the same for every seed
        for layer in fold.held_out:
            for tuner, found in by_history(layer).items():
                rows.setdefault(f"history: {tuner}", []).extend(found)
    return rows


def _table(parts: Sequence[dict[int, dict[str, list[Score]]]], tested: Sequence[Layer]) -> dict[str, Any]:
    """Each row over all seeds, with the range of its means over single seeds."""
    names = dict.fromkeys(name for part in parts for rows in part.values() for name in rows)
    table: dict[str, Any] = {}
    for name in (MODEL, COPY, *sorted(set(names) - {MODEL, COPY})):
        by_seed: dict[int, list[Score]] = {}
        for part in parts:
            for seed, rows in part.items():
                by_seed.setdefault(seed, []).extend(rows.get(name, []))
        each = [summary(found) for found in by_seed.values() if found]
        if each:
            every = [score for found in by_seed.values() for score in found]
            spread = {
                figure: [min(one[figure] for one in each), max(one[figure] for one in each)]
                for figure in ("harmonic_top1", "mean_top1", "top5")
            }
            table[name] = {**summary(every), "layers": each[0]["layers"], "over_seeds": spread}
    table[RANDOM] = random_summary(tested)
    return table
