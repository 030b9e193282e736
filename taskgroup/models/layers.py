"""Convolutions on periodic grids."""

from functools import cache
from itertools import permutations, product
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Orders and signs of three axes.
_N_SYMMETRIES = 48


def continued(x: Tensor, before: int, after: int) -> Tensor:
    """Return a periodic grid [B, C, x, y(, z)] with ``before`` and ``after`` more points along each axis.

    The grid may be smaller than what is added: it then repeats. One gather of whole points, channels last, about as
    quick as a copy.
    """
    rows, channels, *sizes = x.shape
    find = _wrapped if torch.compiler.is_compiling() else _wrapped_once
    index = find(tuple(sizes), before, after, x.device)
    points = x.movedim(1, -1).reshape(rows, -1, channels)
    longer = [n + before + after for n in sizes]
    return points.index_select(1, index).view(rows, *longer, channels).movedim(-1, 1)


def _wrapped(sizes: tuple[int, ...], before: int, after: int, device: torch.device) -> Tensor:
    """Return for each point of the continued grid which point of the grid it repeats."""
    index = torch.zeros((), dtype=torch.int64, device=device)
    for n in sizes:
        along_axis = torch.arange(-before, n + after, device=device) % n
        index = index[..., None] * n + along_axis
    return index.flatten()


# Tables are kept for the process and never dropped: recorded CUDA graphs refer to where they lie in memory. A process
# meets a handful of sizes.
_wrapped_once = cache(_wrapped)


class KernelConv3d(nn.Conv3d):
    """A 3D convolution with a cubic kernel, zeros outside; ``symmetric`` averages the kernel over its 48 symmetries.

    A symmetric kernel of odd size commutes with every order and sign of the axes (so does a patch, whose stride is its
    size), and 27 weights of a 3x3x3 kernel become 4 free ones: centre, faces, edges, corners.
    """

    is_periodic: ClassVar[bool] = False

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        symmetric: bool = False,
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding, dilation, groups, bias)
        average = _symmetriser(kernel) if symmetric else None
        self.register_buffer("average", average, persistent=False)
        if symmetric:
            # keep the variance that the initialisation chose
            with torch.no_grad():
                self.weight.mul_((kernel**3 / average.square().sum()).sqrt())

    def kernel(self) -> Tensor:
        """Return the kernel [outputs, inputs / groups, k, k, k] that is applied."""
        if self.average is None:
            return self.weight
        return (self.weight.flatten(2) @ self.average).view_as(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, outputs, ...] of a grid [B, inputs, n, n, n]."""
        settings = self.stride, self.padding, self.dilation, self.groups
        return functional.conv3d(x, self.kernel(), self.bias, *settings)


def _symmetriser(kernel: int) -> Tensor:
    """Return the matrix [k^3, k^3] that replaces each weight by the mean over its images."""
    index = torch.arange(kernel**3).view(kernel, kernel, kernel)
    average = torch.zeros(kernel**3, kernel**3)
    for order, signs in product(permutations(range(3)), product((False, True), repeat=3)):
        reversed_axes = [axis for axis in range(3) if signs[axis]]
        image = index.permute(order).flip(reversed_axes)
        average[index.flatten(), image.flatten()] += 1 / _N_SYMMETRIES
    return average


class PeriodicConv3d(KernelConv3d):
    """A 3D convolution on a periodic grid: exactly ``padding_mode="circular"`` with the reach of the kernel.

    Even kernels look one point further ahead than back. A stride s gives ceil(n / s) points.

    The grid is continued by one gather, channels last, and convolved without padding. The gradient of a periodic
    convolution is itself one, with the kernel mirrored, so the backward pass continues the gradient instead of
    computing gradients of the padding and folding them back. That is 1.5 to 4 times as fast as
    ``padding_mode="circular"`` (``benchmarks/periodic_conv.py`` measures it).

    Zero padding can be faster still, because it leaves out the products with zeros: ((3 n - 2) / 3 n)^3 of a 3x3x3
    kernel's are left, 0.58 for n = 4, 0.77 for 8, 0.88 for 16, 0.94 for 32. Not chosen: a halo for a whole block
    ((n + 2 h)^3 / n^3 of the work, twice and more up to 16 points), im2col (27 times the memory traffic), products in
    Fourier space (slower, and not exact in bfloat16).
    """

    is_periodic = True

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        symmetric: bool = False,
    ) -> None:
        super().__init__(
            inputs,
            outputs,
            kernel,
            stride=stride,
            dilation=dilation,
            groups=groups,
            bias=bias,
            symmetric=symmetric,
        )
        reach = dilation * (kernel - 1)
        self.before = reach // 2
        self.after = reach - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, outputs, ceil(n / stride), ...] of a grid [B, inputs, n, n, n]."""
        repeats_within_reach = self.after > min(x.shape[2:])
        if torch.compiler.is_compiling() or repeats_within_reach:
            return super().forward(continued(x, self.before, self.after))
        settings = self.stride[0], self.dilation[0], self.groups
        y = periodic_convolution(x, self.kernel(), self.before, self.after, *settings)
        if self.bias is None:
            return y
        return y + self.bias.to(y.dtype)[:, None, None, None]


class GridNorm(nn.BatchNorm3d):
    """Batch normalisation of grids.

    For channels last, PyTorch has GPU kernels in two dimensions alone: there planes are joined, which copies nothing.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of the input [B, C, n, n, n]."""
        if not x.is_cuda:
            return super().forward(x)
        planes = x.flatten(2, 3)
        return super().forward(planes).view_as(x)

    def _check_input_dim(self, x: Tensor) -> None:
        """Take four dimensions too.

        Overwritten although private: torch's own check is all that keeps BatchNorm3d from joined planes, and nothing
        public turns it off.
        """


def for_convolution(x: Tensor) -> Tensor:
    """Return [B, C, n, n, n] as convolutions want it, in their precision and channels last; where several share it."""
    return laid_out(x, convolution_dtype(x), torch.channels_last_3d)


def laid_out(x: Tensor, dtype: torch.dtype, memory_format: torch.memory_format) -> Tensor:
    """Return [B, C, n, n, n] in a precision and an order in memory; its gradient comes back in those of ``x``.

    ``Tensor.to`` leaves gradients in the order they arrive in. Operations whose input and gradient lie differently then
    walk through memory in strides: a batch norm's backward pass takes ten times as long on a CPU.
    """
    is_so_already = x.dtype is dtype and x.is_contiguous(memory_format=memory_format)
    if torch.compiler.is_compiling() or is_so_already:
        return x.to(dtype, memory_format=memory_format)
    return _LaidOut.apply(x, dtype, memory_format is torch.channels_last_3d)


class _LaidOut(torch.autograd.Function):
    """A copy in another precision or order of memory."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dtype: torch.dtype, last: bool) -> Tensor:
        """Return the copy, channels last or first."""
        return _copy(x, dtype, last)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Remember how the input lies."""
        x = inputs[0]
        lies_channels_last = x.movedim(1, -1).is_contiguous() and not x.is_contiguous()
        ctx.settings = x.dtype, lies_channels_last

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient as the input lies."""
        return _copy(gradient, *ctx.settings), None, None


def _copy(x: Tensor, dtype: torch.dtype, last: bool) -> Tensor:
    """Return a grid in a precision, channels last or first."""
    # Channels last is a permuted contiguous tensor here, since vmap knows no channels_last_3d; to() alone would take a
    # permuted tensor of the same precision for contiguous.
    if last:
        x = x.movedim(1, -1)
    copy = x.to(dtype, memory_format=torch.contiguous_format).contiguous()
    return copy.movedim(-1, 1) if last else copy


def convolution_dtype(x: Tensor) -> torch.dtype:
    """Return the precision that convolutions of ``x`` compute in."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def periodic_convolution(
    x: Tensor,
    kernel: Tensor,
    before: int,
    after: int,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve [B, C, x, y(, z)], a grid not smaller than ``before`` and ``after``, with a kernel [D, C, k, k(, k)]."""
    x = x.to(convolution_dtype(x))
    settings = before, after, stride, dilation, groups
    y, _ = _PeriodicConvolution.apply(x, kernel.to(x.dtype), *settings)
    return y


class _PeriodicConvolution(torch.autograd.Function):
    """Convolution of a grid not smaller than ``before`` and ``after``; gradients of first order only."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, before: int, after: int, stride: int, dilation: int, groups: int
    ) -> tuple[Tensor, Tensor]:
        """Return the convolution, and the continued input for the backward pass."""
        padded = continued(x, before, after)
        return _convolved(padded, weight, stride, dilation, groups), padded

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Save what the backward pass needs."""
        _, weight, *ctx.settings = inputs
        _, padded = output
        ctx.mark_non_differentiable(padded)
        ctx.save_for_backward(padded, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Return gradients of input and weights.

        The input's is the mirrored convolution of the continued gradient; with a stride it needs folding.
        """
        padded, weight = ctx.saved_tensors
        before, after, stride, dilation, groups = ctx.settings
        wants_input, wants_weight = ctx.needs_input_grad[:2]
        folds = wants_input and stride > 1
        axes = weight.ndim - 2
        settings = [stride] * axes, [0] * axes, [dilation] * axes, False, [0] * axes, groups
        wanted = [folds, wants_weight, False]
        for_padded, for_weight, _ = torch.ops.aten.convolution_backward(
            gradient, padded, weight, None, *settings, wanted
        )
        for_input = None
        if folds:
            for_input = _folded(for_padded, before, after)
        elif wants_input:
            continued_gradient = continued(gradient, after, before)
            for_input = _convolved(
                continued_gradient, _mirrored(weight, groups), 1, dilation, groups
            )
        return for_input, for_weight, None, None, None, None, None


def _mirrored(weight: Tensor, groups: int) -> Tensor:
    """Return the kernel of the transposed convolution: reversed along space, inputs and outputs swapped."""
    space = list(range(2, weight.ndim))
    by_group = weight.flip(space).unflatten(0, (groups, -1))
    return by_group.transpose(1, 2).flatten(0, 1)


def _convolved(x: Tensor, kernel: Tensor, stride: int, dilation: int, groups: int) -> Tensor:
    convolve = functional.conv3d if kernel.ndim == 5 else functional.conv2d
    return convolve(x, kernel, stride=stride, dilation=dilation, groups=groups)


def _folded(x: Tensor, before: int, after: int) -> Tensor:
    """Return the adjoint of ``continued``: what was added goes back to the points it repeats."""
    for axis in range(2, x.ndim):
        n = x.shape[axis] - before - after
        inside = x.narrow(axis, before, n).clone()
        inside.narrow(axis, n - before, before).add_(x.narrow(axis, 0, before))
        inside.narrow(axis, 0, after).add_(x.narrow(axis, before + n, after))
        x = inside
    return x
