"""Networks over trees: equal subtrees are computed once, both losses learn an order, training repeats exactly."""

import sys
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import pytest

from tests.tuner.test_features import matmul
from tests.tuner.test_transfer import trials
from tuner.cost_model.global_model import FEATURES, GlobalModel, Kind, Settings
from tuner.cost_model.metrics import pairwise_accuracy
from tuner.cost_model.training import TrainingSet
from tuner.cost_model.tree_gru import OBJECTIVES, SLOTS, NeuralObjective, TorchMissingError, TreeGRU
from tuner.cost_model.tree_gru import Settings as NetworkSettings
from tuner.features.tree import LEVEL, NUMBERS, TOKEN, context_tree_features, tree_features
from tuner.workload import matmul as matmul_workload

RNG = np.random.default_rng(0)
Rows = npt.NDArray[np.float32]

needs_torch = pytest.mark.skipif(
    find_spec("torch") is None or find_spec("safetensors") is None, reason="PyTorch or safetensors is not installed"
)


def trees(count: int, slots: int = 0) -> tuple[Rows, npt.NDArray[np.float64]]:
    """Candidates whose times depend on the sizes of the loops."""
    rng = np.random.default_rng(count)
    m, n, k = (2 ** rng.integers(0, 7, count) for _ in range(3))
    nest = matmul(m, n, k)
    labels = -np.abs(np.log2(m) - 3) - 0.5 * np.abs(np.log2(n) - 5) - 0.2 * np.log2(k)
    return context_tree_features(nest) if slots else tree_features(nest), labels


def settings(objective: NeuralObjective = "rank", slots: int = 0, steps: int = 150) -> NetworkSettings:
    return NetworkSettings(objective, slots, hidden=24, rate=5e-3, batch=64, steps=steps)


@needs_torch
@pytest.mark.parametrize("slots", [0, SLOTS])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_network_learns_the_order_of_unseen_candidates(objective: NeuralObjective, slots: int) -> None:
    model = TreeGRU(settings(objective, slots))
    features, labels = trees(200, slots)
    assert not model.predict(features).any()
    model.fit(features, labels)
    new, truth = trees(150, slots)
    assert pairwise_accuracy(model.predict(new), truth) > 0.85
    if objective == "regression":
        assert abs(model.predict(new).mean() - truth.mean()) < 0.5


@needs_torch
@pytest.mark.parametrize("slots", [0, SLOTS])
def test_a_tree_has_the_same_score_in_any_company(slots: int) -> None:
    features, labels = trees(40, slots)
    model = TreeGRU(settings(slots=slots, steps=10))
    model.fit(features, labels)
    together = model.predict(features)
    assert together.std() > 0
    alone = np.concatenate([model.predict(features[row : row + 1]) for row in range(40)])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    longer = np.concatenate([features, np.zeros((40, 3, features.shape[2]), np.float32)], axis=1)
    np.testing.assert_allclose(model.predict(longer), together, atol=1e-5)


@needs_torch
def test_equal_subtrees_are_one_node_and_others_are_not() -> None:
    from tuner.cost_model.tree_network import forest, subtree_hashes

    features = tree_features(matmul(np.array([4, 8, 4, 4]), 16, np.array([2, 2, 2, 32])))
    hashes = subtree_hashes(features)
    assert len(set(hashes[:, 0].tolist())) == 3
    assert hashes[0, 0] == hashes[2, 0]
    levels, roots = forest(features, hashes)
    assert len(levels[-1].tokens) == 3
    assert roots[0] == roots[2]
    assert sum(len(level.tokens) for level in levels) < (features[..., LEVEL] > 0).sum() / 2
    changed = features.copy()
    changed[0, -1, TOKEN] += 1  # a leaf
    assert subtree_hashes(changed)[0, 0] != hashes[0, 0]


@needs_torch
def test_the_cell_is_a_child_sum_gru() -> None:
    import torch

    from tuner.cost_model.tree_network import TreeNetwork, forest, subtree_hashes

    features = np.zeros((1, 3, NUMBERS + 2), np.float32)
    features[0] = [[1, -1, 1, 0, 0], [2, 0, 5, 1.5, 0], [2, 0, 6, 0, 2.5]]  # a root with two leaves
    torch.manual_seed(0)
    network = TreeNetwork(NetworkSettings(hidden=4), 2)

    def cell(token: int, numbers: list[float], below: torch.Tensor) -> torch.Tensor:
        seen = torch.cat([torch.tensor(numbers), network.encode.weight[token]])
        w, u, b = network.inputs.weight.split(4), network.states.weight.split(4), network.inputs.bias.split(4)
        r, z = (torch.sigmoid(w[i] @ seen + b[i] + u[i] @ below) for i in (0, 1))
        new = torch.tanh(w[2] @ seen + b[2] + r * (u[2] @ below))
        return (1 - z) * new + z * below

    with torch.no_grad():
        leaves = cell(5, [1.5, 0.0], torch.zeros(4)) + cell(6, [0.0, 2.5], torch.zeros(4))
        expected = network.head(cell(1, [0.0, 0.0], leaves))
        found = network(*forest(features, subtree_hashes(features)))
    torch.testing.assert_close(found, expected)


@needs_torch
def test_fitting_repeats_exactly_and_leaves_torch_as_it_was() -> None:
    import torch

    features, labels = trees(60)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    threads = torch.get_num_threads()
    runs = []
    for _ in range(2):
        model = TreeGRU(settings(steps=20), seed=3)
        model.fit(features, labels)
        runs.append(model.predict(features))
    np.testing.assert_array_equal(*runs)
    torch.testing.assert_close(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


@needs_torch
def test_a_refit_goes_on_from_the_weights_there_are() -> None:
    features, labels = trees(100)
    model = TreeGRU(settings(steps=40))
    accuracy = []
    for _ in range(3):
        model.fit(features, labels)
        accuracy.append(pairwise_accuracy(model.predict(features), labels))
    assert accuracy[2] > accuracy[0]


@needs_torch
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_labels_that_say_nothing_are_no_error(objective: NeuralObjective) -> None:
    features, _ = trees(20)
    for labels in (np.zeros(20), np.zeros(1)):
        model = TreeGRU(settings(objective, steps=20))
        model.fit(features[: len(labels)], labels)
        assert np.isfinite(model.predict(features)).all()


SOURCES = [matmul_workload(m=64, k=64, n=64), matmul_workload(m=96, k=128, n=256), matmul_workload(m=200, k=100, n=300)]


@needs_torch
@pytest.mark.parametrize("kind", ["tree-gru", "context-gru"])
def test_a_global_network_is_judged_on_held_out_workloads_and_survives_being_stored(kind: Kind) -> None:
    known = [trial for number, source in enumerate(SOURCES) for trial in trials(source, 40, number)]
    data, used = TrainingSet.of(known, FEATURES[kind])
    assert used.all()
    first, again = (GlobalModel.fit(data, Settings(kind, "rank", rounds=4)) for _ in range(2))
    assert {one.workload for one in first.held_out} == {source.key for source in SOURCES}
    assert first.to_bytes() == again.to_bytes()
    read = GlobalModel.from_bytes(first.to_bytes(), kind, first.rounds, first.representation)
    np.testing.assert_array_equal(read.predict(data.features), first.predict(data.features))
    one = GlobalModel.fit(data.part([0]), Settings(kind, rounds=4))
    assert one.held_out == ()


def test_without_pytorch_there_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "tuner.cost_model.tree_network", raising=False)
    with pytest.raises(TorchMissingError, match=r"neural cost models need torch: pip install 'tunedb\[torch\]'"):
        TreeGRU()
    features, labels = trees(30)
    data = TrainingSet(features, np.exp(-labels), np.zeros(30, np.int64), ("w",), ("t",), (1.0,), "tree")
    with pytest.raises(TorchMissingError):
        GlobalModel.fit(data, Settings("tree-gru"))
