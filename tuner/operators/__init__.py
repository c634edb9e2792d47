"""All operators by name. One file a family of operators; to add one, write it and name it here."""

from collections.abc import Mapping
from types import MappingProxyType

from tuner.operators.conv2d import CONV2D
from tuner.operators.depthwise import DEPTHWISE_CONV2D
from tuner.operators.gemm import BATCH_MATMUL, DENSE, MATMUL
from tuner.operators.operator import Operator

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {operator.name: operator for operator in (CONV2D, DEPTHWISE_CONV2D, DENSE, MATMUL, BATCH_MATMUL)}
)
