"""Stars in the frames of a batch: :mod:`deconjugate.astro.points` on a torch device."""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from deconjugate.astro.points import (
    HALF_WIDTH,
    MIN_SNR,
    PASSES,
    Star,
    batches,
    is_point,
    normal_equations,
    templates,
)
from deconjugate.astro.shape import GAUSSIAN_FWHM, fwhm_pix
from deconjugate.astro.simulate import TARGET_FWHM


class FramePoints(NamedTuple):
    """Point sources by frame, place in pixels of the padded fine grid, and flux."""

    frame: torch.Tensor  # int64 (n,)
    places: torch.Tensor  # float64 (n, 2), rows and columns
    flux: torch.Tensor  # float64 (n,)

    def take(self, index):
        return FramePoints(*(part[index] for part in self))


class Stars:
    """The stars that the PSFs of a batch make: those whose windows are of one size go together.

    Parameters
    ----------
    models : list of deconjugate.astro.forward.DataModel
    psfs : list of (odd, odd) arrays on the fine grid
        One for all frames or one for each, both of them.
    device : torch.device or str
    """

    def __init__(self, models, psfs, device):
        self.widths = np.array([float(fwhm_pix(psf)) / models[0].upsample for psf in psfs])
        self.halves = np.array([max(2, round(HALF_WIDTH * width)) for width in self.widths])
        self.reaches = np.array([max(1, round(0.5 * width)) for width in self.widths])
        stars = [Star(model, half) for model, half in zip(models, self.halves)]
        self.frequencies, self.spectra, self.centred = {}, {}, {}
        self.group = np.zeros(len(stars), int)  # of each PSF, the place of its spectrum among those of its window
        for half in np.unique(self.halves):
            some = np.flatnonzero(self.halves == half)
            self.group[some] = np.arange(len(some))
            kept = [torch.from_numpy(f).to(device) for f in stars[some[0]].frequencies]
            self.frequencies[half] = kept
            self.spectra[half] = torch.from_numpy(np.stack([stars[i].spectrum for i in some])).to(device)
            self.centred[half] = torch.from_numpy(np.stack([stars[i].centred for i in some])).to(device)

    def which(self, frames):
        """The PSF of each of some frames."""
        return frames if len(self.halves) > 1 else np.zeros_like(frames)


def find_points(model, data, weight, snr, stars, frames):
    """As :func:`deconjugate.astro.points.find_points`, frame by frame of a batch.

    Parameters
    ----------
    model : deconjugate.astro.forward_torch.TorchModel
    data, weight : float32 tensors (N, h, w)
        Native frames.
    snr : tensor (N, h, w)
        Signal to noise of a point source at every pixel.
    stars : Stars
    frames : (N,) int array
        Which frames of those that ``stars`` knows these are.

    Returns
    -------
    FramePoints
    """
    u, which = model.upsample, stars.which(frames)
    y, w = model.embed(data.double()), model.embed(weight.double())
    corner = torch.tensor([s.start for s in model.frame], device=data.device)
    found = _peaks(data, weight, snr, stars.reaches[which])
    groups = []
    for half in np.unique(stars.halves[which]):
        mine = torch.from_numpy(stars.halves[which] == half).to(data.device)
        here = found[mine[found[:, 0]]]
        frame, peaks = here[:, 0], here[:, 1:] + corner
        star = torch.from_numpy(stars.group[which]).to(data.device)[frame]
        seen = _seen(w, frame, peaks, stars.centred[half][star], half)
        groups.append(_Group(stars, half, star[seen], frame[seen], peaks[seen], y, u))
    if not any(len(group.frame) for group in groups):
        empty = y.new_zeros(0)
        return FramePoints(empty.long(), y.new_zeros(0, 2), empty)
    for _ in range(PASSES):
        residual = y - model.apply(point_images(model, _together(groups), len(y)).float())
        for group in groups:
            group.step(w, residual)
    residual = y - model.apply(point_images(model, _together(groups), len(y)).float())
    widths = torch.from_numpy(u * stars.widths[which] / GAUSSIAN_FWHM).to(data.device)
    proven = torch.cat([group.proven(w, residual, widths) for group in groups])
    return _together(groups).take(proven)


def point_images(model, points, count):
    """Points at the target resolution on the padded fine grids of ``count`` frames: (N, H, W) float64."""
    height, width = model.domain_shape
    images = points.flux.new_zeros(count * height * width)
    reach = torch.arange(-7, 8, device=images.device)
    near = points.places.round()[:, :, None] + reach
    profile = torch.exp(-0.5 * ((near - points.places[:, :, None]) / (TARGET_FWHM / GAUSSIAN_FWHM)) ** 2)
    profile = profile / profile.sum(-1, keepdim=True)
    rows, columns = near[:, 0].long() % height, near[:, 1].long() % width
    place = (points.frame[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]
    stamps = points.flux[:, None, None] * profile[:, 0, :, None] * profile[:, 1, None, :]
    return images.index_add_(0, place.flatten(), stamps.flatten()).view(count, height, width)


class _Group:
    """Candidates whose windows are of one size, with their places and fluxes so far."""

    def __init__(self, stars, half, star, frame, peaks, y, upsample):
        self.frequencies, self.spectra, self.star = stars.frequencies[half], stars.spectra[half], star
        self.frame, self.peaks, self.upsample, self.half = frame, peaks, upsample, int(half)
        self.middles = upsample * peaks.double() + 0.5 * (upsample - 1)
        self.places = self.middles.clone()
        self.flux = y[frame, peaks[:, 0], peaks[:, 1]] / stars.centred[half][star, half, half]

    def _terms(self, some, weight, residual, order):
        rows, columns = _window(self.peaks[some], self.half)
        spectra = self.spectra[0] if len(self.spectra) == 1 else self.spectra[self.star[some]]
        terms = templates(self.frequencies, spectra, self.upsample, rows, columns, self.places[some], order)
        pixels = self.frame[some][:, None, None], rows, columns
        return terms, weight[pixels], residual[pixels]

    def step(self, weight, residual):
        """One of Gauss and Newton's."""
        for some in batches(len(self.flux)):
            normal, gradient = normal_equations(*self._terms(some, weight, residual, 1))
            step = torch.linalg.solve(normal, gradient[..., None])[..., 0]
            self.flux[some] = torch.maximum(self.flux[some] + step[:, 0], 0.1 * self.flux[some])
            limit = 0.5 * self.upsample
            self.places[some] += (step[:, 1:] / self.flux[some, None]).clamp(-limit, limit)

    def proven(self, weight, residual, widths):
        """Which of them are points."""
        target = (TARGET_FWHM / GAUSSIAN_FWHM) ** 2
        good = (self.places - self.middles).abs().amax(1) < 1.5 * self.upsample
        for some in batches(len(self.flux)):
            terms, w, left = self._terms(some, weight, residual, 2)
            moments = widths[self.frame[some]] ** 2, target
            good[some] &= is_point(terms, self.flux[some], w, left, moments)
        return good


def _together(groups):
    return FramePoints(*(torch.cat([getattr(g, name) for g in groups]) for name in ("frame", "places", "flux")))


def _window(peaks, half):
    reach = torch.arange(-half, half + 1, device=peaks.device)
    return peaks[:, :1, None] + reach[:, None], peaks[:, 1:, None] + reach


def _peaks(data, weight, snr, reaches):
    """(frame, row, column) of the peaks of the filtered frames, one in half a FWHM."""
    highest = torch.empty_like(snr)
    for reach in np.unique(reaches):
        some = torch.from_numpy(np.flatnonzero(reaches == reach)).to(snr.device)
        highest[some] = F.max_pool2d(snr[some], 2 * int(reach) + 1, 1, int(reach))
    return ((snr == highest) & (snr > MIN_SNR) & (data > 0) & (weight > 0)).nonzero()


def _seen(weight, frame, peaks, centred, half):
    """Whether the window lies on the padded grid and shows half of its pixels and of what tells a star's flux."""
    limits = torch.tensor(weight.shape[1:], device=weight.device) - half
    inside = ((peaks >= half) & (peaks < limits)).all(1)
    rows, columns = (x[inside] for x in _window(peaks, half))
    good = (weight[frame[inside][:, None, None], rows, columns] > 0).double()
    share = centred[inside] ** 2
    share = share / share.sum((1, 2), keepdim=True)
    seen = inside.clone()
    seen[inside] = ((share * good).sum((1, 2)) > 0.5) & (good.mean((1, 2)) > 0.5)
    return seen
