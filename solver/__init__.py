"""Large Poisson systems A x = b, certified by the true residual."""
