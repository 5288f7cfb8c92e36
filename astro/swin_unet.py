"""Step 2: a U-Net of shifted-window transformer blocks, from Tikhonov images to what remains to be added to one."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class SwinUNet(nn.Module):
    """Shifted-window attention in a U-Net with dual upsampling; any image size, any batch.

    Patches of ``patch`` x ``patch`` pixels are embedded, halved in resolution and doubled in channels from level to
    level, then brought back: each upsampling mixes a pixel shuffle, which can place sharp detail, and a bilinear one,
    which leaves no checkerboard. Attention runs in windows of ``window`` x ``window`` tokens with a learned bias for
    every relative position; every second block shifts them by half. Tokens that padding adds are masked.

    Parameters
    ----------
    in_channels, out_channels : int
    conditions : int
        Numbers that describe the whole image, which scale and shift the channels of every level; 0 for none.
    embedding : int
        Channels of the first level.
    depths : sequence of int
        Blocks of each level, on the way down and again on the way up; the last level is passed once.
    heads : sequence of int, or int
        Of each level.
    window : int
    mlp_ratio : float
    patch : int
        1 or 2. With 2 a full-resolution layer of ``stem`` channels is carried across to the output.
    stem : int

    Source
    ------
    Liu et al., ICCV 2021 (windows, shifts, position bias); Fan, Liu, Liu, ISCAS 2022 (the U-Net and dual upsampling);
    Akhaury, Jablonka, Starck, Courbin, A&A 688, A6 (2024).
    """

    def __init__(
        self,
        *,
        in_channels=4,
        out_channels=1,
        conditions=0,
        embedding=48,
        depths=(2, 2, 2),
        heads=(3, 6, 12),
        window=8,
        mlp_ratio=2.0,
        patch=2,
        stem=16,
    ):
        super().__init__()
        heads = [heads] * len(depths) if isinstance(heads, int) else list(heads)
        if len(heads) != len(depths) or any((embedding << i) % h for i, h in enumerate(heads)):
            raise ValueError(f"heads is {heads}; give one per level, each a divisor of its channels")
        if patch not in (1, 2):
            raise ValueError(f"patch is {patch}; choose 1 or 2")
        self.arguments = {
            "in_channels": in_channels, "out_channels": out_channels, "conditions": conditions, "embedding": embedding,
            "depths": list(depths), "heads": heads, "window": window, "mlp_ratio": mlp_ratio, "patch": patch,
            "stem": stem,
        }  # fmt: skip
        self.patch, self.multiple = patch, patch << (len(depths) - 1)
        widths = [embedding << i for i in range(len(depths))]
        if patch == 1:
            self.stem, self.embed = None, nn.Conv2d(in_channels, embedding, 3, padding=1)
        else:
            self.stem = nn.Conv2d(in_channels, stem, 3, padding=1)
            self.embed = nn.Conv2d(stem, embedding, patch, patch)
        self.down = nn.ModuleList(
            _Level(c, n, h, window, mlp_ratio, conditions) for c, n, h in zip(widths, depths, heads)
        )
        self.merge = nn.ModuleList(_Merge(c) for c in widths[:-1])
        self.lift = nn.ModuleList(_DualUpsample(2 * c) for c in widths[:-1])
        self.join = nn.ModuleList(nn.Linear(2 * c, c) for c in widths[:-1])
        self.up = nn.ModuleList(
            _Level(c, n, h, window, mlp_ratio, conditions) for c, n, h in zip(widths[:-1], depths, heads)
        )
        self.norm = nn.LayerNorm(embedding)
        if patch == 1:
            self.head = nn.Conv2d(embedding, out_channels, 3, padding=1, bias=False)
        else:
            self.spread = nn.Linear(embedding, stem * patch**2)
            self.mix = nn.Conv2d(2 * stem, 2 * stem, 3, padding=1)
            self.head = nn.Conv2d(2 * stem, out_channels, 3, padding=1, bias=False)

    @classmethod
    def paper(cls):
        """The published configuration: patches of one pixel, 48 channels, depths 2, 6, 8, 16, eight heads."""
        return cls(
            in_channels=1, embedding=48, depths=(2, 6, 8, 16), heads=8, window=8, mlp_ratio=4.0, patch=1
        )  # fmt: skip

    def forward(self, images, conditions=None):
        """(B, in_channels, H, W) and (B, conditions) to (B, out_channels, H, W)."""
        height, width = images.shape[-2:]
        rows, columns = (-n % self.multiple for n in (height, width))
        if rows or columns:
            images = F.pad(images, (0, columns, 0, rows), mode="replicate")
        full = images if self.stem is None else F.gelu(self.stem(images))
        x = self.embed(full).permute(0, 2, 3, 1)
        skips = []
        for level, merge in zip(self.down, self.merge):
            x = level(x, conditions)
            skips.append(x)
            x = merge(x)
        x = self.down[-1](x, conditions)
        for i in reversed(range(len(self.merge))):
            x = self.join[i](torch.cat([self.lift[i](x), skips[i]], dim=-1))
            x = self.up[i](x, conditions)
        x = self.norm(x)
        if self.stem is None:
            return self.head(x.permute(0, 3, 1, 2))[..., :height, :width]
        x = F.pixel_shuffle(self.spread(x).permute(0, 3, 1, 2), self.patch)
        x = F.gelu(self.mix(torch.cat([x, full], dim=1)))
        return self.head(x)[..., :height, :width]


class _Level(nn.Module):
    """Blocks of one resolution, their windows shifted in turns."""

    def __init__(self, channels, depth, heads, window, mlp_ratio, conditions):
        super().__init__()
        self.film = nn.Linear(conditions, 2 * channels) if conditions else None
        self.blocks = nn.ModuleList(
            _Block(channels, heads, window, (i % 2) * (window // 2), mlp_ratio) for i in range(depth)
        )

    def forward(self, x, conditions):
        if self.film is not None:
            scale, shift = self.film(conditions)[:, None, None].chunk(2, dim=-1)
            x = x * (1 + scale) + shift
        for block in self.blocks:
            x = block(x)
        return x


class _Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, channels, heads, window, shift, mlp_ratio):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = _WindowAttention(channels, heads, window, shift)
        hidden = round(mlp_ratio * channels)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _WindowAttention(nn.Module):
    """softmax(q k^T / sqrt(d) + B) v within windows that are shifted by so many tokens."""

    def __init__(self, channels, heads, window, shift):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros(heads, (2 * window - 1) ** 2))
        nn.init.trunc_normal_(self.bias, std=0.02)
        place = torch.arange(window)
        apart = place[:, None] - place + window - 1
        index = apart[:, None, :, None] * (2 * window - 1) + apart[None, :, None, :]
        self.register_buffer("index", index.reshape(-1), persistent=False)
        self._masks = {}

    def forward(self, x):
        batch, height, width, channels = x.shape
        n, tokens = self.window, self.window**2
        rows, columns = -height % n, -width % n
        # A single window holds every token: shifting it would only cut it apart.
        shift = [self.shift if k > n else 0 for k in (height + rows, width + columns)]
        if rows or columns:
            x = F.pad(x, (0, 0, 0, columns, 0, rows))
        if any(shift):
            x = torch.roll(x, [-s for s in shift], dims=(1, 2))
        tall, wide = x.shape[1] // n, x.shape[2] // n
        qkv = self.qkv(x).view(batch, tall, n, wide, n, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(
            3, batch, tall * wide * self.heads, tokens, channels // self.heads
        )
        bias = self.bias[:, self.index].view(1, self.heads, tokens, tokens)
        if rows or columns or any(shift):
            bias = bias + self._mask(height, width, rows, columns, shift, x.device)[:, None]
        else:
            bias = bias.expand(tall * wide, -1, -1, -1)
        bias = bias.reshape(1, -1, tokens, tokens).to(q.dtype)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x.view(batch, tall, wide, self.heads, n, n, channels // self.heads).permute(0, 1, 4, 2, 5, 3, 6)
        x = self.out(x.reshape(batch, tall * n, wide * n, channels))
        if any(shift):
            x = torch.roll(x, shift, dims=(1, 2))
        return x[:, :height, :width]

    def _mask(self, height, width, rows, columns, shift, device):
        """0 between tokens of a window that were neighbours before the shift, -100 elsewhere; (windows, n^2, n^2)."""
        key = height, width, *shift, device
        if key not in self._masks:
            n = self.window
            labels = []
            for size, pad, s in ((height, rows, shift[0]), (width, columns, shift[1])):
                place = (torch.arange(size + pad) + s) % (size + pad)
                wrapped = torch.arange(size + pad) >= size + pad - s
                labels.append((wrapped + 2 * (place >= size)).to(torch.int64))
            label = labels[0][:, None] * 4 + labels[1]
            label = label.view(len(labels[0]) // n, n, -1, n).permute(0, 2, 1, 3).reshape(-1, n * n)
            # The last alone is kept: one of a large piece takes 150 MB.
            self._masks = {key: torch.where(label[:, :, None] == label[:, None], 0.0, -100.0).to(device)}
        return self._masks[key]


class _Merge(nn.Module):
    """Four neighbouring tokens into one of twice the channels."""

    def __init__(self, channels):
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(4 * channels), nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x):
        batch, height, width, channels = x.shape
        x = x.view(batch, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
        return self.reduce(self.norm(x.reshape(batch, height // 2, width // 2, 4 * channels)))


class _DualUpsample(nn.Module):
    """Twice the resolution and half the channels, by a pixel shuffle and bilinearly, mixed."""

    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        self.expand, self.shuffled = nn.Linear(channels, 2 * channels, bias=False), nn.Linear(half, half, bias=False)
        self.keep, self.smooth = nn.Linear(channels, channels, bias=False), nn.Linear(channels, half, bias=False)
        self.slopes = nn.Parameter(torch.full((2,), 0.25))
        self.mix = nn.Linear(channels, half, bias=False)

    def forward(self, x):
        sharp = F.prelu(self.expand(x), self.slopes[:1]).permute(0, 3, 1, 2)
        sharp = self.shuffled(F.pixel_shuffle(sharp, 2).permute(0, 2, 3, 1))
        smooth = F.prelu(self.keep(x), self.slopes[1:]).permute(0, 3, 1, 2)
        smooth = F.interpolate(smooth, scale_factor=2, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
        return self.mix(torch.cat([sharp, self.smooth(smooth)], dim=-1))


def flops(network, height, width):
    """Floating-point operations of one image of so many pixels, counted by torch (products and sums, two each)."""
    from torch.utils.flop_counter import FlopCounterMode

    arguments = network.arguments
    images = torch.zeros(1, arguments["in_channels"], height, width)
    conditions = torch.zeros(1, arguments["conditions"]) if arguments["conditions"] else None
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images, conditions)
    return counter.get_total_flops()


def parameters(network):
    """How many weights there are."""
    return sum(math.prod(p.shape) for p in network.parameters())
