"""LiteRT (TensorFlow Lite) with XNNPACK: a model of one operator, channels last; NCHW by transposes around it."""

import importlib.metadata

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

VERSION = f"LiteRT {importlib.metadata.version('ai-edge-litert')}"
NOTE = {}

_TO_CHANNELS_LAST, _TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
_OPERATORS, _OPTIONS = schema.BuiltinOperator, schema.BuiltinOptions


class Model:
    """A model under construction: each method adds an operator and gives the number of its output tensor."""

    def __init__(self):
        self.buffers = [schema.BufferT()]  # the first one is empty by definition
        self.tensors, self.operators, self.codes = [], [], []

    def tensor(self, shape, data=None):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.hasRank = f"t{len(self.tensors)}", list(shape), True
        tensor.type = schema.TensorType.FLOAT32
        if data is not None:
            if data.dtype == np.int32:
                tensor.type = schema.TensorType.INT32
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, data):
        return self.tensor(data.shape, data)

    def operator(self, name, inputs, shape, options=None):
        code = getattr(_OPERATORS, name)
        if code not in self.codes:
            self.codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs = self.codes.index(code), list(inputs)
        operator.outputs = [self.tensor(shape)]
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(_OPTIONS, type(options).__name__.removesuffix("T"))
        self.operators.append(operator)
        return operator.outputs[0]

    def transpose(self, x, order):
        shape = [self.tensors[x].shape[axis] for axis in order]
        return self.operator("TRANSPOSE", [x, self.constant(np.int32(order))], shape, schema.TransposeOptionsT())

    def convolution(self, x, w, task):
        _, height, width, channels = self.tensors[x].shape
        k, stride, pad = task["K"], task["S"], task["P"]
        same = stride == 1 and 2 * pad == k - 1
        if pad and not same:
            shape = [1, height + 2 * pad, width + 2 * pad, channels]
            border = np.int32([[0, 0], [pad, pad], [pad, pad], [0, 0]])
            x = self.operator("PAD", [x, self.constant(border)], shape, schema.PadOptionsT())
        if task["G"] == 1:
            name, options, weight = "CONV_2D", schema.Conv2DOptionsT(), w.transpose(0, 2, 3, 1)
        else:
            name, options, weight = "DEPTHWISE_CONV_2D", schema.DepthwiseConv2DOptionsT(), w.transpose(1, 2, 3, 0)
            options.depthMultiplier = 1
        options.padding = schema.Padding.SAME if same else schema.Padding.VALID
        options.strideH = options.strideW = stride
        bias = self.constant(np.zeros(task["OC"], np.float32))
        shape = [1, task["OH"], task["OW"], task["OC"]]
        return self.operator(name, [x, self.constant(weight), bias], shape, options)

    def product(self, x, w):
        (m, _), n = self.tensors[x].shape, w.shape[1]
        bias = self.constant(np.zeros(n, np.float32))
        options = schema.FullyConnectedOptionsT()
        return self.operator("FULLY_CONNECTED", [x, self.constant(w.T), bias], [m, n], options)

    def packed(self, x, y):
        """The whole model as bytes."""
        graph, model = schema.SubGraphT(), schema.ModelT()
        graph.inputs, graph.outputs = [x], [y]
        graph.tensors, graph.operators = self.tensors, self.operators
        for code in self.codes:
            entry = schema.OperatorCodeT()
            entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, code, 1
            model.operatorCodes = [*(model.operatorCodes or []), entry]
        model.version, model.subgraphs, model.buffers = 3, [graph], self.buffers
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def prepare(task, x, w, threads, opts):
    """The call and what reads its output."""
    model = Model()
    plain = opts["layout"] == "NCHW" or task["kind"] == "matmul"
    data = x if plain else np.ascontiguousarray(x.transpose(_TO_CHANNELS_LAST))
    first = model.tensor(data.shape)
    if task["kind"] == "matmul":
        last = model.product(first, w)
    elif plain:
        last = model.transpose(model.convolution(model.transpose(first, _TO_CHANNELS_LAST), w, task), _TO_NCHW)
    else:
        last = model.convolution(first, w, task)
    interpreter = Interpreter(model_content=model.packed(first, last), num_threads=threads)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], data)
    output = interpreter.get_output_details()[0]["index"]

    def get():
        result = interpreter.get_tensor(output)
        return result if plain else result.transpose(_TO_NCHW)

    return interpreter.invoke, get
