"""What a worker has to know of a plan, as its first line says it.

Not in `worker`: Python warns when a module that it is to run as a program was imported
before, by the package that it is in, and under PYTHONWARNINGS=error no worker began.
"""

from __future__ import annotations

from typing import Any

from tornpage.model import CrashModel
from tornpage.run.programs import Plan

__all__ = ["plan_from_json", "plan_to_json"]


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """What a worker has to know of a plan."""
    return {
        "subject": plan.spec,
        "model": str(plan.model),
        "mutant": plan.mutant,
        "database": plan.database,
        "database_digest": plan.database_digest,
        "cap": plan.cap,
    }


def plan_from_json(data: dict[str, Any]) -> Plan:
    """The plan of a worker: it shrinks nothing unless it is asked to."""
    return Plan(
        spec=data["subject"],
        programs=1,
        model=CrashModel.parse(data["model"]),
        mutant=data["mutant"],
        database=data["database"],
        database_digest=data["database_digest"],
        cap=data["cap"],
        shrink=False,
    )
