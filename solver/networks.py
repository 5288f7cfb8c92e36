"""The networks that propose search directions."""

from deconjugate.solver.dcdm import DcdmNetwork

__all__ = ["DcdmNetwork"]
