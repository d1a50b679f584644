#!/usr/bin/env python3
"""The gate: one command in front of a merge.

    python ci/gate.py --tier pr             at most five minutes on two cores
    python ci/gate.py --tier nightly        an hour, with more of everything

    exit status  0 consistent   1 violated   2 used wrongly   3 unverifiable

What it runs stands in pyproject.toml, `[tool.tornpage.gate]`; see docs/gate.md. It
needs an installed tornpage, and works from any folder and for any subject.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from gating.lanes import Gate
from gating.outcome import render_terminal, write_outcome
from gating.policy import PolicyError, read_policy

from tornpage.certificate.record import EXIT_STATUS
from tornpage.command.results import NotWrittenError, complain, write
from tornpage.registry import SubjectError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gating.lanes import Progress

_HEARTBEAT_SECONDS = 30.0
_REDRAW_SECONDS = 0.2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the gate.

    Args:
        argv: The arguments; None: those of the process.

    Returns:
        The exit status.

    Raises:
        SystemExit: As argparse does, for --help and usage errors.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    # As `tornpage` does: a subject may be a module beside the policy.
    root = os.path.dirname(os.path.abspath(options.policy))
    sys.path[:0] = [one for one in ("", root) if one not in sys.path]
    changes = {
        name: getattr(options, name)
        for name in ("seconds", "workers", "seed", "programs")
        if getattr(options, name) is not None
    }
    try:
        policy = read_policy(
            options.policy, options.tier, subject=options.subject, changes=changes
        )
        gate = Gate(
            policy, watch=_watcher(), mutant=options.mutant, commit=_commit(root)
        )
        # A CI system that cancels a job says so with SIGTERM; reports are written.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        os.makedirs(options.out, exist_ok=True)
    except (PolicyError, SubjectError) as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    try:
        result = gate.run()
    except SystemExit as error:
        # Whatever it was: status 0 means a verdict, and there is none.
        sys.stderr.write(f"gate.py: ended by {error!r} without a verdict\n")
        return EXIT_STATUS["unverifiable"]
    _clear()
    try:
        write_outcome(result, options.out)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            _append(os.path.join(options.out, "summary.md"), summary)
        missing = ""
    except OSError as error:
        missing = f"not written: {error.filename or options.out}: {error.strerror}"
    try:
        write(render_terminal(result, options.out), at_once=True)
    except (BrokenPipeError, NotWrittenError) as error:
        missing = missing or str(error)
        # Python would try once more at its end, and end with 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if missing:
        # What was asked for is not there: that is no pass, and no violation either.
        complain(f"gate.py: {missing}")
        return result.exit_status or EXIT_STATUS["unverifiable"]
    return result.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gate.py",
        description="Crash-test to a policy and give one verdict.",
        epilog="exit status: 0 consistent, 1 violated, 2 usage, 3 unverifiable",
    )
    parser.add_argument(
        "--tier", default="pr", metavar="NAME", help="pr, nightly, or your own (pr)"
    )
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="instead of the tier's time"
    )
    parser.add_argument(
        "--out",
        default=os.path.join(".tornpage", "gate"),
        metavar="DIR",
        help="where the reports go (.tornpage/gate)",
    )
    parser.add_argument(
        "--policy",
        default="pyproject.toml",
        metavar="FILE",
        help="where the policy stands (pyproject.toml)",
    )
    parser.add_argument(
        "--subject", default="", metavar="NAME", help="instead of the policy's"
    )
    parser.add_argument(
        "--mutant", metavar="NAME", help="plant this bug: see what a failure looks like"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (one a processor)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of the first program"
    )
    parser.add_argument("--programs", type=int, metavar="N", help="new programs to run")
    return parser


def _commit(folder: str) -> str:
    """The commit that is checked out, or "" where there is none."""
    known = os.environ.get("GITHUB_SHA")
    if known:
        return known
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip()


def _watcher() -> Callable[[Progress], None]:
    """One line that is redrawn on a terminal; a line now and then in a log."""
    shown = [time.monotonic()]
    watched = sys.stderr.isatty() and not os.environ.get("CI")
    pause = _REDRAW_SECONDS if watched else _HEARTBEAT_SECONDS

    def watch(progress: Progress) -> None:
        now = time.monotonic()
        if now - shown[0] < pause:
            return
        shown[0] = now
        text = (
            f"{progress.seconds:4.0f} s  {progress.done}/{progress.units} units"
            f"  {progress.crash_points:,} crashes"
            f"  {progress.caught}/{progress.planted} bugs caught"
        )
        if progress.failures:
            text += f"  {progress.failures} FAILED"
        sys.stderr.write(f"\r{text[:79]:<79}" if watched else f"{text}\n")
        sys.stderr.flush()

    return watch


def _clear() -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{'':<79}\r")


def _append(source: str, target: str) -> None:
    with (
        open(source, encoding="utf-8") as text,
        open(target, "a", encoding="utf-8") as to,
    ):
        to.write(text.read())


if __name__ == "__main__":
    status: Any = main()
    sys.exit(status)
