"""Ask for memory before it is needed: for kernels whose streams are too many for the hardware to foresee.

A hint and no access: an address beyond the end of the array is harmless.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

# Bytes that one request brings.
LINE = 64


def _prefetch(kind):
    """llvm.prefetch of kind 0 (to read) or 1 (to write), into all levels of the cache."""

    @intrinsic
    def prefetch(typing_context, array, index):
        def generate(context, builder, signature, arguments):
            word, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            request = builder.module.declare_intrinsic(
                "llvm.prefetch", [pointer], ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
            )
            address = builder.bitcast(builder.gep(data, [arguments[1]]), pointer)
            builder.call(request, [address, word(kind), word(3), word(1)])
            return context.get_dummy_value()

        return types.void(array, types.uint64), generate

    return prefetch


# The line that holds element `index` of a contiguous array.
prefetch_read = _prefetch(0)
prefetch_write = _prefetch(1)
