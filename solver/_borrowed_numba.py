"""Arrays without an owner, for kernels called so often that counting references would cost more than their work.

Numba counts a reference, atomically, for nearly every array that a function gets or a tuple gives: some sixty of them
in a function of a handful of arrays. That takes as long as a row of some hundred cells, and longer where two threads
count the same ones. A borrowed array has nothing to count. Its owner has to outlive it: borrow arguments, which the
caller holds until the call returns, and never an array of the function's own, which ends with its last use.
"""

from numba import njit
from numba.extending import intrinsic


@intrinsic
def borrowed(typing_context, array):
    """The same elements, owned by nobody."""

    def generate(context, builder, signature, arguments):
        struct = context.make_array(array)(context, builder, arguments[0])
        for name in ("meminfo", "parent"):
            setattr(struct, name, getattr(struct, name).type(None))
        return struct._getvalue()

    return array(array), generate


@njit(inline="always")
def borrowed_level(level):
    """The same for the arrays of a level."""
    t0, t1, t2, weights, uniform = level
    return borrowed(t0), borrowed(t1), borrowed(t2), borrowed(weights), uniform
