"""What the emitter has to know of a target: its vectors, and the instructions that portable LLVM IR cannot name."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tuner.target import Target


@dataclass(frozen=True)
class Instructions:
    """``lanes`` are the float32 elements of a vector register.

    ``dots`` are intrinsics by lanes: float32 sums, each plus the products of a pair of bfloat16 with another pair.
    ``rounds``: there is an instruction from float32 to bfloat16. ``tiles``: there are the matrix registers of AMX, with
    products of bfloat16.
    """

    lanes: int
    dots: Mapping[int, str] = field(default_factory=dict)
    rounds: bool = False
    tiles: bool = False


def instructions_of(target: Target) -> Instructions:
    """What ``target`` has."""
    dots: dict[int, str] = {}
    if "avx512bf16" in target.features:
        widths = (128, 256, 512) if "avx512vl" in target.features else (512,)
        dots = {width // 32: f"llvm.x86.avx512bf16.dpbf16ps.{width}" for width in widths}
    elif target.triple.startswith("aarch64") and "bf16" in target.features:
        dots = {4: "llvm.aarch64.neon.bfdot.v4f32.v8bf16"}
    return Instructions(target.lanes, dots, "avx512bf16" in target.features, target.has_tiles)
