"""The null space of Poisson operators on a torch device, component by component."""

import torch

# So many components are summed one after the other; more by adding each cell to its component's sum.
_FEW = 8


class DeviceNullSpace:
    """Constants on the components that touch no given value, of one domain or of several.

    Parameters
    ----------
    operator : deconjugate.operators.poisson_torch.TorchPoisson

    Attributes
    ----------
    empty : bool
        No component is closed.

    Example
    -------
    >>> import numpy as np, torch
    >>> from deconjugate.operators import PoissonOperator
    >>> from deconjugate.operators.poisson_torch import TorchPoisson
    >>> space = DeviceNullSpace(TorchPoisson(PoissonOperator(np.ones((2, 2), bool))))
    >>> b = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64).reshape(1, 2, 1, 2)
    >>> space.project(b).tolist(), b.flatten().tolist()
    ([6.0], [-2.0, -1.0, 0.0, 3.0])
    """

    def __init__(self, operator):
        found = operator.components
        self.domains, self.unknowns = operator.domains, operator.unknowns
        labels = found.closed.nonzero()[:, 0]
        self.count = len(labels)
        self.empty = self.count == 0
        if self.empty:
            return
        total = torch.bincount(found.label.reshape(-1), minlength=len(found.closed)).double()
        self._size = total[labels]
        # The closed components alone, numbered from 1.
        number = torch.cumsum(found.closed, 0) * found.closed
        self._all = self.count == self.domains == len(found.closed) - 1
        self._label = None if self._all else number[found.label]

    def project(self, v, where=None):
        """Take from v (batch, n0, n1, n2), float64, its part in the null space, in place; the norms of the parts.

        Parameters
        ----------
        where : bool tensor (batch,), optional
            The systems that are changed.
        """
        batch = len(v)
        if self.empty:
            return v.new_zeros(batch)
        chosen = v.new_ones(batch) if where is None else where.to(v.dtype)
        if self._all:
            mean = torch.where(chosen > 0, (v * self.unknowns).flatten(1).sum(1) / self._size, 0)
            v -= mean[:, None, None, None] * self.unknowns
            return mean.abs() * self._size.sqrt()
        means = torch.where(chosen[:, None] > 0, self._sums(v) / self._size, 0)
        padded = torch.cat([means.new_zeros(batch, 1), means], 1)
        label = self._label.expand_as(v).reshape(batch, -1)
        v -= padded.gather(1, label).reshape(v.shape)
        return (means**2 * self._size).sum(1).sqrt()

    def _sums(self, v):
        """Sums over each component for each system, (batch, components); zero for those of other domains."""
        if self.count <= _FEW:
            return torch.stack([(v * (self._label == c)).flatten(1).sum(1) for c in range(1, self.count + 1)], 1)
        sums = v.new_zeros(len(v), self.count + 1)
        return sums.scatter_add_(1, self._label.expand_as(v).reshape(len(v), -1), v.flatten(1))[:, 1:]
