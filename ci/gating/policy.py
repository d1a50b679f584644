"""What the gate runs: a table in pyproject.toml.

    [tool.tornpage.gate]            holds for every tier
    subject = "mystore.crashtest:MySubject"
    corpus = ["tests/crash/corpus"]

    [tool.tornpage.gate.pr]         overrides it for one tier
    seconds = 270
    programs = 60

Every key has a type and a default; an unknown key is an error, because a misspelt
`kill_rate` would silently be the default. Paths are relative to the folder of the
pyproject.toml. Tiers are named freely: `pr` and `nightly` are known without a table.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from tornpage.model import CrashModel, ModelError
from tornpage.run.pool import most_workers

__all__ = ["TIERS", "Policy", "PolicyError", "read_policy"]


class PolicyError(ValueError):
    """The policy cannot be followed; the message names the key and says why."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What one tier runs.

    Attributes:
        subject: The code under test: an installed name or module:attribute.
        tier: The tier's name.
        seconds: Time for all of it. What must be run and was not begun by then
            is declared, and the verdict is unverifiable.
        workers: Processes; 0: one for each processor.
        seed: Seed of the first program.
        programs: New programs to run.
        fill: Then go on with further programs until the time is up.
        corpus: Folders of programs that run first.
        model: The crash model; "": the subject's own.
        models: Further crash models or presets.
        model_programs: Programs under each of those.
        databases: Files that programs start from.
        database_programs: Programs on each of those.
        planted: Whether planted bugs are tried.
        planted_programs: Programs, after the corpus, to catch one with.
        planted_seconds: Processor time for one; one that takes longer is not caught.
        shrink_planted: Whether their stories are shrunk.
        kill_rate: The least share of them to be caught, 0 to 1.
        failures: Most failures that are shrunk and drawn.
        cap: Most executions for one crash point.
        unit_seconds: Processor time for one program.
        root: Folder that paths are relative to.
    """

    subject: str
    tier: str
    seconds: float = 270.0
    workers: int = 0
    seed: int = 0
    programs: int = 60
    fill: bool = False
    corpus: tuple[str, ...] = ()
    model: str = ""
    models: tuple[str, ...] = ()
    model_programs: int = 3
    databases: tuple[str, ...] = ()
    database_programs: int = 2
    planted: bool = True
    planted_programs: int = 60
    planted_seconds: float = 60.0
    shrink_planted: bool = False
    kill_rate: float = 1.0
    failures: int = 6
    cap: int = 10_000
    unit_seconds: float = 120.0
    root: str = field(default=".", metadata={"internal": True})

    def __post_init__(self) -> None:
        if not 0 <= self.kill_rate <= 1:
            raise PolicyError(f"kill_rate is {self.kill_rate}; it is a share, 0 to 1.")
        for name in ("seconds", "unit_seconds", "planted_seconds", "cap"):
            if getattr(self, name) <= 0:
                raise PolicyError(f"{name} is {getattr(self, name)}; give more than 0.")
        for name in (
            *("workers", "programs", "model_programs", "database_programs"),
            *("planted_programs", "failures"),
        ):
            if getattr(self, name) < 0:
                raise PolicyError(f"{name} is negative.")
        if self.workers > (most := most_workers()):
            raise PolicyError(
                f"workers is {self.workers}; at most {most} on this machine."
            )
        for text in (*self.models, self.model):
            try:
                CrashModel.parse(text)
            except ModelError as error:
                raise PolicyError(f"crash model {text!r}: {error}") from error

    @property
    def processes(self) -> int:
        """How many workers there are."""
        # Not cpu_count(): a container often has fewer than the machine.
        return self.workers or len(os.sched_getaffinity(0))

    def path(self, name: str) -> str:
        """A path of the policy as the gate opens it."""
        return os.path.join(self.root, name)


TIERS: Final[dict[str, dict[str, Any]]] = {
    "pr": {},
    "nightly": {
        "seconds": 3600.0,
        "programs": 400,
        "fill": True,
        "model_programs": 25,
        "database_programs": 12,
        "planted_programs": 150,
        "planted_seconds": 300.0,
        "shrink_planted": True,
        "unit_seconds": 600.0,
    },
}
"""Where a tier differs from the defaults before the policy says anything."""


def read_policy(
    path: str, tier: str, *, subject: str = "", changes: dict[str, Any] | None = None
) -> Policy:
    """The policy of one tier.

    Args:
        path: A pyproject.toml.
        tier: Which tier.
        subject: Instead of the one in the table.
        changes: What the command line says; goes before everything.

    Raises:
        PolicyError: No table, no such tier, or a key that is wrong.
        OSError: The file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            data = tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{path}: {error}") from error
    table = data.get("tool", {}).get("tornpage", {}).get("gate", {})
    if not isinstance(table, dict):
        raise PolicyError(f"{path}: tool.tornpage.gate is not a table.")
    tiers = {name: value for name, value in table.items() if isinstance(value, dict)}
    if tier not in tiers and tier not in TIERS:
        known = ", ".join(sorted({*tiers, *TIERS}))
        raise PolicyError(f"There is no tier {tier!r}. There are: {known}.")
    common = {name: value for name, value in table.items() if name not in tiers}
    given = {**TIERS.get(tier, {}), **common, **tiers.get(tier, {}), **(changes or {})}
    if subject:
        given["subject"] = subject
    if "subject" not in given:
        raise PolicyError(
            f"{path} has no subject in [tool.tornpage.gate]. Write one there, or"
            " give --subject."
        )
    checked = {name: _checked(name, value) for name, value in given.items()}
    root = os.path.dirname(path) or "."
    return replace(Policy(**checked, tier=tier), root=root)


def _checked(name: str, value: Any) -> Any:
    """The value, if it is of the kind that this key has."""
    known = {
        one.name: one.type
        for one in fields(Policy)
        if one.name != "tier" and not one.metadata.get("internal")
    }
    if name not in known:
        raise PolicyError(f"There is no key {name!r}. There are: {', '.join(known)}.")
    kind = str(known[name])
    if kind == "float" and type(value) is int:
        value = float(value)
    if kind.startswith("tuple"):
        if not isinstance(value, list | tuple) or not all(
            isinstance(one, str) for one in value
        ):
            raise PolicyError(f"{name} is not a list of texts.")
        return tuple(value)
    if type(value).__name__ != kind:
        raise PolicyError(f"{name} is {value!r}; it has to be of type {kind}.")
    return value
