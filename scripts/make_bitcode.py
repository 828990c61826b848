"""Writes `zipsplat/render/cpu/bitcode/SYSTEM.zip`: LLVM bitcode of the CPU renderer's kernels.

Run it by `make bitcode` after a change to the kernels, on each system that has such a file.
"""

from __future__ import annotations

import gc
import hashlib
import io
import json
import sys
import zipfile
from typing import Any

import llvmlite.binding as binding_module
from numba.core import config as config_module
from numba.core import types as types_module
from numba.np.numpy_support import as_dtype

from zipsplat.files import write_bytes
from zipsplat.refinement.warm_up import compile_kernels
from zipsplat.render.cpu import warm_up
from zipsplat.render.cpu.bitcode import ARCHIVE, INDEX, optimize
from zipsplat.render.cpu.kernels import Kernel
from zipsplat.render.cpu.sources import PACKAGE, code_digest

llvm: Any = binding_module  # none has type hints
config: Any = config_module
types: Any = types_module
_NUMBERS = {types.none: "", types.boolean: "?", types.int64: "q", types.float64: "d"}
_NUM_VIEWS = (4, 14)  # refinements of few and of many photos together use all kernels
_EPOCH = (1980, 1, 1, 0, 0, 0)  # fixed, so the same kernels give the same file


def main() -> None:
    """Compile all kernels without LLVM's passes, and save their IR as bitcode."""
    if int(config.OPT) != 0 or ARCHIVE.is_file():
        sys.exit(f"run `make bitcode`: it sets NUMBA_OPT=0 and removes {ARCHIVE.name} first")
    warm_up()
    for num_views in _NUM_VIEWS:
        compile_kernels(num_views)
    kernels = [item for item in gc.get_objects() if type(item) is Kernel]
    used = sorted((k for k in kernels if k.dispatcher.signatures), key=lambda k: k.name)
    entries = {}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for kernel in used:
            arguments, result = _types(kernel)
            code = _bitcode(kernel, arguments, result)
            _add(archive, kernel.name, code)
            entries[kernel.name] = {
                "file": kernel.file.relative_to(PACKAGE).as_posix(),
                "code": code_digest(kernel.file),
                "form": "".join(map(_form, arguments)),
                "returns": _form(result),
                "llvm": llvm.llvm_version_info[0],
                "bitcode": hashlib.sha256(code).hexdigest(),
            }
            print(f"{kernel.name:24} {len(code):8} bytes")
        _add(archive, INDEX, json.dumps(entries, indent=1).encode())
    ARCHIVE.parent.mkdir(exist_ok=True)
    write_bytes(ARCHIVE, content.getvalue())
    print(f"{ARCHIVE.name:24} {ARCHIVE.stat().st_size:8} bytes")


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED, 9)


def _types(kernel: Kernel) -> tuple[tuple[Any, ...], Any]:
    """Numba's types of a kernel's arguments and result."""
    (arguments,) = kernel.dispatcher.signatures
    return arguments, kernel.dispatcher.overloads[arguments].signature.return_type


def _form(kind: Any) -> str:
    """The form of a type; see `flat_calls`."""
    if isinstance(kind, types.BaseTuple):
        return f"({''.join(map(_form, kind.types))})"
    if isinstance(kind, types.Array):
        assert (kind.ndim, kind.layout, kind.mutable) == (1, "C", True), kind
        return f"*{as_dtype(kind.dtype).char}"
    return _NUMBERS[kind]


def _bitcode(kernel: Kernel, arguments: tuple[Any, ...], result: Any) -> bytes:
    """Module with one public function, named after the kernel, that takes flat arguments."""
    compiled = kernel.dispatcher.overloads[arguments]
    module = llvm.parse_assembly(kernel.dispatcher.inspect_llvm(arguments))
    inner = module.get_function(compiled.fndesc.llvm_func_name)
    module.link_in(llvm.parse_assembly(_entry(kernel.name, inner, arguments, result)))
    for item in (*module.functions, *module.global_variables):
        if not item.is_declaration and item.name != kernel.name:
            item.linkage = "internal"
    machine = llvm.Target.from_default_triple().create_target_machine(opt=3)
    optimize(module, machine, for_processor=False)
    module.verify()
    code: bytes = module.as_bitcode()
    return code


def _entry(name: str, inner: Any, arguments: tuple[Any, ...], result: Any) -> str:
    """IR of the function that reads its arguments from words and calls numba's function.

    Numba passes an array as (owner, parent, length, bytes of an element, address, length, stride),
    and writes a null pointer as the result of a function without one.
    """
    lines: list[str] = []
    passed: list[str] = []
    for kind in _leaves(arguments):
        if isinstance(kind, types.Array):
            size = kind.dtype.bitwidth // 8
            address, length = (_read(lines, what) for what in ("ptr", "i64"))
            passed += ["ptr null", "ptr null", length, f"i64 {size}", address, length]
            passed.append(f"i64 {size}")
        else:
            passed.append(
                _read(lines, {types.float64: "double", types.boolean: "i8"}.get(kind, "i64"))
            )
    place = f"getelementptr i64, ptr %words, i64 {len(lines) // 2}"
    if result == types.none:
        place = "alloca ptr"
    kinds = ", ".join(["ptr", "ptr", *(value.split()[0] for value in passed)])
    given = ", ".join(["ptr %result", "ptr %fault", *passed])
    return "\n".join(
        [
            f'target triple = "{llvm.get_default_triple()}"',
            f"declare i32 @{inner.name}({kinds})",
            f'define i32 @"{name}"(ptr %words) {{',
            "%fault = alloca ptr",
            *lines,
            f"%result = {place}",
            f"%status = call i32 @{inner.name}({given})",
            "ret i32 %status",
            "}",
        ]
    )


def _read(lines: list[str], kind: str) -> str:
    """Add lines that read the next word; returns its type and name."""
    number = len(lines) // 2
    lines.append(f"%p{number} = getelementptr i64, ptr %words, i64 {number}")
    lines.append(f"%v{number} = load {kind}, ptr %p{number}")
    return f"{kind} %v{number}"


def _leaves(arguments: tuple[Any, ...]) -> list[Any]:
    leaves: list[Any] = []
    for kind in arguments:
        leaves += _leaves(kind.types) if isinstance(kind, types.BaseTuple) else [kind]
    return leaves


if __name__ == "__main__":
    main()
