"""Many Poisson operators of one shape as one torch operator."""

import numpy as np
import torch


class Stencils:
    """A batch of Poisson operators on grids of one shape, differentiable.

    .. math:: (A u)_i = m_i \\sum_{faces} t_f (m_i u_i - m_j u_j)

    with transmissibilities t and the mask m of the unknowns.

    Parameters
    ----------
    operators : list of PoissonOperator
        Without periodic axes; all of one grid_shape.
    device, dtype
        Of torch.
    """

    def __init__(self, operators, device="cpu", dtype=torch.float32):
        first = operators[0]
        for operator in operators:
            if operator.grid_shape != first.grid_shape:
                raise ValueError(f"operators has grids {operator.grid_shape} and {first.grid_shape}; give one shape")
            if "periodic" in np.ravel(operator.boundary):
                raise ValueError("operators has a periodic axis; a zero-padded network cannot see it")
        self.shape = first.grid_shape
        faces = zip(*(operator._face_arrays() for operator in operators))
        self.faces = [torch.as_tensor(np.stack(face), device=device, dtype=dtype) for face in faces]
        self.mask = torch.as_tensor(np.stack([op.unknowns for op in operators]), device=device).to(dtype)
        # Components that touch no given value have constants in their null space.
        labels = [np.where(np.isin(op.components, op.null_space), op.components, 0) for op in operators]
        self.count = max(int(label.max()) for label in labels)
        self.labels = torch.as_tensor(np.stack(labels), device=device, dtype=torch.int64)
        self.sizes = self._sums(torch.ones_like(self.mask)).clamp_min(1.0)

    def __len__(self):
        return len(self.mask)

    def __getitem__(self, index):
        """The operators at an index tensor, as another batch."""
        part = object.__new__(Stencils)
        part.shape, part.count = self.shape, self.count
        part.faces = [face[index] for face in self.faces]
        part.mask, part.labels, part.sizes = self.mask[index], self.labels[index], self.sizes[index]
        return part

    def __call__(self, u):
        u = u * self.mask
        out = torch.zeros_like(u)
        for axis, face in enumerate(self.faces, start=1):
            edge = torch.zeros_like(u.narrow(axis, 0, 1))
            out -= torch.diff(face * torch.diff(torch.cat([edge, u, edge], axis), dim=axis), dim=axis)
        return out * self.mask

    def project(self, u):
        """u on the unknowns, without its mean on every component that touches no given value."""
        u = u * self.mask
        if not self.count:
            return u
        means = self._sums(u) / self.sizes
        means = torch.cat([torch.zeros_like(means[:, :1]), means[:, 1:]], 1)
        return u - torch.gather(means, 1, self.labels.flatten(1)).view_as(u) * self.mask

    def _sums(self, u):
        sums = u.new_zeros(len(u), self.count + 1)
        return sums.scatter_add(1, self.labels.flatten(1), u.flatten(1))
