"""Programs written by hand: a right one, and one for each way to fail."""

from tuner.codegen.program import Argument, Program
from tuner.workload import matmul

WORKLOAD = matmul(m=4, k=4, n=4)
ARGUMENTS = tuple(Argument(operand.name, operand.role, operand.shape) for operand in WORKLOAD.operands)

_BENCH = """
define void @bench(ptr %args, i64 %n) {
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
}
"""

_MULTIPLY = """
define internal void @multiply(ptr %args, float %factor, i64 %rows) noinline {
entry:
  %a = load ptr, ptr %args
  %pb = getelementptr ptr, ptr %args, i64 1
  %b = load ptr, ptr %pb
  %pc = getelementptr ptr, ptr %args, i64 2
  %c = load ptr, ptr %pc
  br label %row
row:
  %i = phi i64 [ 0, %entry ], [ %i1, %row_end ]
  br label %column
column:
  %j = phi i64 [ 0, %row ], [ %j1, %column_end ]
  br label %inner
inner:
  %k = phi i64 [ 0, %column ], [ %k1, %inner ]
  %sum = phi float [ 0.0, %column ], [ %sum1, %inner ]
  %i4 = mul i64 %i, 4
  %ia = add i64 %i4, %k
  %pae = getelementptr float, ptr %a, i64 %ia
  %ae = load float, ptr %pae
  %k4 = mul i64 %k, 4
  %ib = add i64 %k4, %j
  %pbe = getelementptr float, ptr %b, i64 %ib
  %be = load float, ptr %pbe
  %product = fmul float %ae, %be
  %sum1 = fadd float %sum, %product
  %k1 = add i64 %k, 1
  %k_more = icmp ult i64 %k1, 4
  br i1 %k_more, label %inner, label %column_end
column_end:
  %ic = add i64 %i4, %j
  %pce = getelementptr float, ptr %c, i64 %ic
  %scaled = fmul float %sum1, %factor
  store float %scaled, ptr %pce
  %j1 = add i64 %j, 1
  %j_more = icmp ult i64 %j1, 4
  br i1 %j_more, label %column, label %row_end
row_end:
  %i1 = add i64 %i, 1
  %i_more = icmp ult i64 %i1, %rows
  br i1 %i_more, label %row, label %done
done:
  ret void
}
"""

_WRITE = "declare i64 @write(i32, ptr, i64)"
_RIGHT = "call void @multiply(ptr %args, float 1.0, i64 4)"


def _program(body: str, declarations: str = "", workspace_bytes: int = 0) -> Program:
    kernel = f"define void @kernel(ptr %args) {{\n{body}\n}}"
    return Program("\n".join([declarations, _MULTIPLY, kernel, _BENCH]), ARGUMENTS, workspace_bytes, 1)


def right(workspace_bytes: int = 0) -> Program:
    return _program(f"{_RIGHT}\nret void", workspace_bytes=workspace_bytes)


def wrong() -> Program:
    return _program("call void @multiply(ptr %args, float 1.5, i64 4)\nret void")


def incomplete() -> Program:
    """Leaves the last row of the output as it is."""
    return _program("call void @multiply(ptr %args, float 1.0, i64 3)\nret void")


def right_once() -> Program:
    """Gives something else from the hundredth call on."""
    return _program(
        """%old = load i64, ptr @calls
           %new = add i64 %old, 1
           store i64 %new, ptr @calls
           %late = icmp ugt i64 %new, 100
           %factor = select i1 %late, float 2.0, float 1.0
           call void @multiply(ptr %args, float %factor, i64 4)
           ret void""",
        "@calls = internal global i64 0",
    )


def out_of_bounds(offset: int) -> Program:
    """Also writes to this element of the output, which has 16."""
    return _program(
        f"""{_RIGHT}
            %pc = getelementptr ptr, ptr %args, i64 2
            %c = load ptr, ptr %pc
            %p = getelementptr float, ptr %c, i64 {offset}
            store float 1.0, ptr %p
            ret void"""
    )


def writes_to_input() -> Program:
    return _program(f"{_RIGHT}\n%a = load ptr, ptr %args\nstore float 1.0, ptr %a\nret void")


def reads_workspace(workspace_bytes: int = 64) -> Program:
    """Trusts that its workspace is zero."""
    return _program(
        """%pw = getelementptr ptr, ptr %args, i64 3
           %w = load ptr, ptr %pw
           %zero = load float, ptr %w
           %factor = fadd float %zero, 1.0
           call void @multiply(ptr %args, float %factor, i64 4)
           ret void""",
        workspace_bytes=workspace_bytes,
    )


def segfault() -> Program:
    return _program("store volatile i64 1, ptr inttoptr (i64 8 to ptr)\nret void")


def illegal_instruction() -> Program:
    """LLVM's trap is the instruction of that purpose: ud2 on x86."""
    return _program("call void @llvm.trap()\nret void", "declare void @llvm.trap()")


def hang() -> Program:
    return _program('br label %l\nl:\ncall void asm sideeffect "", ""()\nbr label %l')


def ends_with(code: int) -> Program:
    return _program(f"call void @exit(i32 {code})\nret void", "declare void @exit(i32)")


def prints(body: str = f"{_RIGHT}\nret void") -> Program:
    """Writes a line to standard output and one to standard error, with bytes that are no text."""
    writes = "\n".join(f"call i64 @write(i32 {fd}, ptr @text, i64 16)" for fd in (1, 2))
    return _program(f"{writes}\n{body}", f'@text = constant [16 x i8] c"garbage \\00\\FF{{}}...\\0A"\n{_WRITE}')


def prints_and_crashes() -> Program:
    return prints("store volatile i64 1, ptr inttoptr (i64 8 to ptr)\nret void")


def prints_for_ever() -> Program:
    return _program(
        "br label %l\nl:\ncall i64 @write(i32 1, ptr @text, i64 4)\nbr label %l",
        f'@text = constant [4 x i8] c"spam"\n{_WRITE}',
    )


def allocates(size: int) -> Program:
    """Right if malloc gives it ``size`` bytes; uses the memory without asking whether it has been given any."""
    return _program(
        f"""%p = call ptr @malloc(i64 {size})
            store volatile i8 1, ptr %p
            call void @free(ptr %p)
            {_RIGHT}
            ret void""",
        "declare ptr @malloc(i64)\ndeclare void @free(ptr)",
    )


def slow(iterations: int) -> Program:
    return _program(
        f"""entry:
              br label %l
            l:
              %i = phi i64 [ 0, %entry ], [ %next, %l ]
              call void asm sideeffect "", ""()
              %next = add i64 %i, 1
              %more = icmp ult i64 %next, {iterations}
              br i1 %more, label %l, label %done
            done:
              {_RIGHT}
              ret void"""
    )


def unparsable() -> Program:
    return Program("define void @kernel(ptr %args) { this is no assembly }", ARGUMENTS, 0, 1)


def unverifiable() -> Program:
    """Parses, but uses a value before it is defined."""
    return _program("%x = add i64 %y, 1\n%y = add i64 %x, 1\nret void")


def no_such_instruction() -> Program:
    """Valid IR that the back end cannot turn into machine code: LLVM ends the process."""
    return _program('call void asm sideeffect "nonsense", ""()\nret void')
