"""The command `tornpage fuzz`: programs without end, on several processes.

    tornpage fuzz SUBJECT -n 2 --minutes 15     go on with the corpus, new programs
    tornpage fuzz SUBJECT --seeds 0..99         exactly these, no corpus
    tornpage fuzz SUBJECT --resume              go on with the last certificate, too

What is long lived is in the corpus folder; see `corpus`. The first Ctrl-C,
SIGTERM or SIGHUP ends the run with what was covered so far; the second does not wait
for the programs in progress.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tornpage.command.arguments import (
    UsageError,
    add_json,
    add_mutant,
    add_subject,
    add_work,
    check_writable,
    duration,
    plan_of,
    positive,
    subject_of,
)
from tornpage.command.program import ENDING
from tornpage.command.results import conclude
from tornpage.fuzz.corpus import Corpus, default_folder
from tornpage.fuzz.fuzzer import Fuzzer
from tornpage.progress import fuzzing
from tornpage.run.pool import Limits, most_workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tornpage.certificate.record import Certificate
    from tornpage.command.arguments import Subparsers
    from tornpage.run.programs import Plan
    from tornpage.subject import Subject

__all__ = ["add", "seed_range"]

_EPILOG = """\
A run without --seeds goes on where the last one ended: it replays the corpus, then
runs programs that no run with this corpus has run. --resume also continues the last
certificate. --seeds A..B runs exactly these and uses a corpus only if one is given;
its certificate is the same for every -n.
"""

_MIB = 1 << 20


def add(commands: Subparsers) -> None:
    """Declare `fuzz`."""
    parser = commands.add_parser(
        "fuzz",
        help="run programs on several processes, and keep what they find",
        description="Fuzz on several processes, with a corpus that grows.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=_begin, parser=parser)
    add_subject(parser)
    add_work(parser)
    add_mutant(parser)
    add_json(parser)
    parser.add_argument(
        "-n",
        "--workers",
        type=_workers,
        default=2,
        metavar="N",
        help="processes (default: 2)",
    )
    parser.add_argument(
        "--minutes", type=_minutes, metavar="M", help="begin no program after M minutes"
    )
    parser.add_argument(
        "--seeds", type=seed_range, metavar="A..B", help="run exactly these seeds"
    )
    parser.add_argument(
        "--corpus",
        metavar="DIR",
        help="where programs are kept (default: .tornpage/corpus/SUBJECT)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the last certificate"
    )
    parser.add_argument(
        "--memory",
        type=positive,
        default=1024,
        metavar="MIB",
        help="a worker with more than this is replaced (default: 1024)",
    )
    parser.add_argument(
        "--files",
        type=positive,
        default=256,
        metavar="N",
        help="so is one with more open files than this (default: 256)",
    )
    parser.add_argument(
        "--patience",
        type=positive,
        default=600,
        metavar="S",
        help="and one that takes longer for one program (default: 600)",
    )


def _workers(text: str) -> int:
    number, most = positive(text), most_workers()
    if number > most:
        raise argparse.ArgumentTypeError(
            f"{text} processes are more than this machine's processors can serve;"
            f" at most {most}"
        )
    return number


def _minutes(text: str) -> float:
    return duration(text, "minutes")


def seed_range(text: str) -> tuple[int, int]:
    """(first, how many) of "A..B", both ends included.

    Raises:
        argparse.ArgumentTypeError: It is no range of seeds.
    """
    found = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text}: write A..B, for example 0..99")
    try:
        first, last = map(int, found.groups())
    except ValueError:
        # More digits than Python reads.
        raise argparse.ArgumentTypeError(f"{text}: so large a seed is none") from None
    if last < first:
        raise argparse.ArgumentTypeError(f"{text} ends before it begins")
    return first, last - first + 1


def _begin(options: argparse.Namespace) -> int:
    if options.minutes is not None and options.seconds is not None:
        raise UsageError("Give --minutes or --seconds, not both.")
    if options.minutes is not None:
        options.seconds = options.minutes * 60
    bounds = (options.seconds, options.programs, options.seed)
    if options.seeds is not None and any(bound is not None for bound in bounds):
        raise UsageError(
            "--seeds says which programs; leave out --seed, --programs and the time."
        )
    subject, digest = subject_of(options)
    plan = plan_of(options, subject, digest, options.mutant)
    check_writable(options.json)
    try:
        certificate = _fuzz(subject, plan, options)
    except OSError as error:
        raise UsageError(f"--corpus: {error}") from error
    return conclude(certificate, options)


def _fuzz(subject: Subject, plan: Plan, options: argparse.Namespace) -> Certificate:
    folder = options.corpus
    if folder is None and options.seeds is None:
        folder = default_folder(plan)
    limits = Limits(options.memory * _MIB, options.files, options.patience)
    with Corpus(folder, plan) as corpus:
        resume = corpus.resumable(plan.scope(subject)) if options.resume else None
        with fuzzing(plan.spec, sys.stderr, plan.seconds, quiet=options.quiet) as board:
            fuzzer = Fuzzer(
                subject,
                plan,
                corpus,
                workers=options.workers,
                seeds=options.seeds,
                resume=resume,
                limits=limits,
                watch=board.show,
                say=board.say,
            )
            with _stopped_by_signals(fuzzer):
                return fuzzer.run()


@contextmanager
def _stopped_by_signals(fuzzer: Fuzzer) -> Iterator[None]:
    def stop(number: int, _: object) -> None:
        fuzzer.stop(signal.Signals(number).name)

    numbers = {signal.SIGINT, signal.SIGTERM} | {
        # nohup has it ignored.
        number
        for number in ENDING
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
