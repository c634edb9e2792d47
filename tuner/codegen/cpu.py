"""LLVM IR to machine code in this process, through llvmlite."""

import ctypes
import os
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from tuner.errors import CompileError
from tuner.target import Target


@cache
def _initialize() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    # LLVM has these switches for the whole process only. Loop strength reduction gives every broadcast of an unrolled
    # body a pointer of its own and spills them all, where the emitter's chains of pointers need none of it. The machine
    # scheduler pulls loads ahead until the sums do not fit into the registers any more. The scheduler after register
    # allocation changes no kernel's time that could be measured, and takes a tenth of that of compiling.
    llvm.set_option("tunedb", "-disable-lsr")
    llvm.set_option("tunedb", "-enable-misched=false")
    llvm.set_option("tunedb", "-post-RA-scheduler=false")
    try:
        llvm.load_library_permanently("libgomp.so.1")
    except RuntimeError as error:
        raise CompileError(
            "the OpenMP run-time library libgomp.so.1 was not found: install it (Debian: apt-get install libgomp1)"
        ) from error


_ARCH_PRCTL, _REQUEST_STATE, _TILE_DATA = 158, 0x1023, 18  # of Linux on x86-64


@cache
def _allow_tiles() -> None:
    """Ask Linux for the state of the matrix registers, which a process has to do once. Raises CompileError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_ARCH_PRCTL, _REQUEST_STATE, ctypes.c_ulong(_TILE_DATA)) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise CompileError(f"the system does not let this process use the matrix registers (AMX): {reason}")


def machine(target: Target, *, jit: bool = True) -> Any:
    """LLVM's target machine for ``target``: for code that runs in this process, or for object files."""
    _initialize()
    features = target.llvm_features
    if target.vector_bits == 512:  # some processors are told to halve such vectors
        features += ",-prefer-256-bit"
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=features,
        opt=2,
        reloc="default" if jit else "pic",
        codemodel="jitdefault" if jit else "default",
        jit=jit,
    )


class Module:
    """Machine code that lives as long as this object."""

    def __init__(self, ir: str, target: Target) -> None:
        """Compile ``ir``. Raises CompileError with LLVM's own words."""
        machine_of_target = machine(target)
        module = _optimized(ir, machine_of_target)
        self._module = module
        self._machine = machine_of_target
        self._engine = llvm.create_mcjit_compiler(module, machine_of_target)
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Address of a function."""
        return int(self._engine.get_function_address(name))

    def function(self, name: str, *argument_types: Any) -> Any:
        """A ctypes function without result. The caller keeps this object alive as long as the function is used."""
        return ctypes.CFUNCTYPE(None, *argument_types)(self.address(name))


def load(ir: str, target: Target) -> Module:
    """Compile ``ir`` for ``target`` into this process, which may then use what it needs. Raises CompileError."""
    if "llvm.x86.ldtilecfg" in ir:
        _allow_tiles()
    return Module(ir, target)


def assembly(ir: str, target: Target) -> str:
    """The assembly text that ``ir`` becomes on ``target``. Raises CompileError."""
    machine_of_target = machine(target)
    return str(machine_of_target.emit_assembly(_optimized(ir, machine_of_target)))


def object_code(ir: str, target: Target) -> bytes:
    """The object file that ``ir`` becomes on ``target``, which may be another machine. It needs libgomp to be linked.

    Raises CompileError.
    """
    machine_of_target = machine(target, jit=False)
    return bytes(machine_of_target.emit_object(_optimized(ir, machine_of_target)))


def _optimized(ir: str, machine_of_target: Any) -> Any:
    """The checked module of ``ir``, ready for code generation. Raises CompileError with LLVM's own words."""
    try:
        module = llvm.parse_assembly(ir)
        module.verify()
    except RuntimeError as error:
        raise CompileError(f"LLVM refused the program: {str(error).strip()}") from error
    _optimize(module, machine_of_target)
    return module


def _optimize(module: Any, machine_of_target: Any) -> None:
    """Turn the local tile into registers; the emitter has already done what the other passes would.

    Measured on ResNet-18's layers: LLVM's whole O2 pipeline takes 20-35 ms more and gives no faster code.
    """
    builder = llvm.create_pass_builder(machine_of_target, llvm.create_pipeline_tuning_options(speed_level=1))
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.run(module, builder)
