"""Transformers for images and text, at full width and with few layers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Encoder(nn.Module):
    """Normalization first, one matrix for queries, keys and values, as torchvision's ViT has it."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.0), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """ViT-B/16."""

    def __init__(self, depth: int = 2, width: int = 768) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 197, width) * 0.2)
        self.layers = nn.Sequential(*(_Encoder(width, 12, 4 * width) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        x = self.patches(x).reshape(n, 768, 14 * 14).permute(0, 2, 1)
        x = torch.cat([self.token.expand(n, -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.layers(x))[:, 0])


class _WindowAttention(nn.Module):
    """Attention within windows of 7 by 7, every second time moved by 3, as torchvision writes it."""

    def __init__(self, width: int, heads: int, shift: int) -> None:
        super().__init__()
        self.heads, self.shift, self.window = heads, shift, 7
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.bias_table = nn.Parameter(torch.randn(13 * 13, heads))
        place = torch.stack(torch.meshgrid(torch.arange(7), torch.arange(7), indexing="ij")).flatten(1)
        apart = (place[:, :, None] - place[:, None, :]).permute(1, 2, 0) + 6
        self.register_buffer("index", (apart[..., 0] * 13 + apart[..., 1]).flatten())

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        w, shift = self.window, self.shift if self.window < height else 0
        if shift:
            x = torch.roll(x, shifts=(-shift, -shift), dims=(1, 2))
        count = (height // w) * (width // w)
        x = x.view(batch, height // w, w, width // w, w, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch * count, w * w, channels)
        qkv = self.qkv(x).reshape(x.size(0), x.size(1), 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = (q * (channels // self.heads) ** -0.5).matmul(k.transpose(-2, -1))
        scores = scores + self.bias_table[self.index].view(w * w, w * w, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        if shift:
            mask = self._mask(x, height, width, shift)
            scores = scores.view(batch, count, self.heads, w * w, w * w) + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.heads, w * w, w * w)
        x = F.softmax(scores, dim=-1).matmul(v).transpose(1, 2).reshape(x.size(0), x.size(1), channels)
        x = self.project(x)
        x = x.view(batch, height // w, width // w, w, w, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch, height, width, channels)
        return torch.roll(x, shifts=(shift, shift), dims=(1, 2)) if shift else x

    def _mask(self, x: Tensor, height: int, width: int, shift: int) -> Tensor:
        """Keeps apart what only the roll made neighbours."""
        w = self.window
        regions = x.new_zeros((height, width))
        cuts = ((0, -w), (-w, -shift), (-shift, None))
        for number, (rows, columns) in enumerate((a, b) for a in cuts for b in cuts):
            regions[rows[0] : rows[1], columns[0] : columns[1]] = number
        regions = regions.view(height // w, w, width // w, w).permute(0, 2, 1, 3).reshape(-1, w * w)
        apart = regions.unsqueeze(1) - regions.unsqueeze(2)
        return apart.masked_fill(apart != 0, -100.0).masked_fill(apart == 0, 0.0)


class _SwinBlock(nn.Module):
    def __init__(self, width: int, heads: int, shift: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = _WindowAttention(width, heads, shift)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _Merge(nn.Module):
    """Four neighbours become one place of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[..., a::2, b::2, :] for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))]
        return self.reduce(self.norm(torch.cat(parts, -1)))


class Swin(nn.Module):
    """The first three stages of Swin-T, two blocks each."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 96, 4, 4), nn.LayerNorm(96)
        layers: list[nn.Module] = []
        for number, (width, heads) in enumerate(((96, 3), (192, 6), (384, 12))):
            if number:
                layers.append(_Merge(width // 2))
            layers += [_SwinBlock(width, heads, 0), _SwinBlock(width, heads, 3)]
        self.layers, self.last, self.head = nn.Sequential(*layers), nn.LayerNorm(384), nn.Linear(384, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.norm(self.patches(x).permute(0, 2, 3, 1)))
        x = self.last(x).permute(0, 3, 1, 2)
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class _SelfAttention(nn.Module):
    """Queries, keys and values by a matrix each; `fused` calls PyTorch's own attention."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        shape = (*x.shape[:2], self.heads, x.shape[2] // self.heads)
        q, k, v = (f(x).view(shape).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(shape[-1]) + mask
            y = torch.matmul(F.softmax(scores, dim=-1), v)
        return self.out(y.transpose(1, 2).contiguous().view(x.shape))


class _TextBlock(nn.Module):
    """Normalization last, as in BERT."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.attention = _SelfAttention(width, heads, fused)
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-12), nn.LayerNorm(width, 1e-12)
        self.grow, self.shrink = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.norm1(self.attention(x, mask) + x)
        return self.norm2(self.shrink(F.gelu(self.grow(x))) + x)


class Bert(nn.Module):
    """Token, position and segment embeddings, an attention mask, and the first token's pooled state."""

    def __init__(self, depth: int = 2, width: int = 768, heads: int = 12, words: int = 2000) -> None:
        super().__init__()
        self.words, self.positions, self.segments = (nn.Embedding(n, width) for n in (words, 512, 2))
        self.norm = nn.LayerNorm(width, 1e-12)
        self.layers = nn.ModuleList(_TextBlock(width, heads, fused=False) for _ in range(depth))
        self.pooler, self.head = nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0)
        x = self.norm(self.words(ids) + self.positions(places) + self.segments(torch.zeros_like(ids)))
        wide = (1.0 - mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
        for layer in self.layers:
            x = layer(x, wide)
        return self.head(torch.tanh(self.pooler(x[:, 0])))


class DistilBert(nn.Module):
    """No segments, PyTorch's own attention with a mask of booleans, a head behind every token."""

    def __init__(self, depth: int = 2, width: int = 768, heads: int = 12, words: int = 2000) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(words, width), nn.Embedding(512, width)
        self.norm = nn.LayerNorm(width, 1e-12)
        self.layers = nn.ModuleList(_TextBlock(width, heads, fused=True) for _ in range(depth))
        self.head = nn.Linear(width, 9)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
        x = self.norm(self.words(ids) + self.positions(places))
        wide = mask[:, None, None, :].bool().expand(ids.shape[0], 1, ids.shape[1], ids.shape[1])
        for layer in self.layers:
            x = layer(x, wide)
        return self.head(x)
