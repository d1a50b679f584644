"""What a benchmark ran on, named so that somebody else can compare.

A figure without its interpreter build is worth little: the same CPython 3.11
compiled with profile-guided optimisation is a third faster than one compiled
without.
"""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from dataclasses import asdict, dataclass

__all__ = ["Machine", "describe"]


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine and one interpreter.

    Attributes:
        processor: Its model.
        cores: How many this process may use.
        memory: Bytes of main memory, 0 when unknown.
        system: Kernel name and release.
        filesystem: Type of the file system the stores are on.
        python: Implementation and version.
        build: How that Python was compiled.
        busy: Load average of the last minute when the run began; more than
            half a core of others' work makes absolute figures worthless.
    """

    processor: str
    cores: int
    memory: int
    system: str
    filesystem: str
    python: str
    build: str
    busy: float

    def to_json(self) -> dict[str, str | int | float]:
        """The record as JSON."""
        return asdict(self)


def describe(folder: str) -> Machine:
    """This machine, with the file system that holds `folder`."""
    return Machine(
        processor=_after_colon("/proc/cpuinfo", "model name") or platform.processor(),
        cores=len(os.sched_getaffinity(0)),
        memory=int(_after_colon("/proc/meminfo", "MemTotal").split(" ")[0] or 0) * 1024,
        system=f"{platform.system()} {platform.release()}",
        filesystem=_filesystem(os.path.realpath(folder)),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        build=_build(),
        busy=os.getloadavg()[0],
    )


def _build() -> str:
    variables = sysconfig.get_config_vars()
    arguments = str(variables.get("CONFIG_ARGS") or "")
    compiled = str(variables.get("PY_CORE_CFLAGS") or "") + str(
        variables.get("PY_CORE_LDFLAGS") or ""
    )
    # Distributions train the compiler by other means than configure's option;
    # then the flags say so.
    trained = "--enable-optimizations" in arguments or "-fprofile-use" in compiled
    words = ["profile-guided" if trained else "not known to be profile-guided"]
    if "--with-lto" in arguments or "-flto" in compiled:
        words.append("LTO")
    if hasattr(sys, "_is_gil_enabled") and not sys._is_gil_enabled():
        words.append("free-threaded")
    words.append(platform.python_compiler())
    return ", ".join(words)


def _after_colon(path: str, name: str) -> str:
    """The value of a `name : value` line; "" where the file is not."""
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == name:
                    return value.strip()
    except OSError:
        return ""
    return ""


def _filesystem(path: str) -> str:
    """Type of the mount the path is on: the longest mount point that holds it."""
    best, kind = "", "unknown"
    try:
        with open("/proc/mounts", encoding="utf-8") as file:
            for line in file:
                _, point, found, *_ = line.split(" ")
                inside = path == point or path.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best):
                    best, kind = point, found
    except OSError:
        return kind
    return kind
