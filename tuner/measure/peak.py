"""The arithmetic peak of a processor: a loop of multiply-adds that touches nothing but registers.

It is what a share of the peak is a share of. Each thread runs its own independent chains of vector multiply-adds,
enough of them to hide the latency of the instruction (8 are needed where 2 units have a latency of 4; 12 of 16 and 24
of 32 registers are used).
"""

from tuner.target import Target

ITERATIONS = 20_000  # of the loop, in one call of the kernel: far above the cost of starting the threads


def chains(target: Target) -> int:
    """Independent accumulators of one thread."""
    return target.registers * 3 // 4


def peak_flops(target: Target) -> int:
    """Floating-point operations of one call of the kernel, on all threads; a multiply-add counts two."""
    return 2 * target.lanes * chains(target) * ITERATIONS * target.threads


def peak_floats(target: Target) -> int:
    """Elements of its only argument: two operand vectors, then one result vector a thread."""
    return target.lanes * (2 + target.threads)


def peak_ir(target: Target) -> str:
    """LLVM IR with ``kernel`` and ``bench``, as a Program has them."""
    vector = f"<{target.lanes} x float>"
    names = range(chains(target))
    phis = "\n".join(f"  %a{c} = phi {vector} [ %x, %entry ], [ %n{c}, %loop ]" for c in names)
    steps = "\n".join(_multiply_add(target, vector, c) for c in names)
    sums = "\n".join(f"  %s{c + 1} = fadd {vector} %{f's{c}' if c else 'x'}, %n{c}" for c in names)
    return f"""
declare void @GOMP_parallel(ptr, ptr, i32, i32)
declare i32 @omp_get_thread_num()
declare {vector} @llvm.fmuladd.v{target.lanes}f32({vector}, {vector}, {vector})

define void @work(ptr %data) #0 {{
entry:
  %x = load {vector}, ptr %data
  %second = getelementptr {vector}, ptr %data, i64 1
  %y = load {vector}, ptr %second
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{phis}
{steps}
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, {ITERATIONS}
  br i1 %more, label %loop, label %done
done:
{sums}
  %thread = call i32 @omp_get_thread_num()
  %slot = add i32 %thread, 2
  %result = getelementptr {vector}, ptr %data, i32 %slot
  store {vector} %s{chains(target)}, ptr %result
  ret void
}}

define void @kernel(ptr %args) {{
  %data = load ptr, ptr %args
  call void @GOMP_parallel(ptr @work, ptr %data, i32 {target.threads}, i32 0)
  ret void
}}

define void @bench(ptr %args, i64 %n) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  call void @kernel(ptr %args)
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}}

attributes #0 = {{ noinline "prefer-vector-width"="{target.vector_bits}" }}
"""


def _multiply_add(target: Target, vector: str, chain: int) -> str:
    """One step of a chain: a = a * y + y converges to 1 for y = 0.5, so values stay normal."""
    return f"  %n{chain} = call {vector} @llvm.fmuladd.v{target.lanes}f32({vector} %a{chain}, {vector} %y, {vector} %y)"
