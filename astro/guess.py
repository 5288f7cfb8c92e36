"""Step 2: an image without the noise, from the network or from sparsity."""

import sys
from functools import lru_cache
from pathlib import Path

import numpy as np

from deconjugate.astro.network_input import LADDER, MARGIN, describe, prepare, seen_as, sky_of, uneven_noise
from deconjugate.astro.sparse import sparse_deconvolution
from deconjugate.astro.tiling import tiling
from deconjugate.operators.learned import weights

WEIGHTS = Path(__file__).parent / "weights" / "swin-unet.safetensors"
CONTEXT = 24  # fine pixels around the sources that it sees
EDGE = 8  # native pixels from an edge that cuts sources over which the classical guess takes its place
PIECE, OVERLAP = 768, 128  # fine pixels of what the network takes at once, and by which pieces overlap


def choose_guess(network, device="auto"):
    """The guess for ``network``: "default" or a path, or None for the classical one.

    Raises
    ------
    ValueError
        Another value; a device that is not there; a GPU without a network.
    deconjugate.operators.learned.weights.WeightsError
        Weights that cannot be used.
    """
    if network is None:
        if str(device) not in ("auto", "cpu"):
            raise ValueError(
                f"device is {str(device)!r}, but the network alone runs on a device and network is None: "
                'give "auto" or "cpu"'
            )
        return SparseGuess()
    if network != "default" and not str(network).endswith(".safetensors"):
        raise ValueError(f'network is {network!r}; give "default", the path of a .safetensors file, or None')
    from deconjugate.operators.learned.device import choose

    device = choose(device)
    path = WEIGHTS if network == "default" else Path(network)
    try:
        card = weights.read_card(path, architecture="SwinUNet")
        network = load(str(path), card["sha256"], str(device))
    except weights.WeightsError as error:
        raise weights.WeightsError(f"{error}; or do without (network=None, --no-network)") from error
    return NetworkGuess(network, f"{path.name}, sha256 {card['sha256'][:12]}")


@lru_cache(maxsize=2)
def load(path, sha256, device="cpu"):
    """A SwinUNet ready to use, from its weights and their card, whose ``sha256`` tells versions of a file apart."""
    from deconjugate.astro.swin_unet import SwinUNet

    network = SwinUNet(**weights.read_card(path, architecture="SwinUNet")["arguments"])
    weights.into(network, path, architecture="SwinUNet")
    return network.to(device).eval()


class SparseGuess:
    """The l1 image in the dictionary: see :func:`deconjugate.astro.sparse.sparse_deconvolution`."""

    name, origin = "classical", "none"
    flux_tolerance = 0.3  # of the correction that follows, in sigmas
    pace = np.inf  # a flux that falls slowly is worth steps of the correction: the l1 image is too faint everywhere

    def __call__(self, model, data, weight, start, local, region, settings):
        return sparse_deconvolution(
            model,
            data,
            weight,
            start,
            dictionary=settings.dictionary,
            k_sigma=settings.k_sigma,
            n_scales=settings.n_scales + round(np.log2(model.upsample)),
            positivity=settings.positivity,
            region=region,
        )


class GivenGuess:
    """An image that is given, stars and all: from another band, another program, an earlier run."""

    name, origin = "given", "given"
    flux_tolerance = 1.0
    pace = 0.9  # of what is left of a flux after a step: one that stays above is left to the last step

    def __init__(self, image):
        self.image = image

    def __call__(self, model, data, weight, start, local, region, settings):
        return self.image


class NetworkGuess:
    """The image of a :class:`deconjugate.astro.swin_unet.SwinUNet`, in overlapping pieces of bounded memory.

    Where a GPU has no room for a piece, it is taken in quarters, then on the processor; standard error tells.

    Parameters
    ----------
    network : SwinUNet
    origin : str
        Words for it.
    """

    name = "network"
    flux_tolerance = 1.0
    pace = 0.9  # of what is left of a flux after a step: one that stays above is left to the last step

    def __init__(self, network, origin=""):
        self.network, self.origin = network, origin
        self.piece = PIECE

    def __call__(self, model, data, weight, start, local, region, settings):
        if len(local.places) == 1:
            image = self._one(model, data, weight, start, local.lambdas[0], region)
        else:
            image = self._pieces(model, data, weight, start, local, region)
        image = np.maximum(image, np.float32(0.0)) if settings.positivity else image
        if not _touches_edge(region[model.inside], model.upsample):
            return image
        # Of a source that an edge cuts the data say little, and what is sparse errs less than what is likely.
        share = inner_share(model)
        classical = SparseGuess()(model, data, weight, start, local, region, settings)
        return classical + share * (image - classical)

    def _one(self, model, data, weight, start, regularization, region):
        seen = prepare(model, data, weight, start, regularization)
        here = tuple(
            slice(max(s.start - MARGIN, a - CONTEXT, 0), min(s.stop + MARGIN, b + CONTEXT, n))
            for s, n, (a, b) in zip(model.inside, model.domain_shape, _ends(region))
        )
        output = np.zeros(model.domain_shape, np.float32)
        output[here] = self.output(seen.channels[(slice(None), *here)], seen.conditions, region[here])
        return seen.image(output)

    def _pieces(self, model, data, weight, start, local, region):
        """Each piece at its own lambda, as a stamp would be seen, blended; Tikhonov's image where no light is."""
        level = float(np.median(weight[weight > 0]))
        sky = np.float32(sky_of(data, weight) / model.upsample**2)
        uneven = uneven_noise(model, weight, level)
        described = {lam: describe(local.piece_model, level, lam) for lam in set(local.lambdas)}
        image = start.copy()
        shown = tuple(slice(max(s.start - MARGIN, 0), s.stop + MARGIN) for s in model.inside)
        for place, lam in zip(local.places, local.lambdas):
            target, window = local.window(place)
            if not region[target].any():
                continue
            ends = _ends(region[target])
            box = tuple(
                slice(max(t.start, t.start + a - CONTEXT, s.start), min(t.stop, t.start + b + CONTEXT, s.stop))
                for t, s, (a, b) in zip(target, shown, ends)
            )
            images = [local.image(step * lam)[box] - sky for step in LADDER]
            seen = seen_as(images, local.image(lam)[box], uneven[box], *described[lam])
            part = seen.image(self.output(seen.channels, seen.conditions, region[box]))
            share = window[tuple(slice(s.start - t.start, s.stop - t.start) for s, t in zip(box, target))]
            image[box] += share * (part - seen.base)
        return image

    def output(self, channels, conditions, region):
        """The network's output (H, W) for channels (C, H, W) and conditions; zero in pieces without light."""
        import torch

        while True:
            try:
                return self._blended(channels, conditions, region)
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                if self.piece > 3 * OVERLAP:
                    self.piece //= 2
                    what = f"pieces of {self.piece} fine pixels are tried"
                else:
                    self.network = self.network.to("cpu")
                    what = "the network goes on on the processor"
                print(f"deconvolve: the GPU's memory is full: {what}", file=sys.stderr)

    def _blended(self, channels, conditions, region):
        import torch

        device = next(self.network.parameters()).device
        conditions = torch.from_numpy(conditions)[None].to(device)
        pieces = tiling(channels.shape[1:], self.piece, OVERLAP)
        output = np.zeros(channels.shape[1:], np.float32)
        with torch.inference_mode():
            for place in pieces.places():
                if not region[place].any():
                    continue
                piece = torch.from_numpy(np.ascontiguousarray(channels[(slice(None), *place)]))[None].to(device)
                part = self.network(piece, conditions)[0, 0].float().cpu().numpy()
                output[place] += pieces.window(place).astype(np.float32) * part
        return output


def _touches_edge(region, width):
    """Whether a region (H, W) reaches into the outermost fine pixels, ``width`` of them."""
    inner = region[width:-width, width:-width]
    return np.count_nonzero(inner) < np.count_nonzero(region)


def inner_share(model):
    """0 at the frame's edges and beyond, 1 at EDGE native pixels from them and more, smooth between; (H, W)."""
    shares = []
    for inside, n in zip(model.inside, model.domain_shape):
        k = np.arange(n)
        depth = np.minimum(k - inside.start, inside.stop - 1 - k) / (EDGE * model.upsample)
        t = np.clip(depth, 0.0, 1.0).astype(np.float32)
        shares.append(t * t * (3 - 2 * t))
    return np.minimum(shares[0][:, None], shares[1][None])


def _ends(region):
    """(first, last + 1) of the rows and of the columns that hold part of a region that is not empty."""
    for axis in (1, 0):
        held = np.flatnonzero(region.any(axis=axis))
        yield held[0], held[-1] + 1
