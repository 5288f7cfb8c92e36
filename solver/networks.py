"""The networks: one proposes search directions, the other corrects a multigrid hierarchy."""

from deconjugate.solver.dcdm import DcdmNetwork
from deconjugate.solver.learned_multigrid import LearnedMultigrid

__all__ = ["DcdmNetwork", "LearnedMultigrid"]
