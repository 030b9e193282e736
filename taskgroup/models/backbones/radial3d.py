from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from taskgroup.datasets.composition import PROPERTIES, element_properties
from taskgroup.models.backbones.base import Backbone, BackboneSettings, Lesson
from taskgroup.models.lattice import reciprocal, volume
from taskgroup.models.pooling import POOLINGS
from taskgroup.models.views.scale_space import ScaleSpaceView, N_FIELDS

_FARTHEST = 5.0
_LARGEST_SCORE = 20.0


class Radial3DSettings(BackboneSettings):
    width: int = Field(24, ge=2, le=512, description="channels")
    blocks: int = Field(1, ge=0, le=8, description="blocks")
    sigmas: tuple[float, ...] = Field((0.0, 0.1, 0.2, 0.3, 0.4, 0.55, 0.7, 1.1, 1.7), description="smoothings")
    stride: int = Field(2, description="x")
    words: int = Field(16, description="x")
    heads: int = Field(8, description="x")
    reach: tuple[float, ...] = Field((0.5, 1.0, 1.6, 2.4), description="x")
    shells: tuple[float, ...] = Field((), description="x")
    reader: int = Field(64, description="x")
    bins: int = Field(0, description="x")


class ScaleNorm(nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("square", torch.ones(columns))
        self.register_buffer("matrix", torch.eye(columns))
        self.register_buffer("taught", torch.zeros(()))

    @torch.no_grad()
    def teach(self, points):
        x = points.double()
        self.mean.copy_(x.mean(0))
        std = x.std(0).clamp_min(1e-4)
        c = (x - x.mean(0)) / std
        w, u = torch.linalg.eigh(c.T @ c / len(c))
        self.matrix.copy_((u / (w + 1e-4).sqrt()) / std[:, None])
        self.taught.fill_(1)

    def forward(self, points):
        if self.training:
            self._update(points)
        deviation = (self.square - self.mean.square()).clamp_min(1e-6).sqrt()
        matrix = torch.where(self.taught > 0, self.matrix, torch.diag(1 / deviation))
        return ((points - self.mean) @ matrix).clamp(-8, 8)

    @torch.no_grad()
    def _update(self, points):
        rate = (1 - self.taught) * len(points) / (self.seen + len(points))
        self.seen += len(points)
        self.mean += rate * (points.mean(0) - self.mean)
        self.square += rate * (points.square().mean(0) - self.square)


class Reader(nn.Module):
    """points [P, C] -> presence logit + properties"""
    def __init__(self, columns, width, bins):
        super().__init__()
        self.n_binned = 3 if bins else 0
        self.register_buffer("bins", torch.linspace(-2, 4, max(bins, 2)), persistent=False)
        self.nb = bins
        self.net = nn.Sequential(
            nn.Linear(columns + bins * self.n_binned * 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1 + len(PROPERTIES)))

    def forward(self, scaled):
        if self.nb:
            b = scaled[:, [0, N_FIELDS, 2 * N_FIELDS]]
            scale = (self.nb - 1) / 6
            binned = torch.exp(-((b[:, :, None] - self.bins) * scale).square().clamp_max(30)).flatten(1)
            scaled = torch.cat([scaled, binned], 1)
        return self.net(scaled)


NUC = 0.4

class VoxelLesson(Lesson):
    name = "voxels"
    steps = 2000
    batch = 512
    lr = 0.01

    def __init__(self, reader, scale):
        self.pupils = nn.ModuleDict({"reader": reader, "scale": scale})

    def examples(self, dataset, numbers, rows):
        grid = rows["grid"]
        n = grid.shape[-1]
        random = np.random.default_rng(0)
        axis = np.arange(n) / n
        frac = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        images = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)
        inputs, labels = [], []
        for i, number in enumerate(numbers):
            sites, species = dataset.frac_coords[number], dataset.species[number]
            if not len(sites):
                continue
            apart = frac[:, None] - sites
            apart -= np.round(apart)
            lat = dataset.lattices[number]
            d2 = (((apart[:, :, None] + images) @ lat) ** 2).sum(-1)
            presence = np.exp(-d2 / (2 * NUC**2)).sum((1, 2))
            d = np.sqrt(d2.min(2))
            nearest, dist = d.argmin(1), d.min(1)
            near = np.flatnonzero(dist < 0.9)
            far = np.flatnonzero(dist >= 0.9)
            closest = np.array([d[:, a].argmin() for a in range(len(sites))])
            pick = np.concatenate([np.repeat(closest, 8), random.choice(near, 64), random.choice(far, 32) if len(far) else near[:0]])
            props = np.stack([element_properties(s) for s in species])
            lab = np.full((len(pick), 1 + len(PROPERTIES)), np.nan, np.float32)
            lab[:, 0] = presence[pick]
            is_near = dist[pick] < 0.9
            lab[is_near, 1:] = props[nearest[pick[is_near]]]
            inputs.append(grid[i].flatten(1).T[torch.from_numpy(pick)])
            labels.append(lab)
        return torch.cat(inputs), np.concatenate(labels)

    def begin(self, inputs):
        self.pupils.train()
        self.pupils["scale"].teach(inputs)

    def predict(self, inputs):
        return self.pupils["reader"](self.pupils["scale"](inputs))

    def parameters(self):
        return list(self.pupils["reader"].parameters())


class RadialConv(nn.Module):
    """S channels, K kernels each -> [B, S*K, n, n, n]"""
    def forward(self, x, bank):
        f = torch.fft.rfftn(x.float(), dim=(-3, -2, -1))
        y = f[:, :, None] * bank[:, None]
        return torch.fft.irfftn(y.flatten(1, 2), s=x.shape[-3:], dim=(-3, -2, -1))


class MixConv(nn.Module):
    def __init__(self, width, kernels):
        super().__init__()
        self.mix = nn.Parameter(torch.randn(width, kernels) * 0.5)

    def forward(self, x, bank):
        f = torch.fft.rfftn(x.float(), dim=(-3, -2, -1))
        gain = torch.einsum("ck,bkxyz->bcxyz", self.mix, bank)
        return torch.fft.irfftn(f * gain, s=x.shape[-3:], dim=(-3, -2, -1))


class Block(nn.Module):
    def __init__(self, width, words, kernels):
        super().__init__()
        self.say = nn.Linear(width, words)
        self.conv = MixConv(words, kernels)
        self.hear = nn.Sequential(nn.Linear(width + words, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.words = words

    def forward(self, points, shape, bank):
        B, n = shape
        said = self.say(points).view(B, n, n, n, self.words).movedim(-1, 1)
        heard = self.conv(said, bank).movedim(1, -1).reshape(-1, self.words)
        return points + self.hear(torch.cat([points, heard], 1))


class Radial3D(Backbone):
    Settings = Radial3DSettings
    autocast = False

    def __init__(self, config, view):
        super().__init__(config, view)
        s = config.backbone
        w = s.width
        self.s = s
        self.scale = ScaleNorm(view.n_fields)
        self.reader = Reader(view.n_fields, s.reader, s.bins)
        self.embed = nn.Sequential(nn.Linear(view.n_fields + 1 + len(PROPERTIES), 2 * w), nn.SiLU(), nn.Linear(2 * w, w), nn.SiLU())
        kernels = len(s.reach) + len(s.shells)
        self.blocks = nn.ModuleList(Block(w, s.words, kernels) for _ in range(s.blocks))
        self.score = nn.Linear(w, s.heads)
        self.dense = nn.Linear(w, 32)
        p = 1 + len(PROPERTIES)
        self.n_plain = 32 + 2 + p
        self.n_features = 3 * w + s.heads * w + 2 * (w + p) + self.n_plain

    @classmethod
    def view_class(cls, config):
        return ScaleSpaceView

    def lessons(self):
        return (VoxelLesson(self.reader, self.scale),)

    def bank(self, lattice, n):
        k = torch.fft.fftfreq(n, 1 / n, device=lattice.device)
        kz = torch.arange(n // 2 + 1, device=lattice.device, dtype=k.dtype)
        h = torch.stack(torch.meshgrid(k, k, kz, indexing="ij"), -1).flatten(0, 2)
        G = 2 * math.pi * (h @ reciprocal(lattice).transpose(1, 2).float())
        q = G.square().sum(-1).unflatten(1, (n, n, n // 2 + 1))
        parts = [torch.exp(-0.5 * a * a * q) for a in self.s.reach]
        g = q.sqrt()
        for d in self.s.shells:
            parts.append(torch.sinc(g * d / math.pi) * torch.exp(-0.5 * 0.35**2 * q))
        return torch.stack(parts, 1)

    def forward(self, rows, lattice):
        grid = rows["grid"]
        B, C, n = grid.shape[:3]
        points = grid.movedim(1, -1).reshape(-1, C)
        scaled = self.scale(points)
        read = self.reader(scaled)
        x = self.embed(torch.cat([scaled, read], 1))
        if self.blocks:
            bank = self.bank(lattice, n)
            for b in self.blocks:
                x = b(x, (B, n), bank)
        xs = x.view(B, -1, x.shape[1])
        mean = xs.mean(1)
        dev = ((xs - mean[:, None]).square().mean(1) + 1e-6).sqrt()
        big = xs.amax(1)
        share = (_LARGEST_SCORE * (self.score(x) / _LARGEST_SCORE).tanh()).exp().view(B, -1, self.s.heads)
        att = torch.einsum("bph,bpw->bhw", share, xs) / share.sum(1)[..., None]
        presence = nn.functional.softplus(read[:, :1] * 2).view(B, -1, 1)
        total = presence.sum(1)
        both = torch.cat([xs, read.view(B, -1, read.shape[1])], 2)
        at_atoms = (both * presence).sum(1) / total
        at_dev = (((both - at_atoms[:, None]).square() * presence).sum(1) / total + 1e-6).sqrt()
        density = total / xs.shape[1]
        dense = self.dense(x).view(B, -1, 32).mean(1)
        props = read.view(B, -1, read.shape[1]) * presence
        plain = [dense, density.log(), 0.2 / density, props.mean(1)]
        return torch.cat([mean, dev, big, att.flatten(1), at_atoms, at_dev, *plain], 1)
