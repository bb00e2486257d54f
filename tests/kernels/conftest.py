"""Triton's interpreter without what it repeats: a third of the time that interpreted kernels take."""

from __future__ import annotations

from collections.abc import Callable

try:
    from triton.language import core
    from triton.runtime import interpreter

    import kernels.crop_resize.triton  # noqa: F401  interpreted in all tests: one sets the interpreter off for a while
except ImportError:  # the references are tested all the same
    interpreter = None


def patch_unless_patched(fn: Callable) -> object:
    """The interpreter patches all of triton.language at a launch, and anew whenever one function calls another."""
    modules = [value for value in fn.__globals__.values() if value is interpreter.tl or value is core]
    if modules and not any(core.is_builtin(module.load) for module in modules):
        return nothing
    return patch_language(fn)


if hasattr(interpreter, "_LangPatchScope"):
    patch_language, nothing = interpreter._patch_lang, interpreter._LangPatchScope()
    interpreter._patch_lang = patch_unless_patched
