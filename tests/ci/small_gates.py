"""Where the gate is, and gates small enough for a test."""

from __future__ import annotations

from pathlib import Path

from gating.policy import Policy

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / "ci"
EXAMPLES = CI / "examples"
TOYS = ROOT / "tests" / "tornpage"
SMALL = {"workers": 1, "programs": 3, "planted_programs": 3, "seconds": 60.0}


def a_policy(subject="toy_store:Toy", **changes):
    return Policy(subject=subject, tier="pr", **{**SMALL, **changes})
