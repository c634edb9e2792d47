"""temporary home"""

from __future__ import annotations

from tuner.expression import Axis, Expression, Inside, Scalar, Stage, Tensor, Total, relu
from tuner.loopnest import Affine
from tuner.operators.image import channel_block, output_size
from tuner.workload import Workload


def tensors(workload: Workload) -> dict[str, Tensor]:
    return {operand.name: Tensor(operand.name, operand.shape, operand.role) for operand in workload.operands}


def epilogue(workload: Workload, known: dict[str, Tensor], channel: Axis | Affine, place: tuple[Axis, ...]) -> Scalar:
    result: Scalar = Total()
    if "bias" in workload.epilogue:
        result = result + known["bias"][channel]
    if "residual" in workload.epilogue:
        result = result + known["residual"][place]
    return relu(result) if "relu" in workload.epilogue else result


def _padded(workload, data, channels):
    """The data stage with zeros around it, or data itself."""
    top, left, bottom, right = workload.sizes("pad")
    if not any((top, left, bottom, right)):
        return (), data
    height, width = workload.size("h"), workload.size("w")
    shape = list(data.shape)
    shape[2] += top + bottom
    shape[3] += left + right
    padded = Tensor("padded", tuple(shape), "intermediate")
    names = ("pn", "pc", "py", "px", "pb")
    axes = tuple(Axis(name, extent) for name, extent in zip(names, shape, strict=False))
    y, x = axes[2] - top, axes[3] - left
    access = data[(*axes[:2], y, x, *axes[4:])]
    body = Inside(((y, height), (x, width)), access)
    return (Stage("pad", padded, axes, (), body),), padded


def conv2d(workload: Workload) -> Expression:
    known = tensors(workload)
    (kh, kw), (sh, sw), (dh, dw) = (workload.sizes(name) for name in ("k", "stride", "dilation"))
    oh, ow = output_size(workload)
    layout = workload.text("layout")
    stages, data = _padded(workload, known["data"], "ci")
    n, y, x = Axis("n", workload.size("n")), Axis("oh", oh), Axis("ow", ow)
    ky, kx = Axis("kh", kh, True), Axis("kw", kw, True)
    row, column = y * sh + ky * dh, x * sw + kx * dw
    block = channel_block(layout, workload.size("co"))
    if block is None:
        co, ci = Axis("co", workload.size("co")), Axis("ci", workload.size("ci"), True)
        axes, reduce = (n, co, y, x), (ci, ky, kx)
        body = data[n, ci, row, column] * known["weight"][co, ci, ky, kx]
        channel = co
    else:
        inner = channel_block(layout, workload.size("ci"))
        cob, co = Axis("cob", workload.size("co") // block), Axis("co", block)
        cib, ci = Axis("cib", workload.size("ci") // inner, True), Axis("ci", inner, True)
        axes, reduce = (n, cob, y, x, co), (cib, ci, ky, kx)
        channel = cob * block + co.affine
        body = data[n, cib, row, column, ci] * known["weight"][channel, cib * inner + ci.affine, ky, kx]
    main = Stage("conv2d", known["output"], axes, reduce, body, epilogue(workload, known, channel, axes))
    return Expression((*stages, main))


def depthwise(workload: Workload) -> Expression:
    known = tensors(workload)
    (kh, kw), (sh, sw), (dh, dw) = (workload.sizes(name) for name in ("k", "stride", "dilation"))
    oh, ow = output_size(workload)
    stages, data = _padded(workload, known["data"], "c")
    n, y, x = Axis("n", workload.size("n")), Axis("oh", oh), Axis("ow", ow)
    ky, kx = Axis("kh", kh, True), Axis("kw", kw, True)
    row, column = y * sh + ky * dh, x * sw + kx * dw
    block = channel_block(workload.text("layout"), workload.size("c"))
    if block is None:
        c = Axis("c", workload.size("c"))
        axes, channel = (n, c, y, x), c
        body = data[n, c, row, column] * known["weight"][c, Affine(), ky, kx]
    else:
        cb, c = Axis("cb", workload.size("c") // block), Axis("c", block)
        axes, channel = (n, cb, y, x, c), cb * block + c.affine
        body = data[n, cb, row, column, c] * known["weight"][channel, Affine(), ky, kx]
    main = Stage("depthwise_conv2d", known["output"], axes, (ky, kx), body, epilogue(workload, known, channel, axes))
    return Expression((*stages, main))


def gemm(workload: Workload) -> Expression:
    known = tensors(workload)
    if workload.operator == "dense":
        m, n = Axis("m", workload.size("m")), Axis("n", workload.size("co"))
        k = Axis("k", workload.size("ci"), True)
        body = known["data"][m, k] * known["weight"][n, k]
        axes = (m, n)
        return Expression((Stage("dense", known["output"], axes, (k,), body, epilogue(workload, known, n, axes)),))
    m, n = Axis("m", workload.size("m")), Axis("n", workload.size("n"))
    k = Axis("k", workload.size("k"), True)
    batch = (Axis("b", workload.size("b")),) if workload.operator == "batch_matmul" else ()
    body = known["a"][(*batch, m, k)] * known["b"][(*batch, k, n)]
    return Expression((Stage(workload.operator, known["output"], (*batch, m, n), (k,), body),))


BY_NAME = {"conv2d": conv2d, "depthwise_conv2d": depthwise, "dense": gemm, "matmul": gemm, "batch_matmul": gemm}
