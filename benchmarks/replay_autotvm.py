"""What the global model knows of layers it has not seen, by AutoTVM's logs: ``benchmarks/replay_autotvm.py FOLDER``.

FOLDER holds ``NETWORK.TUNER.log.gz`` files of the templates conv2d_NCHWc.x86 and depthwise_conv2d_NCHWc.x86, lines of
JSON. Each configuration becomes a schedule with the same loops, so that the features of this project apply to it. The
candidates of a layer are all its measured configurations, its truth the median of their repeats. Held out are a quarter
of the layers at a time, and a whole network at a time; beside the model stands the copy of the best schedules of the
nearest layers. Options: ``--rows N`` random records for each training layer, ``--folds N``, ``--objective NAME``.
"""

import argparse
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.cost_model.global_model import GlobalModel, Settings
from tuner.cost_model.metrics import harmonic_mean, pairwise_accuracy, quality, trials_to
from tuner.cost_model.training import TrainingSet
from tuner.features.sketches import schedule_features
from tuner.schedule import CacheWrite, ComputeAt, Pack, Parallel, Reorder, Schedule, Split, Step, Unroll, Vectorize
from tuner.target import Target
from tuner.transfer import distance
from tuner.workload import Workload, make

# The processor of the logs; its kernels were compiled for plain x86-64, whose vectors have four lanes.
TARGET = Target("cpu", "x86_64", "x86-64", ("sse2",), "AMD 3700X", 128, 16, 32 << 10, 512 << 10, 16 << 20, 8, 8)

Config = dict[str, int]


@dataclass(frozen=True)
class Layer:
    workload: Workload
    networks: frozenset[str]
    configs: tuple[Config, ...]
    features: npt.NDArray[np.float32]
    seconds: npt.NDArray[np.float64]


def read(folder: Path) -> list[Layer]:
    """All layers of the logs in ``folder``; failed measurements are left out."""
    times: dict[Workload, dict[tuple[tuple[str, int], ...], list[float]]] = {}
    networks: dict[Workload, set[str]] = {}
    for path in sorted(folder.glob("*.log.gz")):
        with gzip.open(path, "rt") as lines:
            for line in lines:
                record = json.loads(line)
                costs, failed = record["result"][:2]
                if failed:
                    continue
                workload = _workload(record["input"][1], record["input"][2])
                knobs = record["config"]["entity"]
                config = tuple((name, int(v if kind == "ot" else v[-1])) for name, kind, v in knobs)
                times.setdefault(workload, {}).setdefault(config, []).extend(costs)
                networks.setdefault(workload, set()).add(path.name.split(".")[0])
    layers = []
    for workload, measured in times.items():
        configs = tuple(map(dict, measured))
        features = schedule_features(workload, TARGET, [schedule(workload, config) for config in configs])
        seconds = np.array([np.median(costs) for costs in measured.values()])
        layers.append(Layer(workload, frozenset(networks[workload]), configs, features, seconds))
    return layers


def _workload(template: str, arguments: list[Any]) -> Workload:
    (_, data, _), (_, weight, _), stride, pad, dilation = arguments[:5]
    window = {"k": tuple(weight[2:]), "stride": tuple(stride), "pad": tuple(pad), "dilation": tuple(dilation)}
    sizes = {"n": data[0], "h": data[2], "w": data[3]}
    if template.startswith("depthwise"):
        return make("depthwise_conv2d", c=data[1], **sizes, **window)
    return make("conv2d", ci=data[1], co=weight[0], **sizes, **window)


def schedule(workload: Workload, config: Config) -> Schedule:
    """The loops that AutoTVM's template makes of a configuration (topi/x86/conv2d_avx_common.py, conv2d_avx_1x1.py)."""
    stage, padded = workload.operator, any(workload.sizes("pad"))
    if stage == "depthwise_conv2d":
        unrolled = ("ow.1", "kw") if config.get("unroll_kw") else ("ow.1",)
        steps: list[Step] = [
            Split(stage, "c", (config["tile_oc"],)),
            Split(stage, "ow", (config["tile_ow"],)),
            Reorder(stage, ("n", "c.0", "oh", "ow.0", "kh", "kw", "ow.1", "c.1")),
            *(CacheWrite(stage, "ow.0"), Parallel(stage, ("n", "c.0", "oh"))),
            *(Unroll(stage, unrolled), Vectorize(stage, "c.1")),
        ]
        return Schedule((*steps, ComputeAt("pad", "oh")) if padded else tuple(steps))
    steps = [Split(stage, axis, (config[f"tile_{name}"],)) for axis, name in (("co", "oc"), ("ow", "ow"), ("ci", "ic"))]
    if "tile_oh" in config:
        steps.append(Split(stage, "oh", (config["tile_oh"],)))
        order, tasks, unrolled = (
            "n co.0 oh.0 ow.0 ci.0 ci.1 kh kw oh.1 ow.1 co.1",
            ("n", "co.0", "oh.0"),
            ("oh.1", "ow.1"),
        )
    else:
        inner = "ci.1 kw" if config["unroll_kw"] else "kw ci.1"
        order, tasks = f"n co.0 oh ow.0 ci.0 kh {inner} ow.1 co.1", ("n", "co.0", "oh")
        unrolled = ("ow.1", "kw") if config["unroll_kw"] else ("ow.1",)
    loops = tuple(order.split())
    weight = tuple(loop for loop in loops if loop.split(".")[0] in ("co", "ci", "kh", "kw"))
    steps += [Reorder(stage, loops), CacheWrite(stage, "ow.0"), Parallel(stage, tasks)]
    steps += [Unroll(stage, unrolled), Vectorize(stage, "co.1"), Pack(stage, "weight", weight)]
    return Schedule((*steps, ComputeAt("pad", ""), Parallel("pad", ("pn", "pc", "py"))) if padded else tuple(steps))


def train(layers: Sequence[Layer], rows: int, settings: Settings) -> GlobalModel:
    rng = np.random.default_rng(0)
    drawn = [rng.permutation(len(layer.seconds))[: rows or None] for layer in layers]
    data = TrainingSet(
        np.concatenate([layer.features[some] for layer, some in zip(layers, drawn, strict=True)]),
        np.concatenate([layer.seconds[some] for layer, some in zip(layers, drawn, strict=True)]),
        np.concatenate([np.full(len(some), number) for number, some in enumerate(drawn)]),
        tuple(layer.workload.key for layer in layers),
        (TARGET.name,) * len(layers),
    )
    return GlobalModel.fit(data, settings)


def copies(layers: Sequence[Layer], new: Layer) -> npt.NDArray[np.float64]:
    """Scores that try the best schedules of the nearest layers in turn, each at the most similar measured values."""
    scores = np.zeros(len(new.seconds))
    same = [layer for layer in layers if layer.workload.operator == new.workload.operator]
    same = [layer for layer in same if set(layer.configs[0]) == set(new.configs[0])]
    knobs = np.log2(1 + np.array([list(config.values()) for config in new.configs], dtype=float))
    for place, layer in enumerate(sorted(same, key=lambda layer: distance(layer.workload, new.workload))):
        best = np.log2(1 + np.array(list(layer.configs[int(np.argmin(layer.seconds))].values()), dtype=float))
        nearest = int(np.argmin(np.abs(knobs - best).sum(axis=1)))
        scores[nearest] = max(scores[nearest], 1 / (1 + place))
    return scores


def report(title: str, judged: Sequence[tuple[npt.NDArray[np.float64], Layer]]) -> None:
    top1, top5 = (np.array([quality(scores, layer.seconds, k) for scores, layer in judged]) for k in (1, 5))
    pairs = np.mean([pairwise_accuracy(scores, -layer.seconds) for scores, layer in judged])
    reach = {share: [trials_to(scores, layer.seconds, share) for scores, layer in judged] for share in (0.95, 0.99)}
    trials = "; ".join(
        f"{share:.0%}: " + "/".join(f"{np.quantile(counts, q):.1f}" for q in (0.5, 0.75, 0.9))
        for share, counts in reach.items()
    )
    print(
        f"{title:<28} {len(judged):>3} layers: pairwise {pairs:.3f}, top-1 mean {top1.mean():.3f} "
        f"harmonic {harmonic_mean(top1):.3f}, top-5 {top5.mean():.3f}; trials (median/p75/p90) to {trials}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--objective", choices=("regression", "rank", "top-heavy"), default="regression")
    options = parser.parse_args()
    settings = Settings(objective=options.objective)
    layers = read(options.folder)
    print(f"{len(layers)} layers, {sum(len(layer.seconds) for layer in layers)} configurations")
    for operator in ("conv2d", "depthwise_conv2d"):
        own = [layer for layer in layers if layer.workload.operator == operator]
        order = np.random.default_rng(0).permutation(len(own)).tolist()
        folds = [[own[place] for place in order[fold :: options.folds]] for fold in range(options.folds)]
        _judge(f"{operator}, layers held out", layers, folds, options.rows, settings)
    networks = sorted({network for layer in layers for network in layer.networks})
    conv2d = [layer for layer in layers if layer.workload.operator == "conv2d"]
    held = [[layer for layer in conv2d if network in layer.networks] for network in networks]
    for network, test in zip(networks, held, strict=True):
        _judge(f"network {network}", layers, [test], options.rows, settings)
    _judge("all networks", layers, held, options.rows, settings)


def _judge(title: str, layers: list[Layer], folds: list[list[Layer]], rows: int, settings: Settings) -> None:
    model, copied = [], []
    for test in folds:
        out = {layer.workload for layer in test}
        rest = [layer for layer in layers if layer.workload not in out]
        trained = train(rest, rows, settings)
        model += [(trained.predict(layer.features), layer) for layer in test]
        copied += [(copies(rest, layer), layer) for layer in test]
    report(title, model)
    report("  nearest copy", copied)


if __name__ == "__main__":
    main()
