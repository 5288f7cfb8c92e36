"""The three steps on batches of tiles or stamps, on a torch device that nothing leaves in between."""

import sys
from typing import NamedTuple

import numpy as np
import torch

from deconjugate.astro.debias_torch import debias
from deconjugate.astro.forward_torch import TorchModel
from deconjugate.astro.guess import OVERLAP, NetworkGuess, SparseGuess
from deconjugate.astro.guess_torch import AT_A_TIME, LEAST_AT_A_TIME, guess_images
from deconjugate.astro.points_torch import Stars, find_points, point_images
from deconjugate.astro.support_torch import Views, find_supports, significance
from deconjugate.astro.three_steps import BETTER, STEP_1, Clock, Frame
from deconjugate.astro.tikhonov_torch import choose_regularization, tikhonov
from deconjugate.operators.memory_torch import is_full
from deconjugate.operators.precision_torch import plain_arithmetic
from deconjugate.operators.starlet import Starlet

BYTES = 450  # that a padded fine pixel takes at most, over all steps but the network
SHARE = 0.6  # of the memory that is free on a GPU
ON_PROCESSOR = 2**18  # padded fine pixels at a time on a processor, whose caches hold no more
LARGEST = 2048  # frames at a time


class Steps(NamedTuple):
    """What the three steps give for a batch."""

    images: dict  # by step, float32 tensors (N, H, W) on the padded fine grid
    coefficients: torch.Tensor  # bool (N, planes, h, w)
    sources: torch.Tensor  # bool (N, h, w)
    regularization: torch.Tensor  # float64 (N,)
    replaced: torch.Tensor  # bool (N,)


class TorchSteps:
    """The three steps on a device, for frames of one size.

    The dictionary is the starlet. Where a GPU has no room for a batch it is taken in halves, down to one frame, the
    network's pieces likewise; then the processor goes on. Standard error tells.

    Parameters
    ----------
    device : torch.device
    settings : deconjugate.astro.three_steps.Settings
    timings : dict
        Seconds by step are added; on a GPU a step may hand its work on to the next.
    """

    def __init__(self, device, settings, timings):
        self.device, self.settings, self.timings = torch.device(device), settings, timings
        if self.device.type == "cuda" and isinstance(settings.guess, NetworkGuess):
            # Where a full GPU has sent the network to the processor, an earlier frame say, all stay together.
            self.device = next(settings.guess.network.parameters()).device
        self.most, self.at_a_time = LARGEST, AT_A_TIME[self.device.type]
        self._kept = None, None

    def at_once(self, model):
        """How many frames of a data model go together."""
        pixels = int(np.prod(model.domain_shape))
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            free += torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            count = int(SHARE * free) // (BYTES * pixels)
        else:
            count = ON_PROCESSOR // pixels
        return max(1, min(count, self.most))

    @torch.no_grad()
    def __call__(self, models, psfs, data, weight):
        """The steps for frames with one data model and PSF, or with one for each.

        Parameters
        ----------
        models, psfs : lists
            One of each, or one of each for every frame.
        data, weight : arrays or tensors (N, h, w)
            In units of their noise.

        Yields
        ------
        Which frames these are, their model, data and weight as tensors, and their :class:`Steps`, batch by batch.
        """
        first = 0
        while first < len(data):
            some, found = slice(first, min(first + self.at_once(models[0]), len(data))), None
            try:
                # Half precision, and TF32, move images by more than a hundredth of a sigma.
                with plain_arithmetic(self.device):
                    found = self._steps(models, psfs, data[some], weight[some], some)
            except RuntimeError as error:
                if not is_full(error) or not self._make_room(some.stop - some.start):
                    raise
            if found is None:
                torch.cuda.empty_cache()  # with the error went what it had kept of the batch
                continue
            yield some, *found
            first = some.stop

    def _steps(self, models, psfs, data, weight, some):
        """One batch."""
        settings, clock = self.settings, Clock(self.timings)
        data, weight = (torch.as_tensor(x, dtype=torch.float32).to(self.device) for x in (data, weight))
        model, views, stars = self._views(*(x[some] if len(x) > 1 else x for x in (models, psfs)))
        starlet = Starlet(model.native_shape, settings.n_scales)
        y, w = model.embed(data), model.embed(weight)
        lam = self._regularization(model, y, w)
        first = start = tikhonov(model, y, w, lam, rtol=STEP_1)
        clock("tikhonov")
        snr = significance(data, weight, views)
        supports = smooth = find_supports(model, starlet, data, weight, views, snr, settings.k_sigma)
        clock("support")
        points = find_points(model, data, weight, snr, stars, np.arange(len(data)))
        light, again = point_images(model, points, len(data)).float(), lam
        if len(points.flux):
            starry = points.frame.unique()
            part, w_part = model.take(starry), weight[starry]
            rest = torch.where(w_part > 0, data[starry] - part.native(part.apply(light[starry])), 0.0)
            found = find_supports(part, starlet, rest, w_part, views.take(starry), k_sigma=settings.k_sigma)
            smooth = supports.put(starry, found)
            y = y.index_copy(0, starry, part.embed(rest))
            again = lam.index_copy(0, starry, self._regularization(part, y[starry], w[starry]))
            fitted = tikhonov(part, y[starry], w[starry], again[starry], rtol=STEP_1)
            start = start.index_copy(0, starry, fitted)
        clock("stars")
        second, third = torch.zeros_like(first), torch.zeros_like(first)
        replaced = torch.zeros(len(data), dtype=torch.bool, device=self.device)
        lit = smooth.allowed.flatten(1).any(1).nonzero()[:, 0]
        if len(lit):
            given = (y, w, start, again, light)
            second[lit], third[lit], chi2 = self._corrected(settings.guess, model, starlet, smooth, given, lit, clock)
            if isinstance(settings.guess, NetworkGuess):
                good = (weight[lit] > 0).sum((1, 2))
                doubtful = chi2 > 1 + 3 * (2 / good).sqrt()
                other = lit[doubtful]
                if len(other):
                    _, images, less = self._corrected(SparseGuess(), model, starlet, smooth, given, other, clock)
                    better = less < BETTER * chi2[doubtful]
                    third[other[better]], replaced[other[better]] = images[better], True
        images = {"tikhonov": first, settings.guess.name: second + light, "debiased": third + light}
        return model, data, weight, Steps(images, supports.coefficients, supports.sources > 0, lam, replaced)

    def _corrected(self, guess, model, starlet, supports, given, frames, clock):
        """Of some frames the guess, what the correction makes of it, and the mean square of what that leaves."""
        settings = self.settings
        model, supports, (y, w, start, lam, light) = (
            model.take(frames),
            supports.take(frames),
            (x[frames] for x in given),
        )
        image = guess_images(guess, model, y, w, start, lam, supports.allowed, settings, self.at_a_time)
        image = torch.where(supports.allowed, image, 0.0)
        clock(guess.name)
        options = {"positivity": settings.positivity, "maxiter": settings.maxiter}
        options["flux_tolerance"] = guess.flux_tolerance
        final = debias(model, starlet, y, w, image, supports, floor=-light, **options).image
        left = y - model.apply(final)
        chi2 = (left.square() * w).sum((1, 2), dtype=torch.float64) / (w > 0).sum((1, 2))
        clock("debiased")
        return image, final, chi2

    def _regularization(self, model, y, w):
        chosen = self.settings.regularization
        if chosen == "auto":
            return choose_regularization(model, y, w)
        return torch.full((len(y),), float(chosen), dtype=torch.float64, device=self.device)

    def _views(self, models, psfs):
        key = tuple(map(id, models))
        if self._kept[0] != key:
            model = TorchModel(models, self.device)
            views = Views(psfs, model.native_shape, model.upsample, self.device)
            self._kept = key, (model, views, Stars(models, psfs, self.device))
        return self._kept[1]

    def _make_room(self, count):
        """Whether there is a way to go on."""
        guess = self.settings.guess
        if count > 1:
            self.most = count // 2
            what = f"batches of {self.most} are tried"
        elif isinstance(guess, NetworkGuess) and self.at_a_time > LEAST_AT_A_TIME:
            self.at_a_time //= 2
            what = f"the network takes {self.at_a_time} pixels at a time"
        elif isinstance(guess, NetworkGuess) and guess.piece > 3 * OVERLAP:
            guess.piece //= 2
            what = f"pieces of {guess.piece} fine pixels are tried"
        elif self.device.type != "cpu":
            self.device, self._kept = torch.device("cpu"), (None, None)
            if isinstance(guess, NetworkGuess):
                guess.network = guess.network.to("cpu")
            what = "the processor goes on"
        else:
            return False
        print(f"deconvolve: the GPU's memory is full: {what}", file=sys.stderr)
        return True


def deconvolve_stamps(steps, models, psfs, data, weight, bar):
    """Stamps of one tile each, batch by batch.

    Parameters
    ----------
    steps : TorchSteps
    models, psfs : lists
        Of one, or one for each stamp.
    data, weight : (N, h, w) arrays
    bar : tqdm

    Returns
    -------
    list of deconjugate.astro.three_steps.Frame
    """
    settings, frames = steps.settings, []
    units = np.array([1.0 / np.sqrt(np.median(w[w > 0])) for w in weight])
    y = (data / units[:, None, None]).astype(np.float32)
    w = (weight * units[:, None, None] ** 2).astype(np.float32)
    for some, model, tensor, weights, found in steps(models, psfs, y, w):
        unit = torch.from_numpy(units[some]).to(model.device).float()[:, None, None]
        residual, chi2, ratio = _residual(model, tensor, weights, found)
        names = list(found.images) if settings.stages else ["debiased"]
        stages = {name: _host(model.crop(found.images[name]) * unit) for name in names}
        parts = (residual, found.coefficients, chi2, ratio, found.regularization, found.replaced)
        residual, support, chi2, ratio, lam, replaced = map(_host, parts)
        for i in range(len(residual)):
            mismatch = models[some.start + i if len(models) > 1 else 0].mismatch
            images = {name: stage[i] for name, stage in stages.items()}
            frames.append(
                Frame(images, residual[i], support[i], float(chi2[i]), float(ratio[i]), mismatch, float(lam[i]),
                      float(replaced[i]))
            )  # fmt: skip
        bar.update(len(residual))
    return frames


def tile_results(steps, psfs, given, places):
    """What :func:`deconjugate.astro.three_steps.deconvolve_frame` needs of every tile, batch by batch.

    Parameters
    ----------
    steps : TorchSteps
    psfs : deconjugate.astro.frame_psf.FramePsf
    given : callable
        Data and weight of a place in units of the noise, (h, w) arrays.
    places : list of pairs of slices
    """
    while places:
        count = steps.at_once(psfs.at(places[0])[0])
        now, places = places[:count], places[count:]
        pairs = [psfs.at(place) for place in now]
        if all(model is pairs[0][0] for model, _ in pairs):
            pairs = pairs[:1]
        models, arrays = (list(part) for part in zip(*pairs))
        y, w = (np.stack(arrays) for arrays in zip(*map(given, now)))
        for some, _, _, _, found in steps(models, arrays, y, w):
            images = {name: _host(image) for name, image in found.images.items()}
            parts = [_host(part) for part in found[1:]]
            for i, place in enumerate(now[some]):
                coefficients, sources, lam, replaced = (part[i] for part in parts)
                mismatch = pairs[some.start + i if len(pairs) > 1 else 0][0].mismatch
                yield place, {name: x[i] for name, x in images.items()}, coefficients, sources, lam, replaced, mismatch


def _residual(model, data, weight, found):
    """(y - A x) / sigma of each stamp, its mean square, and model over data in the sources, NaN where there is none."""
    image = found.images["debiased"].clone()
    for axis, (inside, n) in enumerate(zip(model.inside, model.domain_shape), start=1):
        # The grid is larger than frame and margins for the sake of the transform.
        image.narrow(axis, inside.stop + inside.start, n - inside.stop - inside.start).zero_()
    fitted = model.native(model.apply(image))
    residual = (data - fitted) * weight.sqrt()
    chi2 = residual.square().sum((1, 2), dtype=torch.float64) / (weight > 0).sum((1, 2))
    inside = found.sources & (weight > 0)
    counts, modelled = ((inside * x).sum((1, 2), dtype=torch.float64) for x in (data, fitted))
    return residual, chi2, torch.where(counts != 0, modelled / counts, torch.nan)


def _host(tensor):
    return tensor.numpy(force=True)
