"""Step 2 for a batch of frames: :mod:`deconjugate.astro.guess` on a torch device."""

import numpy as np
import torch

from deconjugate.astro.guess import CONTEXT, MARGIN, OVERLAP, NetworkGuess, inner_share
from deconjugate.astro.network_input_torch import prepare
from deconjugate.astro.sparse_torch import sparse_deconvolution
from deconjugate.astro.tiling import tiling

AT_A_TIME = {"cpu": 2**18, "cuda": 2**23}  # fine pixels that the network takes at most, but for one piece
LEAST_AT_A_TIME = 2**19  # of a GPU
ROUND = {"cpu": 1, "cuda": 16}  # fine pixels to a multiple of which what it sees is widened: see below


def guess_images(guess, model, data, weight, start, regularization, region, settings, at_a_time):
    """The image of each frame without its noise, (N, H, W), by the network or by sparsity.

    Parameters
    ----------
    guess : deconjugate.astro.guess.NetworkGuess or SparseGuess
    model : deconjugate.astro.forward_torch.TorchModel
    data, weight : float32 tensors (N, h, w) on the padded native grid
    start : float32 tensor (N, H, W)
        The Tikhonov images.
    regularization : float64 tensor (N,)
    region : bool tensor (N, H, W)
        Where light is allowed, somewhere in each frame.
    settings : deconjugate.astro.three_steps.Settings
    at_a_time : int
        Fine pixels that the network takes at most, but for one piece.
    """
    if not isinstance(guess, NetworkGuess):
        return _classical(model, data, weight, start, region, settings)
    seen = prepare(model, data, weight, start, regularization)
    images = seen.images(_outputs(guess, model, seen, region, at_a_time))
    images = images.clamp(min=0.0) if settings.positivity else images
    cut = _touching_edges(region[(slice(None), *model.inside)], model.upsample).nonzero()[:, 0]
    if not len(cut):
        return images
    # Of a source that an edge cuts the network makes a spike at the edge.
    share = torch.from_numpy(inner_share(model)).to(model.device)
    given = (x[cut] for x in (data, weight, start, region))
    classical = _classical(model.take(cut), *given, settings)
    return images.index_copy(0, cut, classical + share * (images[cut] - classical))


def _classical(model, data, weight, start, region, settings):
    return sparse_deconvolution(
        model,
        data,
        weight,
        start,
        region=region,
        k_sigma=settings.k_sigma,
        n_scales=settings.n_scales + round(np.log2(model.upsample)),
        positivity=settings.positivity,
    )


def _outputs(guess, model, seen, region, at_a_time):
    """What the network says of each frame, around its sources: frames of which it sees as much go together."""
    out = torch.zeros_like(seen.base)
    views = _views(model, region, ROUND[model.device.type])
    sizes = views[:, 2:]
    for size in np.unique(sizes, axis=0):
        some = np.flatnonzero((sizes == size).all(axis=1))
        pieces = tiling(size, guess.piece, OVERLAP)
        count = max(1, at_a_time // int(np.prod(pieces.size)))
        for place in pieces.places():
            window = torch.from_numpy(pieces.window(place).astype(np.float32)).to(model.device)
            for first in range(0, len(some), count):
                here = _pixels(some[first : first + count], views, place, model.device)
                if len(pieces.places()) > 1:
                    lit = region[here].flatten(1).any(1)
                    here = tuple(index[lit] for index in here)
                if len(here[0]):
                    channels = seen.channels.movedim(1, -1)[here].movedim(-1, 1).contiguous()
                    part = guess.network(channels, seen.conditions[here[0].flatten()])[:, 0]
                    out[here] += window * part.float()
    return out


def _pixels(frames, views, place, device):
    """The index of a piece of what the network sees of some frames, into tensors (N, H, W)."""
    rows, columns = (views[frames, axis, None] + np.arange(s.start, s.stop) for axis, s in enumerate(place))
    index = frames[:, None, None], rows[:, :, None], columns[:, None, :]
    return tuple(torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in index)


def _views(model, region, multiple):
    """First row and column, height and width of what the network sees of each frame, (N, 4) int array.

    Few sizes make large batches, but the image depends on what is seen: by 0.01 sigma where it is widened to multiples
    of 16, which attention fills up to in any case, by a whole sigma where to more.
    """
    ends = []
    for axis, n in zip((2, 1), model.domain_shape):
        held = region.any(axis).to(torch.uint8)
        first, last = held.argmax(1), n - held.flip(1).argmax(1)
        ends.append(torch.stack([first, last], dim=1))
    ends = torch.stack(ends, dim=2).cpu().numpy()  # (N, first and last, axis)
    low = np.array([max(inside.start - MARGIN, 0) for inside in model.inside])
    high = np.array([min(inside.stop + MARGIN, n) for inside, n in zip(model.inside, model.domain_shape)])
    start = np.maximum(ends[:, 0] - CONTEXT, low)
    stop = np.minimum(ends[:, 1] + CONTEXT, high)
    size = np.minimum(-(-(stop - start) // multiple) * multiple, high - low)
    start = np.minimum(start, high - size)
    return np.concatenate([start, size], axis=1)


def _touching_edges(region, width):
    """Which regions (N, H, W) reach into the outermost fine pixels, ``width`` of them."""
    inner = region[:, width:-width, width:-width].sum((1, 2))
    return inner < region.sum((1, 2))
