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
        """Take from b, in place, its part in the null space; returns the norm of that part."""
        if not self.labels:
            return 0.0
        means = self._means(b)
        if hasattr(self, "unknowns"):
            np.subtract(b, means, out=b, where=self.unknowns)
            return abs(means) * float(np.sqrt(self.count))
        b -= means[self.components].reshape(b.shape)
        return float(np.sqrt((means**2 * self.count).sum()))

    def center(self, x):
        """The same for a solution: each component's mean becomes zero."""
        self.project(x)
