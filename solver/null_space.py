"""The null space of a Poisson operator, component by component."""

import numpy as np


class NullSpace:
    """Constants on the components that touch no given value."""

    def __init__(self, operator):
        self.labels = operator.null_space
        if not self.labels:
            return
        if operator.n_components == 1:
            self.unknowns = operator.unknowns
            self.count = np.count_nonzero(self.unknowns)
        else:
            self.components = operator.components.ravel()
            self.null = np.zeros(operator.n_components + 1, bool)
            self.null[list(self.labels)] = True
            self.count = np.maximum(np.bincount(self.components, minlength=self.null.size), 1)

    def _means(self, x):
        if hasattr(self, "unknowns"):
            return float(x.sum()) / self.count
        return np.where(self.null, np.bincount(self.components, x.ravel(), self.null.size) / self.count, 0.0)

    def project(self, b):
        """(b without its part in the null space, the norm of that part)."""
        if not self.labels:
            return b, 0.0
        means = self._means(b)
        if hasattr(self, "unknowns"):
            return b - means * self.unknowns, abs(means) * float(np.sqrt(self.count))
        return b - means[self.components].reshape(b.shape), float(np.sqrt((means**2 * self.count).sum()))

    def center(self, x):
        """Subtract each component's mean from x, in place."""
        if self.labels:
            means = self._means(x)
            x -= means * self.unknowns if hasattr(self, "unknowns") else means[self.components].reshape(x.shape)
