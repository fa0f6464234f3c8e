"""What code in LLVM's vectors is written with: values at addresses, variables, a number in all places, LLVM's own
functions.

For modules named `..._kernel` alone, since it imports llvmlite.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

ADDRESS = ir.IntType(64)
FLOAT_BYTES = 4


def after(builder: Any, address: Any, count: int) -> Any:
    """The address so many bytes behind."""
    return builder.add(address, ir.Constant(ADDRESS, count))


def behind(builder: Any, address: Any, count: Any, size: int) -> Any:
    """The address so many values of so many bytes behind, where the count is known to the code alone."""
    return builder.add(address, builder.mul(count, ir.Constant(ADDRESS, size)))


def variable(builder: Any, value: Any) -> Any:
    """Room for a value that a loop changes, which LLVM keeps in a register; this one at first."""
    return cgutils.alloca_once_value(builder, value)  # type: ignore[no-untyped-call]


def load(builder: Any, address: Any, kind: Any, align: int = FLOAT_BYTES) -> Any:
    """What stands at an address that is a multiple of `align`."""
    loaded = builder.load(builder.inttoptr(address, kind.as_pointer()))
    loaded.align = align
    return loaded


def store(builder: Any, value: Any, address: Any) -> None:
    """Writes float32, or a larger kind, at a multiple of their size."""
    builder.store(value, builder.inttoptr(address, value.type.as_pointer())).align = FLOAT_BYTES


def in_all(builder: Any, number: Any, kind: Any) -> Any:
    """A vector of this kind that has the number in all places."""
    place = ir.IntType(32)
    alone = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(place, 0))
    return builder.shuffle_vector(alone, alone, ir.Constant(ir.VectorType(place, kind.count), [0] * kind.count))


def function(builder: Any, name: str, result: Any, *given: Any) -> Any:
    """One of LLVM's own, by its name with the kind behind."""
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, given), f"llvm.{name}")  # type: ignore[no-untyped-call]
