"""The target and the environment: what this machine is, and what it can be limited to."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from tuner import environment
from tuner import target as tuner_target
from tuner.target import ISAS, Target, TargetError, aarch64

SERVER = Target(
    kind="cpu",
    triple="x86_64-unknown-linux-gnu",
    cpu="znver5",
    features=("avx", "avx2", "avx512f", "fma", "sse2", "sse4.1"),
    model="AMD EPYC",
    vector_bits=512,
    registers=32,
    l1=49152,
    l2=1048576,
    l3=0,
    cores=2,
    threads=2,
)


def test_a_target_reads_back_from_its_json() -> None:
    text = json.dumps(SERVER.to_json())
    assert Target.from_json(json.loads(text)) == SERVER
    assert Target.from_json(json.loads(text)).fingerprint == SERVER.fingerprint


def test_the_fingerprint_of_a_target_never_changes() -> None:
    assert SERVER.fingerprint == "51aac460b6454490cb0baafcc9330cba9018befe6a6b0f3dcf02af0310455429"


def test_threads_and_features_are_identity() -> None:
    one = replace(SERVER, threads=1)
    fewer = replace(SERVER, features=SERVER.features[1:])
    assert len({SERVER.fingerprint, one.fingerprint, fewer.fingerprint}) == 3


def test_a_target_has_a_short_name() -> None:
    assert SERVER.name == "cpu-znver5-avx512-2t"
    assert SERVER.lanes == 16
    assert replace(SERVER, features=("neon",), threads=4, cpu="apple-m1").name == "cpu-apple-m1-neon-4t"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"l2": None}, "target: l2 is missing or has a bad value: None"),
        ({"threads": True}, "target: threads"),
        ({"features": "avx"}, "target: features"),
        ({"features": [1]}, "target: features"),
        ({"warp": 32}, "target: unknown field warp"),
    ],
)
def test_a_bad_stored_target_names_the_field(change: dict[str, object], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        Target.from_json({**SERVER.to_json(), **change})


def test_the_host_is_one_machine() -> None:
    host = Target.host()
    assert host == Target.host()
    assert host.kind == "cpu"
    assert host.cpu == llvm.get_host_cpu_name()
    assert list(host.features) == sorted(name for name, on in llvm.get_host_cpu_features().items() if on)
    assert 1 <= host.threads <= host.cores
    assert 4096 <= host.l1 < host.l2
    assert Target.host(threads=1) == replace(host, threads=1)


def test_a_machine_with_amx_can_be_limited_to_its_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    with_amx = replace(SERVER, features=("amx-bf16", "amx-int8", "amx-tile", *SERVER.features))
    monkeypatch.setattr(tuner_target, "_host", lambda: with_amx)
    assert Target.host().isa == Target.host(isa="amx").isa == "amx"
    assert (with_amx.vector_bits, with_amx.registers) == (512, 32)
    limited = Target.host(isa="avx512")
    assert limited == SERVER
    assert "-amx-tile" in limited.llvm_features
    assert Target.host(isa="avx2").features == ("avx", "avx2", "fma", "sse2", "sse4.1")


def test_a_target_of_another_architecture_has_none_of_this_ones_features() -> None:
    other = aarch64(threads=4)
    assert other.name == "cpu-generic-neon-4t"
    assert (other.lanes, other.registers, other.llvm_features) == (4, 32, "+neon")
    assert Target.from_json(other.to_json()) == other


def test_threads_are_at_least_one() -> None:
    with pytest.raises(TargetError, match="threads must be 1 or more, not 0"):
        Target.host(threads=0)


def test_an_unknown_isa_is_refused() -> None:
    with pytest.raises(TargetError, match="unknown isa 'avx1024'; choose one of amx, avx512, avx2, sse4"):
        Target.host(isa="avx1024")


@pytest.mark.parametrize(
    ("isa", "register", "wider"), [("avx512", "zmm", ""), ("avx2", "ymm", "zmm"), ("sse4", "xmm", "ymm")]
)
def test_a_limited_host_compiles_to_the_vectors_of_its_isa(
    isa: str, register: str, wider: str, assemble: Callable[[Target], str]
) -> None:
    widest = Target.host().isa
    if widest not in ISAS or ISAS.index(isa) < ISAS.index(widest):
        with pytest.raises(TargetError, match="this machine has no" if isa in ISAS else "unknown"):
            Target.host(isa=isa)
        return
    target = Target.host(isa=isa)
    assert target.isa == isa
    assert target.vector_bits == {"avx512": 512, "avx2": 256, "sse4": 128}[isa]
    assembly = assemble(target)
    assert register in assembly
    assert not wider or (wider not in assembly and "zmm" not in assembly)


@pytest.fixture
def assemble() -> Callable[[Target], str]:
    """The assembly of a 16 lane multiply-add for a target."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    code = """
    define void @axpy(ptr %x, ptr %y) "prefer-vector-width"="512" {
      %a = load <16 x float>, ptr %x
      %b = load <16 x float>, ptr %y
      %c = fmul <16 x float> %a, %b
      %d = fadd <16 x float> %c, %b
      store <16 x float> %d, ptr %y
      ret void
    }
    """

    def assemble(target: Target) -> str:
        machine = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.llvm_features
        )
        return str(machine.emit_assembly(llvm.parse_assembly(code)))

    return assemble


def test_the_environment_says_with_what_a_time_was_taken() -> None:
    facts = dict(environment.detect().facts)
    assert {"commit", "cpu", "kernel", "llvm", "llvmlite", "numpy", "os", "protocol", "python", "tunedb"} <= set(facts)
    assert list(facts) == sorted(facts)
    assert all(isinstance(value, str) and value for value in facts.values())
    assert facts["protocol"] == environment.PROTOCOL
    assert facts["llvm"].count(".") == 2
    assert environment.detect().fingerprint == environment.detect().fingerprint


def test_the_commit_is_that_of_the_checkout_itself(tmp_path: Path) -> None:
    assert environment._commit(tmp_path) == "unknown"
    run = ["git", "-C", str(tmp_path), "-c", "user.name=A", "-c", "user.email=a@b.c"]
    subprocess.run([*run, "init", "-q"], check=True)
    assert environment._commit(tmp_path) == "unknown"  # no commit yet
    subprocess.run([*run, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    assert len(environment._commit(tmp_path)) == 40
    (tmp_path / "site-packages").mkdir()
    assert environment._commit(tmp_path / "site-packages") == "unknown"
