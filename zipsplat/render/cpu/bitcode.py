"""Kernels from LLVM bitcode that comes with the package, for a shorter wait for the first image.

Most of the time that a kernel takes numba is not LLVM's: it infers types and writes LLVM's
language, which is the same for every processor. `scripts/make_bitcode.py` keeps what it wrote, and
here LLVM makes machine code for this processor of it. Where there is none for the system, or it is
not that of the sources, or LLVM is too old to read it, numba compiles the kernels; the results are
the same.
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
_WAY = "1"  # in which machine code is made; to be counted up when that changes
logger = logging.getLogger(__name__)


def load_kernel(name: str, file: Path) -> FlatFunction | None:
    """The machine code of a kernel, from the cache or made of bitcode; None if numba has to.

    Args:
        name: of the kernel, which is also the archive's and the function's.
        file: where it is defined.
    """
    entry = None if DEBUG else _index(ARCHIVE).get(name)
    if entry is None:
        return None
    try:
        path = _path(name, file, entry["bitcode"])
        code = _kept(path) or _made(name, file, entry["code"], path)
        if code is None:
            return None
        return FlatFunction(_address(code, name), entry["form"], entry["returns"])
    except (OSError, RuntimeError, AttributeError, zipfile.BadZipFile) as error:
        logger.info("the bitcode of %s is of no use: %s", name, error)
        return None


@functools.cache
def _index(archive: Path) -> dict[str, dict[str, str]]:
    """For each kernel the digest of its code and the forms of arguments and results."""
    try:
        with zipfile.ZipFile(archive) as file:
            index: dict[str, dict[str, str]] = json.loads(file.read(INDEX))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError):
        return {}
    return index


def _path(name: str, file: Path, bitcode: str) -> Path | None:
    """Where the machine code of a kernel is kept; None if no folder is safe or can be written."""
    target = "/".join((bitcode, _WAY, *_processor(), *map(str, llvm.llvm_version_info)))
    key = hashlib.sha256(target.encode()).hexdigest()[:16]
    try:
        folder = make_own_folder(cache_directory() / sources_digest(file)[:16])
    except (OSError, RuntimeError):  # RuntimeError: a user without a home directory
        return None
    return folder / f"{name}.{key}.o"


def _kept(path: Path | None) -> bytes | None:
    """Machine code that was made before."""
    try:
        return None if path is None else read_checked(path)
    except OSError:
        return None


def _made(name: str, file: Path, digest: str, path: Path | None) -> bytes | None:
    """Make machine code, and keep it where that is possible; None if the sources are others."""
    if code_digest(file) != digest:
        return None
    with zipfile.ZipFile(ARCHIVE) as archive:
        module = llvm.parse_bitcode(archive.read(name))
    machine = _machine()
    optimize(module, machine)
    code: bytes = machine.emit_object(module)
    if path is not None:
        with contextlib.suppress(OSError):  # it is made again in the next process
            write_checked(path, code)
    return code


@functools.cache
def _processor() -> tuple[str, str]:
    """Name and features of the processor, which numba's variables can change."""
    features = config.CPU_FEATURES
    if features is None:
        features = llvm.get_host_cpu_features().flatten()
    return config.CPU_NAME or llvm.get_host_cpu_name(), features


def _machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    name, features = _processor()
    return target.create_target_machine(
        cpu=name, features=features, opt=3, reloc="static", codemodel="jitdefault", jit=True
    )


def optimize(module: Any, machine: Any, *, for_processor: bool = True) -> None:
    """Run LLVM's passes over a module.

    Args:
        module: is changed.
        machine: target machine.
        for_processor: whether loops may become what suits this processor.
    """
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.slp_vectorization = False
    tuning.loop_vectorization = for_processor
    tuning.loop_interleaving = for_processor
    tuning.loop_unrolling = for_processor
    passes = llvm.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(module, passes)


def _address(code: bytes, name: str) -> int:
    """Load machine code; returns where the function of a kernel begins."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    address: int = engine.get_function_address(name)
    if address == 0:
        raise RuntimeError("its machine code is that of another kernel")
    return address


_engines: list[Any] = []  # own the memory of the machine code
