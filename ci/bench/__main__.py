"""The benchmarks' command: `python -m ci.bench engine`.

Run it from the top of the checkout, with the interpreter to be measured, in an
environment that has shearbolt and the peers:

    pip install -e . --group bench
    python -m ci.bench engine --mode full --json engine.json --charts docs

It says which peers are missing and goes on without them. Exit status: 0 when
all targets against the peers that ran are met, 1 when one is missed, 2 for
usage errors.
"""

from __future__ import annotations

import argparse
import os
import sys

from ci.bench import engine, explorer, freelist, profiles
from ci.bench.charts import ratio_chart
from ci.bench.flame import flame_graph
from ci.bench.peers import PEERS
from ci.bench.report import Report
from ci.bench.tables import markdown
from ci.bench.tasks import TASKS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ci.bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="benchmark", required=True)
    one = commands.add_parser("engine", help="the engine beside other stores")
    one.add_argument("--mode", choices=engine.MODES, default="quick")
    one.add_argument(
        "--peer", action="append", choices=[*PEERS, engine.GO_BBOLT],
        help="only these peers (repeat it); shearbolt itself for the ratios",
    )  # fmt: skip
    one.add_argument("--rounds", type=int, help="another number than the mode's")
    one.add_argument(
        "--pairs", type=int, action="append",
        help="only this size of the mode's (repeat it)",
    )  # fmt: skip
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--folder", help="where the stores are made (default: temporary)")
    one.add_argument("--json", metavar="FILE", help="write all samples there")
    free = commands.add_parser("freelist", help="what a large freelist costs")
    free.add_argument("--pages", type=int, action="append", help="free pages")
    free.add_argument("--folder", help="where the files are made")
    crash = commands.add_parser("explorer", help="how fast crash points are closed")
    crash.add_argument("--rounds", type=int, default=3, help="of the default programs")
    profile = commands.add_parser("profile", help="where the time goes, and floors")
    profile.add_argument("--task", action="append", choices=TASKS, help="only these")
    profile.add_argument(
        "--seconds", type=float, default=6.0, help="of each task, twice (default: 6)"
    )
    profile.add_argument("--pairs", type=int, default=100_000, help="in the store")
    profile.add_argument("--folder", help="where the files are made")
    profile.add_argument("--charts", metavar="FOLDER", help="write flame graphs there")
    show = commands.add_parser("show", help="tables of an earlier run's JSON")
    show.add_argument("file")
    for command in (one, show):
        command.add_argument("--charts", metavar="FOLDER", help="write SVGs there")
        command.add_argument(
            "--clock",
            choices=["wall", "cpu"],
            default="wall",
            help="cpu: for a machine that others use at the same time",
        )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit status.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.benchmark == "freelist":
        costs = []
        for pages in options.pages or (10_000, 1_000_000):
            with engine.folder(options.folder) as place:
                costs += freelist.measure(place, pages)
        print(freelist.table(costs))
        return 0
    if options.benchmark == "explorer":
        closings = [
            *explorer.default(options.rounds),
            *explorer.commits(),
            *explorer.databases(),
        ]
        print(explorer.table(closings))
        return 0
    if options.benchmark == "profile":
        return _profile(options)
    if options.benchmark == "show":
        with open(options.file, encoding="utf-8") as file:
            report = Report.from_json(file.read())
    else:
        mode = engine.MODES[options.mode]
        known = {sizes.pairs: sizes for sizes in mode.plan}
        unknown = set(options.pairs or ()) - set(known)
        if unknown:
            parser.error(f"mode {options.mode} has no sizes of {unknown} pairs")
        plan = tuple(known[pairs] for pairs in options.pairs or known)
        if options.rounds is not None and options.rounds < 1:
            parser.error("at least one round")
        given = sys.argv[1:] if arguments is None else arguments
        report = engine.run(
            engine.Mode(options.rounds or mode.rounds, plan),
            " ".join(["python -m ci.bench", *given]),
            peers=options.peer,
            parent=options.folder,
            seed=options.seed,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
        if options.json:
            _write(options.json, report.to_json())
    report.clock = options.clock
    if options.charts:
        for pairs in report.sizes():
            _write(
                os.path.join(options.charts, f"engine-{pairs}.svg"),
                ratio_chart(report, pairs),
            )
    print(markdown(report))
    return 0 if all(one.met for one in report.judged()) else 1


def _profile(options: argparse.Namespace) -> int:
    """Print where the time of each task goes; the exit status."""
    found = []
    try:
        with engine.folder(options.folder) as place:
            for one in profiles.profiles(
                place,
                options.task or TASKS,
                options.seconds,
                options.pairs,
                say=lambda line: print(line, file=sys.stderr, flush=True),
            ):
                found.append(one)
                if options.charts:
                    name = f"profile-{one.task.replace(' ', '-')}.svg"
                    _write(
                        os.path.join(options.charts, name),
                        flame_graph(one.stacks, one.task),
                    )
    except profiles.ProfilerError as error:
        print(error, file=sys.stderr)
        return 2
    print(profiles.table(found))
    return 0


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    sys.exit(main())
