"""``tunedb experiment replay``: what a database teaches about what it does not hold, imported records included."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.tuner.experiment.pools import exported, trials
from tunedb.cli import main


def line(layer: int, tile: tuple[int, int, int, int], seconds: float, when: int) -> str:
    """A record of AutoTVM's conv2d_NCHWc.x86; the one that works fastest of a layer has the largest tiles."""
    ic, oc, ow, unroll = tile
    channels = 16 * (1 + layer)
    arguments = [
        ["TENSOR", [1, channels, 28, 28], "float32"],
        ["TENSOR", [64, channels, 3, 3], "float32"],
        *([1, 1], [1, 1, 1, 1], [1, 1], "NCHW", "NCHW", "float32"),
    ]
    entity = [["tile_ic", "sp", [-1, ic]], ["tile_oc", "sp", [-1, oc]], ["tile_ow", "sp", [-1, ow]]]
    record = {
        "input": ["llvm -keys=cpu", "conv2d_NCHWc.x86", arguments, {}],
        "config": {"index": when, "code_hash": None, "entity": [*entity, ["unroll_kw", "ot", bool(unroll)]]},
        "result": [[seconds, 1.01 * seconds], 0, 1.5, 1600000000.0 + when],
        "version": 0.2,
        "tvm_version": "0.10.0",
    }
    return json.dumps(record)


def log(layers: range, backwards: bool = False) -> str:
    lines = []
    for layer in layers:
        tiles = [(ic, oc, ow, u) for ic in (1, 4, 16) for oc in (4, 8, 16) for ow in (1, 2, 4, 7) for u in (0, 1)]
        for when, tile in enumerate(reversed(tiles) if backwards else tiles):
            slowness = 8 / tile[1] + 2 / tile[2] + 0.1 * tile[0] + 0.3 * tile[3]
            lines.append(line(layer, tile, 1e-4 * (1 + layer) * slowness, when))
    return "\n".join(lines) + "\n"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two networks and two tuners on one machine, one layer of them on a second, and own trials of another operator."""
    folder: Path = tmp_path_factory.mktemp("transfer")
    url = f"sqlite:///{folder / 'all.sqlite'}"
    imports = [
        ("ga", "one", "amd", log(range(4))),
        ("xgb", "one", "amd", log(range(4), backwards=True)),
        ("ga", "two", "amd", log(range(3, 6))),
        ("ga", "one", "intel", log(range(2))),
    ]
    for number, (tuner, network, machine, text) in enumerate(imports):
        file = folder / f"{number}.log"
        file.write_text(text)
        labels = ("--label", f"network={network}", "--label", f"tuner={tuner}")
        assert call("import", str(file), "--machine", machine, *labels, "--db", url).exit_code == 0
    own = folder / "own.jsonl"
    own.write_text(
        "".join(exported(trial) + "\n" for m in (64, 96, 128) for trial in trials(f"matmul(m={m},k=64,n=64)"))
    )
    assert call("import", str(own), "--db", url).exit_code == 0
    return url


@cache
def replayed(url: str, *more: str) -> dict[str, Any]:
    done = call("experiment", "replay", "--db", url, "--seeds", "2", "--json", *more)
    assert done.exit_code == 0, done.output
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def test_held_out_layers_are_scored_by_every_row(url: str) -> None:
    found = replayed(url)
    assert found["known"]["machines"] == ["amd", "intel"]
    assert found["known"]["networks"] == ["one", "two"]
    assert found["known"]["layers"] == 8
    assert set(found["overall"]) == {
        "model",
        "nearest_copy",
        "history: ga",
        "history: xgb",
        "random",
    }
    model, random = found["overall"]["model"], found["overall"]["random"]
    assert model["pairwise"] > 0.9
    assert model["mean_top1"] > random["mean_top1"]
    assert model["trials_to_95"]["median"] <= random["trials_to_95"]["median"]
    assert set(model["trials_to_99"]) == {"median", "p75", "p90"}
    # The same kernel is the best of all layers here, so its copy is the best.
    assert found["overall"]["nearest_copy"]["mean_top1"] == pytest.approx(1)


def test_histories_are_in_the_order_of_their_times(url: str) -> None:
    table = replayed(url)["overall"]
    assert table["history: ga"]["mean_top1"] < table["history: xgb"]["mean_top1"]  # from either end


@pytest.mark.parametrize(("holdout", "names"), [("network", {"one", "two"}), ("target", {"amd", "intel"})])
def test_networks_and_machines_are_held_out_in_turn(url: str, holdout: str, names: set[str]) -> None:
    assert set(replayed(url, "--holdout", holdout)["held_out"]) == names


def test_own_trials_can_be_held_out_too(url: str) -> None:
    found = replayed(url, "--operator", "matmul", "--folds", "3")
    assert found["known"]["layers"] == 3
    assert "history: random" in found["overall"]


def test_less_can_be_learned_from(url: str) -> None:
    few = replayed(url, "--rows", "10", "--layers", "2")
    assert (few["rows"], few["layers"]) == (10, 2)


def test_the_table_is_for_people(url: str) -> None:
    done = call("experiment", "replay", "--db", url, "--seeds", "1")
    assert "nearest_copy" in done.stdout
    assert "conv2d: 8 layers" in done.stdout


def test_too_little_data_is_one_line(url: str, tmp_path: Path) -> None:
    empty = call("experiment", "replay", "--db", f"sqlite:///{tmp_path / 'empty.sqlite'}")
    assert (empty.exit_code, len(empty.stderr.strip().splitlines())) == (1, 1)
    assert "import logs, or tune, first" in empty.stderr
    other = call("experiment", "replay", "--db", url, "--operator", "batch_matmul")
    assert "no layer of batch_matmul" in other.stderr
