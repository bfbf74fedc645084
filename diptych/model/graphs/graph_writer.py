"""Write an ONNX graph node by node: the layers that CLIP's towers are made of, with their weights inside.

A graph needs no tracing: a tower is the same few layers everywhere, and written by hand each takes the shortest form
(normalization inside the first weights, one output position in the last block, BatchNorm inside the convolution).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from diptych.errors import ConfigError
from diptych.files import new_file, writing

OPSET, CONTRIB = 17, "com.microsoft"
DIALECTS = ("standard", "onnxruntime")
_ONNX_IR = 8  # the version of the file format that belongs to opset 17
_INLINE_BYTES = 1 << 30  # a file of protobuf holds 2 GiB; larger weights stand beside it
_SMALLEST_WEIGHT = 32  # products with fewer rows or columns stay in fp32
GRAPH_PRECISIONS = ("fp32", "fp16", "int8")


class GraphWriter:
    """Collects the nodes and weights of one graph.

    Attributes:
        dialect: "standard" uses ONNX's own operations only, so that every library reads the graph; "onnxruntime" also
            uses that library's fused attention and activation.
        precision: "fp32"; "fp16", which stores matrices, kernels and embeddings in 16 bits and computes in fp32; or
            "int8", which rounds both sides of each product with weights to 8 bits, see `_quantized_product`.
        reduced_range: with int8, weights have 7 bits, so that processors without VNNI do not overflow.
    """

    def __init__(self, dialect: str = "onnxruntime", precision: str = "fp32", *, reduced_range: bool = False) -> None:
        if dialect not in DIALECTS:
            raise ConfigError(f"the dialect of a graph is one of {', '.join(DIALECTS)}, not {dialect!r}")
        if precision not in GRAPH_PRECISIONS:
            raise ConfigError(f"the precision of a graph is one of {', '.join(GRAPH_PRECISIONS)}, not {precision!r}")
        self.dialect, self.precision, self.reduced_range = dialect, precision, reduced_range
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._quantized: dict[str, tuple[str, str]] = {}
        self._number = 0

    def constant(self, values: torch.Tensor | np.ndarray | Sequence[int] | float) -> str:
        """The name of a constant: float32 for floats, int64 for whole numbers, other arrays as they are.

        In a graph of fp16 a tensor with two dimensions or more is stored so; the constant is its value in fp32.
        """
        from onnx import numpy_helper

        if isinstance(values, torch.Tensor):
            values = values.detach().float().cpu().numpy()
            if self.precision == "fp16" and values.ndim >= 2:
                if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
                    raise ConfigError("a weight is above 65,504, the largest number of fp16: take fp32")
                return self.op("Cast", self.constant(values.astype(np.float16)), to=1)
        elif not isinstance(values, np.ndarray):
            values = np.array(values, np.float32 if isinstance(values, float) else np.int64)
        name = self._name("constant")
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        return self.ops(kind, *inputs, outputs=1, domain=domain, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any) -> list[str]:
        """Add a node with several outputs; returns their names."""
        from onnx import helper

        names = [self._name(kind) for _ in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names

    def product(self, x: str, weight: torch.Tensor) -> str:
        """x (..., K) @ weight (K, N) -> (..., N)."""
        if self.precision == "int8" and min(weight.shape) >= _SMALLEST_WEIGHT:
            return self._quantized_product(x, weight)
        return self.op("MatMul", x, self.constant(weight))

    def linear(self, x: str, weight: torch.Tensor, bias: torch.Tensor | None) -> str:
        """x (..., K), weight (N, K) as in nn.Linear -> (..., N)."""
        result = self.product(x, weight.detach().T)
        return result if bias is None else self.op("Add", result, self.constant(bias))

    def layer_norm(self, x: str, norm: nn.LayerNorm) -> str:
        """LayerNorm over the last axis."""
        return self.op(
            "LayerNormalization", x, self.constant(norm.weight), self.constant(norm.bias), epsilon=norm.eps, axis=-1
        )

    def activation(self, x: str, name: str) -> str:
        """One of diptych.model.attention's activations."""
        if name == "quick_gelu":
            if self.dialect == "onnxruntime":
                return self.op("QuickGelu", x, domain=CONTRIB, alpha=1.702)
            return self.op("Mul", x, self.op("Sigmoid", self.op("Mul", x, self.constant(1.702))))
        if name == "gelu":
            half = self.op("Mul", x, self.constant(0.5))
            return self.op(
                "Mul",
                half,
                self.op("Add", self.op("Erf", self.op("Mul", x, self.constant(0.5**0.5))), self.constant(1.0)),
            )
        if name == "gelu_tanh":
            cube = self.op("Mul", self.op("Mul", self.op("Mul", x, x), x), self.constant(0.044715))
            inner = self.op("Mul", self.op("Add", x, cube), self.constant((2 / math.pi) ** 0.5))
            half = self.op("Mul", x, self.constant(0.5))
            return self.op("Mul", half, self.op("Add", self.op("Tanh", inner), self.constant(1.0)))
        raise ConfigError(f"there is no ONNX graph of the activation {name!r}; use the backend torch")

    def unit_norm(self, x: str) -> str:
        """(N, E) -> (N, E) of unit norm."""
        norm = self.op("ReduceL2", x, axes=[-1], keepdims=1)
        return self.op("Div", x, self.op("Max", norm, self.constant(1e-12)))

    def attention(self, q: str, k: str, v: str, heads: int, depth: int, mask: str | None = None) -> str:
        """Scaled dot-product attention: q (N, Lq, W), k and v (N, L, W) -> (N, Lq, W).

        Args:
            mask: float, added to the logits, broadcast to (N, H, Lq, L); None to attend to everything.
        """
        if self.dialect == "onnxruntime" and mask is None:
            return self.op("MultiHeadAttention", q, k, v, domain=CONTRIB, num_heads=heads)
        split = self.constant([0, 0, heads, depth])
        q, k, v = (
            self.op("Transpose", self.op("Reshape", side, split), perm=[0, 2, *order])
            for side, order in ((q, (1, 3)), (k, (3, 1)), (v, (1, 3)))
        )
        logits = self.op("MatMul", self.op("Mul", q, self.constant(float(depth**-0.5))), k)
        if mask is not None:
            logits = self.op("Add", logits, mask)
        attended = self.op("MatMul", self.op("Softmax", logits, axis=-1), v)
        return self.op(
            "Reshape", self.op("Transpose", attended, perm=[0, 2, 1, 3]), self.constant([0, 0, heads * depth])
        )

    def first(self, x: str, axis: int = 1) -> str:
        """x[:, :1]: a slice of length 1 at the start of an axis."""
        return self.op("Slice", x, self.constant([0]), self.constant([1]), self.constant([axis]))

    def convolution(
        self, x: str, kernel: torch.Tensor, bias: torch.Tensor, *, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> str:
        """A two-dimensional convolution: kernel (outputs, inputs / groups, K, K)."""
        return self.op(
            *("Conv", x, self.constant(kernel), self.constant(bias)),
            kernel_shape=list(kernel.shape[2:]),
            strides=[stride, stride],
            pads=[padding] * 4,
            group=groups,
        )

    def normalized_convolution(self, x: str, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> str:
        """A convolution without bias and the BatchNorm after it, as one convolution."""
        assert norm.running_var is not None and norm.running_mean is not None
        factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        kernel = conv.weight.double() * factor[:, None, None, None]
        bias = norm.bias.double() - norm.running_mean.double() * factor
        return self.convolution(x, kernel, bias, stride=int(conv.stride[0]), padding=int(conv.padding[0]))

    def average_pool(self, x: str, size: int) -> str:
        """Average pooling without overlap."""
        return self.op("AveragePool", x, kernel_shape=[size, size], strides=[size, size])

    def _quantized_product(self, x: str, weight: torch.Tensor) -> str:
        """An 8-bit product: one scale for each row of x and one for each column of the weight.

        A scale for each row, and not one for the whole of x, keeps a vector independent of its batch, and an outlier
        in one token from coarsening the others.
        """
        values = weight.detach().double().cpu().numpy()
        levels = 63 if self.reduced_range else 127
        columns = np.maximum(np.abs(values).max(axis=0), 1e-30) / levels
        rows, scales = self._rounded_rows(x)
        sides = rows, self.constant(np.round(values / columns).astype(np.int8))
        unit, middle = self.constant(columns.astype(np.float32)), self.constant(np.array(128, np.uint8))
        if self.dialect == "onnxruntime":
            result = self.op("MatMulIntegerToFloat", *sides, self.constant(1.0), unit, middle, domain=CONTRIB)
        else:
            result = self.op("Mul", self.op("Cast", self.op("MatMulInteger", *sides, middle), to=1), unit)
        return self.op("Mul", result, scales)

    def _rounded_rows(self, x: str) -> tuple[str, str]:
        """uint8 (..., K) around 128, and the scale of each row float32 (..., 1); shared by the products of one x."""
        if x not in self._quantized:
            scales = self.op("ReduceMax", self.op("Abs", x), axes=[-1], keepdims=1)
            scales = self.op("Mul", self.op("Max", scales, self.constant(1e-30)), self.constant(1 / 127))
            shape = self.op("Shape", x)
            flat = self.op(
                "Reshape",
                x,
                self.op(
                    "Concat",
                    self.constant([-1]),
                    self.op("Slice", shape, self.constant([-1]), self.constant([2**31])),
                    axis=0,
                ),
            )
            flat_scales = self.op("Reshape", scales, self.constant([-1]))
            zeros = self.op("ConstantOfShape", self.op("Shape", flat_scales), value=_uint8(128))
            levels = self.op("QuantizeLinear", flat, flat_scales, zeros, axis=0)
            self._quantized[x] = self.op("Reshape", levels, shape), scales
        return self._quantized[x]

    def save(
        self,
        path: Path,
        inputs: Sequence[tuple[str, str, Sequence[str | int]]],
        outputs: Sequence[tuple[str, str, Sequence[str | int]]],
        notes: dict[str, str],
    ) -> None:
        """Write the graph; weights above 1 GiB go into a second file beside it, named after it.

        Args:
            inputs: (name, numpy type, shape) of each; a dimension given as a text has any size.
            outputs: (name of a node's output, public name, shape) of each; all are float32.
            notes: stored in the file as its metadata.
        Raises:
            WeightsError: the file cannot be written.
        """
        import onnx
        from onnx import helper

        nodes = [*self._nodes, *(helper.make_node("Identity", [node], [name]) for node, name, _ in outputs)]
        graph = helper.make_graph(
            nodes,
            "diptych",
            [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.dtype(t)), s) for n, t, s in inputs],
            [helper.make_tensor_value_info(name, 1, shape) for _, name, shape in outputs],
            self._weights,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(
            graph,
            ir_version=_ONNX_IR,
            producer_name="diptych",
            opset_imports=opsets if self.dialect == "onnxruntime" else opsets[:1],
        )
        helper.set_model_props(model, notes)
        beside = path.with_name(f"{path.name}.data")
        size = sum(len(weight.raw_data) for weight in self._weights)
        with writing(path), new_file(path) as unfinished:
            if size > _INLINE_BYTES:
                beside.unlink(missing_ok=True)
                onnx.save_model(
                    model,
                    str(unfinished),
                    save_as_external_data=True,
                    all_tensors_to_one_file=True,
                    location=beside.name,
                )
            else:
                unfinished.write_bytes(model.SerializeToString())

    def _name(self, kind: str) -> str:
        self._number += 1
        return f"{kind}_{self._number}"


def _uint8(value: int) -> Any:
    from onnx import helper

    return helper.make_tensor("value", 2, [1], [value])
