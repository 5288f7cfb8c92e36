"""The convolutional network of the deep conjugate direction method: a residual to a search direction."""

import torch
from torch import nn
from torch.nn import functional

FILTERS = 16
KERNEL = 3
_SMALL_INPUT = 20480
# What the paper uses at 64^3, and at 128^3 and above.
SMALL = {"before": 4, "coarse": 6, "after": 4}
LARGE = {"before": 6, "coarse": 10, "after": 6}


class DcdmNetwork(nn.Module):
    """Residual r of a Poisson system to a direction q that resembles A^-1 r up to a factor.

    .. math:: z = K_0 r, \\quad z \\leftarrow B(z), \\quad z \\leftarrow z + U B(D z), \\quad q = w \\cdot B(z) + c

    K_0 is a linear convolution to 16 channels, D averages blocks of two cells an axis, U repeats them, and every B is
    a chain of residual pairs z + relu(K relu(K z)). All kernels have three cells an axis and see zeros beyond the
    grid. There is no geometry input: walls show in the residual alone. The map is not linear, so q belongs into
    :func:`deconjugate.solver.deep_conjugate_directions` and never into plain conjugate gradients as M.

    Parameters
    ----------
    ndim : 2 or 3
    before, coarse, after : even int >= 2
        Convolutions at full resolution, at half, and at full again. In three dimensions 4, 6, 4 give 97,457
        parameters and a receptive radius of 21 cells; 6, 10, 6 give 152,881 and 33 cells.

    Raises
    ------
    ValueError
        Naming the argument.

    Source: Kaneda, Akar, Chen, Kala, Hyde and Teran, ICML 2023, arXiv 2205.10763. Written from the description
    there. Where that leaves a choice, this is ours: the halves of a pair start scaled so that a new network is near
    linear, and odd sizes get one plane of zeros that is cut off again.

    Example
    -------
    >>> import torch
    >>> from deconjugate.solver.networks import DcdmNetwork
    >>> network = DcdmNetwork(3)
    >>> sum(p.numel() for p in network.parameters())
    97457
    >>> network(torch.ones(2, 8, 7, 9)).shape
    torch.Size([2, 8, 7, 9])
    """

    def __init__(self, ndim=3, *, before=4, coarse=6, after=4):
        super().__init__()
        if ndim not in (2, 3):
            raise ValueError(f"ndim is {ndim}; it must be 2 or 3")
        for name, count in (("before", before), ("coarse", coarse), ("after", after)):
            if count < 2 or count % 2:
                raise ValueError(f"{name} is {count}; convolutions come in residual pairs: give an even number >= 2")
        self.arguments = {"ndim": ndim, "before": before, "coarse": coarse, "after": after}
        convolution = nn.Conv2d if ndim == 2 else nn.Conv3d
        self._pool = functional.avg_pool2d if ndim == 2 else functional.avg_pool3d
        self.first = convolution(1, FILTERS, KERNEL, padding="same")
        self.before = _Pairs(convolution, before)
        self.coarse = _Pairs(convolution, coarse)
        self.after = _Pairs(convolution, after)
        self.head = convolution(FILTERS, 1, 1)

    def forward(self, r):
        """(batch, *grid) to (batch, *grid)."""
        shape = r.shape[1:]
        if len(shape) != self.arguments["ndim"]:
            raise ValueError(f"r has shape {tuple(r.shape)}; give (batch, *grid) with {self.arguments['ndim']} axes")
        odd = [n % 2 for n in shape]
        r = functional.pad(r, [p for n in reversed(odd) for p in (0, n)]) if any(odd) else r
        z = self.before(self.first(r[:, None]))
        y = self.coarse(self._pool(z, 2))
        z = z + functional.interpolate(y, scale_factor=2, mode="nearest")
        q = self.head(self.after(z))[:, 0]
        return q[(slice(None), *(slice(n) for n in shape))]


class _Pairs(nn.Module):
    """z + relu(K relu(K z)), again and again."""

    def __init__(self, convolution, count):
        super().__init__()
        self.layers = nn.ModuleList(convolution(FILTERS, FILTERS, KERNEL, padding="same") for _ in range(count))
        with torch.no_grad():
            for layer in self.layers[1::2]:
                layer.weight *= 0.25
            for layer in self.layers:
                layer.bias.zero_()

    def forward(self, z):
        # PyTorch leaves its fast kernels for one small 3-D input alone: two copies of it cost a quarter as much.
        alone = z.ndim == 5 and len(z) == 1 and z.device.type == "cpu" and z[..., 0].numel() <= _SMALL_INPUT
        z = z.repeat(2, 1, 1, 1, 1) if alone else z
        for one, two in zip(self.layers[::2], self.layers[1::2]):
            z = z + functional.relu(two(functional.relu(one(z))))
        return z[:1] if alone else z


def propose(network, r):
    """Directions for residuals r (batch, *grid): the network of r over its root mean square.

    Unit root mean square where the paper has unit norm: the entries of a residual are then of one size on every grid,
    and biases learned on small grids fit large ones.
    """
    square = (r * r).flatten(1).mean(1).clamp_min(torch.finfo(r.dtype).tiny)
    return network(r * square.rsqrt().view(-1, *[1] * (r.ndim - 1)))


def line_search(p, Ap, b):
    """What an exact line search along p leaves of b, and two measures of it, one of each for every system.

    .. math:: a = b - A p (p^T b) / (p^T A p), \\quad L_{residual} = ||a||^2 / ||b||^2, \\quad
              L_{energy} = -\\log \\frac{(p^T b)^2}{p^T A p \\; ||b||^2}

    The first is the paper's loss. The second is the part of the energy e^T A e of the error that the step takes, of
    which conjugate gradients take the most; it forgives high frequencies in p, which A enlarges twice in the first.

    Parameters
    ----------
    p, Ap, b : tensors (batch, *grid)

    Returns
    -------
    after : tensor (batch, *grid)
    residual, energy : tensors (batch,)
    """
    tiny = torch.finfo(p.dtype).tiny
    along, curvature, square = dot(p, b), dot(p, Ap).clamp_min(tiny), dot(b, b)
    after = b - along / curvature * Ap
    energy = torch.log(curvature * square / along.square().clamp_min(tiny))
    return after, (dot(after, after) / square).flatten(), energy.flatten()


def dot(a, b):
    """Inner products of a batch, (batch, 1, ...)."""
    return (a * b).sum(dim=tuple(range(1, a.ndim)), keepdim=True)
