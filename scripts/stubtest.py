"""Check every hand-written stub of a native module against the module itself (mypy's stubtest).

stubtest knows functions of CPython and Cython. nanobind's have a type of their own and keep their signature in
``__nb_signature__``; two hooks teach it that, so that names, kinds and optionality of arguments are compared too.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mypy import stubtest

SOURCE = Path(__file__).resolve().parent.parent / "src"
NANOBIND_FUNCTIONS = {"nb_func", "nb_method"}


def split_parameters(text: str) -> list[str]:
    """Split a parameter list at its outermost commas."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def nanobind_signature(function: Any) -> inspect.Signature | None:
    """Names, kinds and optionality of a nanobind function's arguments; None for an overloaded function.

    Annotations are in nanobind's own notation (``shape=(*)`` is not Python), so they are left out.
    """
    if len(function.__nb_signature__) != 1:
        return None
    text = function.__nb_signature__[0][0]
    inside = text[text.index("(") + 1 : text.rindex(")", 0, text.rindex("->") if "->" in text else len(text))]
    kind: inspect._ParameterKind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters: list[inspect.Parameter] = []
    for part in split_parameters(inside):
        if part == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
        elif part == "/":
            parameters = [p.replace(kind=inspect.Parameter.POSITIONAL_ONLY) for p in parameters]
        else:
            # A default is written as a placeholder ("= \0") into a table of values.
            optional = re.search(r"= *\\\d+$", part) is not None
            default = stubtest.UNREPRESENTABLE if optional else inspect.Parameter.empty
            name = re.split(r"[:= ]", part, maxsplit=1)[0]
            parameters.append(inspect.Parameter(name, kind, default=default))
    return inspect.Signature(parameters)


def install_hooks() -> None:
    is_function, signature_of = stubtest.is_probably_a_function, stubtest.safe_inspect_signature
    verify_metaclass = stubtest._verify_metaclass

    def is_probably_a_function(runtime: Any) -> bool:
        return type(runtime).__name__ in NANOBIND_FUNCTIONS or is_function(runtime)

    def safe_inspect_signature(runtime: Any) -> inspect.Signature | None:
        if type(runtime).__name__ in NANOBIND_FUNCTIONS:
            return nanobind_signature(runtime)
        owner = getattr(runtime, "__objclass__", None)
        if type(owner).__name__ == "nb_type" and runtime.__name__ == "__init__":
            return None  # a class that only C++ creates: the slot refuses every call, whatever its nominal signature
        return signature_of(runtime)

    def _verify_metaclass(stub: Any, runtime: Any, path: list[str], **options: Any) -> Iterator[stubtest.Error]:
        if type(runtime).__name__ != "nb_type":
            yield from verify_metaclass(stub, runtime, path, **options)

    stubtest.is_probably_a_function = is_probably_a_function
    stubtest.safe_inspect_signature = safe_inspect_signature
    stubtest._verify_metaclass = _verify_metaclass


def main() -> int:
    stubs = sorted(SOURCE.rglob("_*.pyi"))
    modules = [".".join(stub.relative_to(SOURCE).with_suffix("").parts) for stub in stubs]
    print("stubtest:", *modules)
    install_hooks()
    return stubtest.test_stubs(stubtest.parse_options([*modules, "--concise", "--ignore-disjoint-bases"]))


if __name__ == "__main__":
    sys.path.insert(0, str(SOURCE))
    sys.exit(main())
