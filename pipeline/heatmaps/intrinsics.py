"""Two machine instructions that numba has no name for; both change only the time, never a result. Pure."""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

PREFETCH = "llvm.prefetch.p0"
READ, KEEP_EVERYWHERE, DATA = 0, 3, 1  # its operands after the address


def _prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Ask for `array[index]` to be in the first-level cache soon. Nothing is read: any index is allowed."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = builder.module.globals.get(PREFETCH) or ir.Function(builder.module, kind, PREFETCH)
        builder.call(function, [address, *(ir.Constant(word, operand) for operand in (READ, KEEP_EVERYWHERE, DATA))])
        return context.get_dummy_value()

    return types.void(array, index), generate


def _trailing_zeros(typing_context: Any, word: Any) -> Any:
    """Zero bits below the lowest set bit of a uint64 that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


prefetch: Any = intrinsic(_prefetch)
trailing_zeros: Any = intrinsic(_trailing_zeros)
