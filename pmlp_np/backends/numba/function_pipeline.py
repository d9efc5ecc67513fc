"""How Numba compiles driver functions: those that Python doesn't call become parts of those that it does.

As it stands, Numba optimizes every function with all that it calls, and makes machine code of it: a function of depth
six would be optimized six times, and five of them never be called. Here a function that only compiled functions call is
no more than translated to LLVM's language. An entry links all that it calls, and is optimized, made machine code, and
stored, once. This takes half of the time.

These are Numba's own means to extend its compiler: a list of passes, and a pass in place of another.
"""

from __future__ import annotations

import ctypes
from typing import Any

from numba import _dynfunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

# Passes that would change nothing: driver functions have no closures, overloads, array expressions, exceptions, objects
# or loops over tuples.
_NOT_NEEDED = frozenset({
    "WithLift", "InlineClosureLikes", "InlineInlinables", "InlineOverloads", "MakeFunctionToJitFunction",
    "RewriteSemanticConstants", "RewriteDynamicRaises", "GenericRewrites", "NopythonRewrites", "FindLiterallyCalls",
    "LiteralUnroll", "LiteralPropagationSubPipelinePass", "PropagateLiterals", "AnnotateTypes",
    "DumpParforDiagnostics",
})  # fmt: skip


# What Python finds in the place of machine code: NULL without an error, so that a call raises SystemError.
_FAIL = ctypes.PYFUNCTYPE(ctypes.c_void_p, *[ctypes.c_void_p] * 3)(lambda *_: None)


class _LinkedCode(JITCodeLibrary):
    """LLVM code of a function that is only linked into others: neither optimized nor made machine code by itself."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        self._finalized = True

    def and_callees(self) -> list[JITCodeLibrary]:
        """Return this library and those of all functions that it calls."""
        return list(dict.fromkeys([self, *self._linking_libraries]))


@register_pass(mutates_CFG=True, analysis_only=False)
class _Translation(NativeLowering):
    """Numba's pass of lowering, up to LLVM code. Callers link the function and all that it calls."""

    _name = "pmlp_np_translation"

    def run_pass(self, state: Any) -> bool:
        state.library = _LinkedCode(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        result = state["cr"]
        function, nothing = result.fndesc, ctypes.cast(_FAIL, ctypes.c_void_p).value
        # What Numba's tables know the function by.
        handle = _dynfunc.make_function(function.lookup_module(), function.qualname, "", nothing, result.env, ())
        state.targetctx.insert_user_function(handle, function, state.library.and_callees())
        state["cr"] = result._replace(cfunc=handle)
        return True


class EntryPipeline(Compiler):
    """The compiler of functions that Python calls."""

    lowering: type[NativeLowering] = NativeLowering

    def define_pipelines(self) -> list[Any]:
        [passes] = super().define_pipelines()
        kept = [(each, text) for each, text in passes.passes if each.__name__ not in _NOT_NEEDED]
        passes.passes[:] = [(self.lowering if each is NativeLowering else each, text) for each, text in kept]
        passes.finalize()
        return [passes]


class InnerPipeline(EntryPipeline):
    """The compiler of functions that only compiled functions call."""

    lowering = _Translation
