"""Lines of other tools' logs, made up for tests in the forms that those tools write."""

import json
from typing import Any

COSTS = [0.25, 0.125, 0.5]
START = 1677395400.1326506  # more digits than a microsecond has


def autotvm(index: int = 0, **changes: Any) -> str:
    """A line of AutoTVM 0.2: resnet18.C2 with NCHWc blocks inside, NCHW outside."""
    image, weight = ["TENSOR", [1, 64, 56, 56], "float32"], ["TENSOR", [64, 64, 3, 3], "float32"]
    entity = [["tile_ic", "sp", [-1, 2**index]], ["tile_oc", "sp", [-1, 32]], ["unroll_kw", "ot", True]]
    line = {
        "input": [
            "llvm -mcpu=znver2 -keys=cpu ",
            "conv2d_NCHWc.x86",
            [image, weight, [1, 1], [1, 1, 1, 1], [1, 1], "NCHW", "NCHW", "float32"],
            {},
        ],
        "config": {"index": index, "code_hash": None, "entity": entity},
        "result": [COSTS, 0, 1.5, START + index],
        "version": 0.2,
        "tvm_version": "0.10.0",
    }
    return json.dumps(line | changes)


FAILED = autotvm(7, result=[[1000000000.0], 6, 10, START])


def ansor(**changes: Any) -> str:
    """A line of auto_scheduler."""
    task = [
        '["6d12", [1, 1, 28, 28, 128], [1, 4, 28, 28, 32]]',
        "llvm -keys=cpu ",
        [8, 64, 64, 0, 0, 0, 0, 0],
        "",
        2,
        [],
    ]
    state: list[Any] = [
        [],
        [["SP", 3, 0, 1, [1, 1, 1], 1], ["FU", 3, [0, 1, 2]], ["PR", 3, 0, "auto_unroll_max_step$0"]],
    ]
    return json.dumps({"i": [task, state], "r": [COSTS, 0, 0.989, 1698859892], "v": "v0.6"} | changes)


METASCHEDULE_WORKLOAD = '["74459984568761439", "U/cAAAAAAAB7CiAgInJvb3QiOiAx"]'


def metaschedule(workload: int = 0, costs: Any = COSTS) -> str:
    """A line of MetaSchedule's file of records."""
    trace = [
        [["GetBlock", [], ["conv2d", "main"], ["b0"]], ["SampleCategorical", [], [[1, 2], [0.5, 0.5]], ["v1"]]],
        [],
    ]
    target = {"arch": "sm_80", "keys": ["cuda", "gpu"], "kind": "cuda", "tag": ""}
    return json.dumps([workload, [trace, costs, target, [["TENSOR", "float32", [1, 256, 14, 14]]]]])


def kernel_tuner() -> dict[str, Any]:
    """Kernel Tuner's cache of a run with one good configuration, one that did not compile and one that was illegal."""
    good = {"block": 16, "unroll": 1, "time": 3.875, "times": [3.9761919975, 3.87, 3.875], "compile_time": 918.5}
    rest = {"verification_time": 0, "benchmark_time": 1.5, "strategy_time": 0, "framework_time": 105.25}
    date = {"timestamp": "2023-12-22 09:54:05.502007+00:00"}
    failed = {"block": 32, "unroll": 1, "time": "CompilationFailedConfig", "compile_time": 3055.5}
    illegal = {"block": 64, "unroll": 2, "time": "InvalidConfig"}
    return {
        "device_name": "A100",
        "kernel_name": "convolution",
        "problem_size": [4096, 4096],
        "tune_params_keys": ["block", "unroll"],
        "tune_params": {"block": [16, 32, 64], "unroll": [1, 2]},
        "objective": "time",
        "cache": {"16,1": good | rest | date, "32,1": failed | rest | date, "64,2": illegal | date},
    }


def t4() -> dict[str, Any]:
    """A T4 file of two results."""
    times = {"compilation": 918.5, "framework": 105.25, "search_algorithm": 0, "validation": 0}

    def result(block: int, more: dict[str, Any], status: str, value: Any) -> dict[str, Any]:
        return {
            "timestamp": "2023-12-22 09:54:05.502007+00:00",
            "configuration": {"block": block, "unroll": 1},
            "times": times | more,
            "invalidity": status,
            "correctness": int(status == "correct"),
            "measurements": [{"name": "time", "value": value, "unit": ""}],
            "objectives": ["time"],
        }

    runtimes = {"runtimes": [3.976191997528076, 3.8789119720458984, 3.872767925262451]}
    results = [result(16, runtimes, "correct", 3.875), result(32, {}, "runtime", "RuntimeFailedConfig")]
    return {"metadata": {"timeunit": "miliseconds"}, "results": results, "schema_version": "1.0.0"}
