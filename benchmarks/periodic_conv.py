"""Periodic convolution against PyTorch's zero-padded and circular ones: forward and backward.

    python benchmarks/periodic_conv.py [--seconds 0.3] [--repeats 7] [--device cpu] [--candidates] [--json]

Zeros is nn.Conv3d with zero padding, the yardstick; circular is nn.Conv3d with padding_mode="circular", the peer; both
channels last, as ours. Ratios are speeds over that of zeros, the median of the repeats (lowest-highest); all run in
turns within a repeat, so that what else the machine does hits them alike. "useful" is the share of a periodic
convolution's products that zero padding does not leave out: the ratio that equal efficiency gives.

``--candidates`` adds the ways that were not chosen: continuing the grid by concatenation, by index, in one copy whose
gradient is folded back, im2col with a matrix product, and products in Fourier space.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from taskgroup.models.layers import PeriodicConv3d

# batch, channels, points an axis, kernel, stride
CASES = (
    (64, 32, 4, 3, 1),
    (32, 16, 8, 3, 1),
    (32, 32, 8, 3, 1),
    (16, 16, 16, 3, 1),
    (16, 32, 16, 3, 1),
    (4, 32, 32, 3, 1),
    (16, 32, 16, 3, 2),
    (16, 32, 18, 3, 3),
    (16, 32, 16, 5, 1),
)
GPU_CASES = tuple((8 * batch, *rest) for batch, *rest in CASES)  # a GPU wants more at once
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def by_concatenation(x: Tensor, layer: PeriodicConv3d) -> Tensor:
    """Three concatenations, one an axis."""
    for axis in (2, 3, 4):
        n = x.shape[axis]
        x = torch.cat(
            [x.narrow(axis, n - layer.before, layer.before), x, x.narrow(axis, 0, layer.after)],
            dim=axis,
        )
    return _valid(x, layer)


def by_index(x: Tensor, layer: PeriodicConv3d) -> Tensor:
    """Three gathers, one an axis."""
    for axis in (2, 3, 4):
        index = (
            torch.arange(-layer.before, x.shape[axis] + layer.after, device=x.device)
            % x.shape[axis]
        )
        x = x.index_select(axis, index)
    return _valid(x, layer)


def by_functional_pad(x: Tensor, layer: PeriodicConv3d) -> Tensor:
    """What nn.Conv3d does."""
    return _valid(functional.pad(x, (layer.before, layer.after) * 3, mode="circular"), layer)


def by_im2col(x: Tensor, layer: PeriodicConv3d) -> Tensor:
    """All neighbourhoods gathered, then one matrix product; stride 1."""
    kernel, n = layer.kernel_size[0], x.shape[-1]
    points = x.permute(0, 2, 3, 4, 1)
    steps = range(-layer.before, kernel - layer.before)
    near = [points.roll((-i, -j, -k), (1, 2, 3)) for i in steps for j in steps for k in steps]
    weight = layer.weight.permute(2, 3, 4, 1, 0).flatten(0, 3)
    return (torch.cat(near, dim=-1) @ weight).view(len(x), n, n, n, -1).permute(0, 4, 1, 2, 3)


def by_fourier(x: Tensor, layer: PeriodicConv3d) -> Tensor:
    """Products in Fourier space; stride 1, float32."""
    axes, n = (2, 3, 4), x.shape[-1]
    kernel = functional.pad(layer.weight.flip(axes), (0, n - layer.kernel_size[0]) * 3)
    spectrum = torch.fft.rfftn(x, dim=axes).permute(2, 3, 4, 0, 1)
    weights = torch.fft.rfftn(kernel, dim=axes).permute(2, 3, 4, 1, 0)
    y = torch.fft.irfftn((spectrum @ weights).permute(3, 4, 0, 1, 2), s=(n, n, n), dim=axes)
    return y.roll((-layer.after,) * 3, axes)


def _valid(x: Tensor, layer: PeriodicConv3d) -> Tensor:
    return functional.conv3d(x, layer.weight, None, layer.stride)


def contestants(layer: PeriodicConv3d, candidates: bool) -> dict[str, Callable[[Tensor], Tensor]]:
    """Name -> convolution, all with the same weights."""
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    settings = {"stride": stride, "padding": kernel // 2, "bias": False}
    zeros = nn.Conv3d(layer.in_channels, layer.out_channels, kernel, **settings).to(layer.weight)
    circular = nn.Conv3d(
        layer.in_channels, layer.out_channels, kernel, padding_mode="circular", **settings
    )
    for other in (zeros, circular.to(layer.weight)):
        other.load_state_dict(layer.state_dict())
        other.to(memory_format=torch.channels_last_3d)
    ways = {"zeros": zeros, "circular": circular, "ours": layer}
    if candidates:
        ways |= {
            name: lambda x, way=way: way(x, layer)
            for name, way in _CANDIDATES.items()
            if _suits(name, layer)
        }
    return ways


_CANDIDATES = {
    "concatenation": by_concatenation,
    "index": by_index,
    "functional.pad": by_functional_pad,
    "im2col": by_im2col,
    "fourier": by_fourier,
}


def _suits(name: str, layer: PeriodicConv3d) -> bool:
    if name == "fourier" and layer.weight.dtype != torch.float32:
        return False
    return layer.stride[0] == 1 or name not in ("im2col", "fourier")


def check(ways: dict[str, Callable[[Tensor], Tensor]], x: Tensor) -> None:
    """All but zeros compute the same."""
    expected = ways["circular"](x).float()
    tolerance = 1e-4 if x.dtype == torch.float32 else 0.05
    for name in ways.keys() - {"zeros"}:
        torch.testing.assert_close(ways[name](x).float(), expected, rtol=tolerance, atol=tolerance)


def measure(case: tuple[int, ...], dtype: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Speeds of all ways at one size."""
    batch, channels, n, kernel, stride = case
    torch.manual_seed(0)
    layer = PeriodicConv3d(channels, channels, kernel, stride, bias=False).to(
        arguments.device, DTYPES[dtype]
    )
    layer.to(memory_format=torch.channels_last_3d)
    x = torch.randn(batch, channels, n, n, n, device=arguments.device, dtype=DTYPES[dtype])
    x = x.to(memory_format=torch.channels_last_3d).requires_grad_()
    ways = contestants(layer, arguments.candidates)
    check(ways, x.detach())
    gradient = torch.ones_like(layer(x))
    passes = {name: both_passes(way, x, gradient) for name, way in ways.items()}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(arguments.repeats + 1):
        for name, step in passes.items():
            rate = _rate(step, arguments)
            if repeat:  # the first one warms up
                rates[name].append(rate)
    products = batch * channels**2 * (kernel * -(-n // stride)) ** 3
    row: dict[str, object] = {
        "batch": batch,
        "channels": channels,
        "n": n,
        "kernel": kernel,
        "stride": stride,
    }
    row |= {"dtype": dtype, "useful": _useful(n, kernel, stride)}
    row["zeros_gflop_per_s"] = 6e-9 * products * row["useful"] * statistics.median(rates["zeros"])
    for name in ways.keys() - {"zeros"}:
        ratios = [a / b for a, b in zip(rates[name], rates["zeros"], strict=True)]
        row[name] = {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
    return row


def both_passes(way: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor) -> Callable[[], None]:
    """Forward and backward; on a GPU ten times, recorded as a CUDA graph, so that asking for them does not count."""

    def step() -> None:
        x.grad = None
        way(x).backward(gradient)

    if not x.is_cuda:
        return step
    with torch.cuda.stream(torch.cuda.Stream()):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(10):
            step()
    return graph.replay


def _rate(step: Callable[[], None], arguments: argparse.Namespace) -> float:
    """Forward and backward passes per second."""
    on_gpu = torch.device(arguments.device).type == "cuda"
    synchronise = torch.cuda.synchronize if on_gpu else lambda: None
    synchronise()
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < arguments.seconds:
        step()
        synchronise()
        steps += 10 if on_gpu else 1
    return steps / (time.perf_counter() - started)


def _useful(n: int, kernel: int, stride: int) -> float:
    """Share of products that zero padding does not leave out."""
    inside = sum(0 <= i + j - kernel // 2 < n for i in range(0, n, stride) for j in range(kernel))
    return (inside / (kernel * -(-n // stride))) ** 3


def main() -> None:
    """Measure all cases and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.3, help="of measuring one way once")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument(
        "--candidates", action="store_true", help="also the ways that were not chosen"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    cases = GPU_CASES if torch.device(arguments.device).type == "cuda" else CASES
    rows = [measure(case, dtype, arguments) for dtype in DTYPES for case in cases]
    if arguments.json:
        print(json.dumps(rows))
        return
    names = ["ours", "circular", *(_CANDIDATES if arguments.candidates else ())]
    print(f"{'batch':>5} {'channels':>8} {'n':>3} {'kernel':>6} {'stride':>6} {'dtype':>8} {'zeros GFLOP/s':>13} "
          f"{'useful':>6} " + " ".join(f"{name:>16}" for name in names))  # fmt: skip
    for row in rows:
        shown = (row.get(name) for name in names)
        cells = (f"{c['ratio']:.2f} ({c['low']:.2f}-{c['high']:.2f})" if c else "-" for c in shown)
        print(f"{row['batch']:>5} {row['channels']:>8} {row['n']:>3} {row['kernel']:>6} {row['stride']:>6} "
              f"{row['dtype']:>8} {row['zeros_gflop_per_s']:>13.0f} {row['useful']:>6.2f} "
              + " ".join(f"{cell:>16}" for cell in cells))  # fmt: skip


if __name__ == "__main__":
    main()
