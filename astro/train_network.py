"""What the deconvolution network learns: the logarithm of its error, on a pool of scenes that is renewed."""

from dataclasses import replace

import numpy as np
import torch

# Scenes from here on are kept for validation.
HOLD_OUT = 1 << 40
FLOOR = 1e-3  # of the noise of the Tikhonov image, squared: errors below this are as good as none


class DeconvolutionTask:
    """The loss of the network on a stream of scenes, for :func:`deconjugate.operators.learned.training.train`.

    .. math:: L = \\tfrac12 \\, \\mathrm{mean}_i \\log( \\mathrm{mean} (x_i - t_i)^2 / n_i^2 + 10^{-3} )

    so that faint and bright scenes count alike: a per cent of error less is worth the same in each.

    Parameters
    ----------
    scenes : deconjugate.astro.training_scenes.Scenes
    batch, crop : int
        Crops in a step, fine pixels along each of their sides.
    pool : int
        Scenes kept at a time.
    renewed : int
        Of these, replaced in a step.
    held_out : int
        Scenes of a validation, none of which is ever drawn for training.
    aside : deconjugate.astro.training_scenes.Scenes, optional
        Where those are drawn from, such as galaxies kept aside; default ``scenes``.
    device : str
    """

    def __init__(self, scenes, *, batch=8, crop=64, pool=256, renewed=1, held_out=48, aside=None, device="cpu"):
        self.scenes, self.batch, self.crop, self.renewed, self.device = scenes, batch, crop, renewed, device
        self.held_out, self.aside = held_out, scenes if aside is None else aside
        self.pool = [None] * pool
        self.drawn = torch.zeros((), dtype=torch.int64)

    def loss(self, network, step):
        self._fill()
        rng = np.random.default_rng([self.scenes.data.seed, 1, step])
        parts = [self._crop(self.pool[rng.integers(len(self.pool))], rng) for _ in range(self.batch)]
        return losses(network, parts, self.device).mean()

    def _fill(self):
        """The pool holds the last scenes drawn, each in the place of its number."""
        size = len(self.pool)
        last = max(int(self.drawn) + self.renewed, size)
        for number in range(int(self.drawn) if self.pool[-1] is not None else last - size, last):
            self.pool[number % size] = self.scenes.draw(number)
        self.drawn.fill_(last)

    def _crop(self, scene, rng):
        corner = self._corner(scene, rng)
        here = (..., *(slice(c, c + self.crop) for c in corner))
        turn, mirror = int(rng.integers(4)), bool(rng.integers(2))

        def part(a):
            a = np.rot90(a[here], turn, axes=(-2, -1))
            return np.ascontiguousarray(a[..., ::-1] if mirror else a)

        names = ("channels", "base", "scale", "truth", "inside")
        return replace(scene, **{name: part(getattr(scene, name)) for name in names})

    def _corner(self, scene, rng):
        """Anywhere in one crop of four; else around a pixel drawn by the square root of its light."""
        if rng.random() > 0.25 and (bright := np.sqrt(np.maximum(scene.truth, 0.0)).ravel().cumsum())[-1] > 0:
            pixel = int(np.searchsorted(bright, rng.random() * bright[-1]))
            middle = np.array(np.unravel_index(min(pixel, bright.size - 1), scene.truth.shape))
            middle = middle + rng.integers(-self.crop // 3, self.crop // 3 + 1, 2)
            return [int(np.clip(m - self.crop // 2, 0, n - self.crop)) for m, n in zip(middle, scene.base.shape)]
        return [int(rng.integers(n - self.crop + 1)) for n in scene.base.shape]

    def state_dict(self):
        return {"drawn": self.drawn}

    def load_state_dict(self, state):
        self.drawn = state["drawn"].cpu()
        # The pool is drawn anew by the next step: scene i is a function of i.
        self.pool = [None] * len(self.pool)

    @torch.no_grad()
    def validate(self, network):
        """Squared error over that of the Tikhonov image on held-out scenes, median and geometric mean."""
        scenes = [self.aside.draw(HOLD_OUT + k) for k in range(self.held_out)]
        ratios = []
        for scene in scenes:
            error = torch.exp(2 * losses(network, [scene], self.device))[0] - FLOOR
            before = np.square(scene.base - scene.truth)[scene.inside > 0].mean()
            ratios.append(float(error) * scene.noise**2 / max(float(before), 1e-12))
        return {
            "to_tikhonov": float(np.median(ratios)),
            "to_tikhonov_geometric": float(np.exp(np.mean(np.log(ratios)))),
        }


def losses(network, parts, device="cpu"):
    """The loss of every scene, (B,)."""

    def stack(name):
        return torch.from_numpy(np.stack([getattr(part, name) for part in parts])).to(device)

    output = network(stack("channels"), stack("conditions"))[:, 0].float()
    error, inside = stack("base") + stack("scale") * output - stack("truth"), stack("inside")
    noise = torch.tensor([part.noise for part in parts], dtype=torch.float32, device=device)
    square = (inside * error.square()).sum(dim=(1, 2)) / inside.sum(dim=(1, 2))
    return 0.5 * torch.log(square / noise**2 + FLOOR)
