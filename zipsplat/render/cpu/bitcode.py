"""Kernels from LLVM bitcode in the package, for a shorter wait for the first image.

Numba spends most of its time on inferring types and writing LLVM IR, which is the same for every
processor. `scripts/make_bitcode.py` saves that IR as bitcode; here, LLVM compiles it for this
processor. Numba compiles the kernels, with the same results, if there is no bitcode for this
system, if the sources have changed since, or if LLVM is too old to read it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import llvmlite.binding as binding_module
from numba.core import config as config_module

from zipsplat.kernel_folder import cache_directory, make_own_folder, read_checked, write_checked
from zipsplat.render.cpu.flat_calls import FlatFunction
from zipsplat.render.cpu.sources import DEBUG, code_digest, sources_digest

llvm: Any = binding_module  # neither has annotations
config: Any = config_module
ARCHIVE = Path(__file__).with_name("bitcode") / f"{sysconfig.get_platform()}.zip"
INDEX = "index.json"
_VERSION = "2"  # of the steps from bitcode to machine code; increase it when they change
logger = logging.getLogger(__name__)


def load_kernel(name: str, file: Path) -> FlatFunction | None:
    """The machine code of a kernel, cached or compiled from bitcode; None if numba has to compile.

    Args:
        name: name of the kernel, of its member of the archive, and of the function in it.
        file: where the kernel is defined.
    """
    entry = None if DEBUG else _index(ARCHIVE).get(name)
    if entry is None or entry["llvm"] > llvm.llvm_version_info[0]:
        return None
    try:
        path = _path(name, file, entry["bitcode"])
        code = _cached(path) or _compiled(name, file, entry["code"], path)
        if code is None:
            return None
        return FlatFunction(_address(code, name), entry["form"], entry["returns"])
    except (OSError, RuntimeError, AttributeError, zipfile.BadZipFile) as error:
        logger.info("numba compiles %s, because its bitcode cannot be used: %s", name, error)
        return None


@functools.cache
def _index(archive: Path) -> dict[str, dict[str, Any]]:
    """For each kernel, the version of LLVM, the digest of its code, and its forms."""
    try:
        with zipfile.ZipFile(archive) as file:
            index: dict[str, dict[str, Any]] = json.loads(file.read(INDEX))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError):
        return {}
    return index


def _path(name: str, file: Path, bitcode: str) -> Path | None:
    """File for the machine code of a kernel; None without a folder that is safe and writable."""
    target = "/".join((bitcode, _VERSION, *_processor(), *map(str, llvm.llvm_version_info)))
    key = hashlib.sha256(target.encode()).hexdigest()[:16]
    try:
        folder = make_own_folder(cache_directory() / sources_digest(file)[:16])
    except (OSError, RuntimeError):  # RuntimeError: a user without a home directory
        return None
    return folder / f"{name}.{key}.o"


def _cached(path: Path | None) -> bytes | None:
    """Machine code from the cache."""
    try:
        return None if path is None else read_checked(path)
    except OSError:
        return None


def _compiled(name: str, file: Path, digest: str, path: Path | None) -> bytes | None:
    """Compile bitcode and cache the result, if possible; None if the sources have changed."""
    if code_digest(file) != digest:
        return None
    with zipfile.ZipFile(ARCHIVE) as archive:
        module = llvm.parse_bitcode(archive.read(name))
    machine = _machine()
    optimize(module, machine)
    code: bytes = machine.emit_object(module)
    if path is not None:
        with contextlib.suppress(OSError):  # the next process compiles it again
            write_checked(path, code)
    return code


@functools.cache
def _processor() -> tuple[str, str]:
    """Name and features of the processor; numba's environment variables override them."""
    features = config.CPU_FEATURES
    if features is None:
        features = llvm.get_host_cpu_features().flatten()
    return config.CPU_NAME or llvm.get_host_cpu_name(), features


@functools.cache
def _target() -> Any:
    """This system, with LLVM initialized for it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple()


def _machine() -> Any:
    name, features = _processor()
    # The small model reaches constants relative to the instruction; with their 64-bit addresses,
    # LLVM's choice for code compiled at run time, blending was 6 % slower on AVX2.
    return _target().create_target_machine(
        cpu=name, features=features, opt=3, reloc="pic", codemodel="small", jit=True
    )


def optimize(module: Any, machine: Any, *, for_processor: bool = True) -> None:
    """Run LLVM's passes over a module.

    Args:
        module: module to change.
        machine: target machine.
        for_processor: whether loops may be vectorized and unrolled for this processor.
    """
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.slp_vectorization = False
    tuning.loop_vectorization = for_processor
    tuning.loop_interleaving = for_processor
    tuning.loop_unrolling = for_processor
    passes = llvm.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(module, passes)


def _address(code: bytes, name: str) -> int:
    """Load machine code; returns the address of the kernel's function."""
    _target()
    library = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()  # for memset
    # JITLink puts code and constants side by side, as the small model requires.
    linker = llvm.create_lljit_compiler(use_jit_link=True)
    loaded = library.export_symbol(name).link(linker, name)
    _loaded.append((linker, loaded))
    address: int = loaded[name]
    return address


_loaded: list[Any] = []  # keeps the machine code in memory
