"""The command: exit statuses, output, usage errors, replay, Ctrl-C."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import tomllib

import pytest
from toy_store import MUTANTS

from tornpage.command import arguments, main, mutants

pytestmark = pytest.mark.usefixtures("elsewhere")

HERE = os.path.dirname(os.path.abspath(__file__))
TOY = "toy_store:Toy"


def usage_error(capsys, *argv):
    """The complaint about a command that is not understood."""
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def process(*argv, **options):
    return subprocess.run(
        [sys.executable, "-m", "tornpage", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": HERE},
        **options,
    )


@pytest.mark.parametrize(
    ("subject", "status", "word"),
    [(TOY, 0, "CONSISTENT"), ("toy_store:Idle", 3, "UNVERIFIABLE")],
)
def test_the_exit_status_is_the_verdict(capsys, subject, status, word):
    assert main(["run", subject, "--programs", "2"]) == status
    assert capsys.readouterr().out.startswith(word)


def test_a_violation_exits_one_with_story_and_file(capsys):
    assert main(["run", TOY, "--mutant", "no-sync"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("VIOLATED  toy_store:Toy, planted bug no-sync")
    assert "BROKEN: P persistence" in out
    (name,) = os.listdir(os.path.join(".tornpage", "failures"))
    assert f"Kept in .tornpage/failures/{name}." in out
    narrow = [line for line in out.splitlines() if "--replay" not in line]
    assert max(map(len, narrow)) <= 80


def test_without_options_the_subject_says_how_many_programs(capsys):
    assert main(["run", TOY]) == 0
    assert "6 programs from seed 0" in capsys.readouterr().out


def test_the_subject_says_which_model_unless_the_user_does(capsys):
    main(["run", "toy_store:Seeded", "--json", "-"])
    assert json.loads(capsys.readouterr().out)["model"].startswith("tear=page")
    main(["run", "toy_store:Seeded", "--model", "order=ordered", "--json", "-"])
    assert json.loads(capsys.readouterr().out)["model"].startswith("tear=sector")


def test_replay_prints_the_same_story_and_exits_one(capsys):
    main(["run", TOY, "--mutant", "no-checksum"])
    printed = capsys.readouterr().out
    story = printed[printed.index("BROKEN") :]
    argv = story.splitlines()[-1].split()
    assert argv[0] == "tornpage"
    assert main(argv[1:]) == 1
    assert capsys.readouterr().out == story


def test_replay_takes_the_failure_file_too(capsys):
    main(["run", TOY, "--mutant", "same-slot"])
    printed = capsys.readouterr().out
    (name,) = os.listdir(os.path.join(".tornpage", "failures"))
    path = os.path.join(".tornpage", "failures", name)
    assert main(["run", TOY, "--replay", path]) == 1
    assert capsys.readouterr().out == printed[printed.index("BROKEN") :]


def test_another_process_replays_identically(capsys):
    main(["run", TOY, "--mutant", "raises"])
    printed = capsys.readouterr().out
    argv = printed.splitlines()[-1].split()[1:]
    again = process(*argv)
    assert again.returncode == 1
    assert again.stderr == ""
    assert again.stdout == printed[printed.index("BROKEN") :]


def test_a_repaired_failure_exits_zero_and_says_so(capsys, monkeypatch):
    import toy_store

    main(["run", TOY, "--mutant", "no-sync"])
    argv = capsys.readouterr().out.splitlines()[-1].split()[1:]
    monkeypatch.setattr(
        toy_store.Toy, "mutant", lambda *_: pytest.MonkeyPatch.context()
    )
    assert main(argv) == 0
    assert "does not reproduce any more" in capsys.readouterr().out


def test_json_has_the_certificate(capsys):
    assert main(["run", TOY, "--programs", "1", "--json", "c.json"]) == 0
    with open("c.json", encoding="utf-8") as file:
        data = json.load(file)
    assert data["verdict"] == "consistent"
    assert data["closed"] == 1.0
    assert data["seed"] == 0


@pytest.mark.parametrize(("points", "said"), [(3, "0 were tried"), (70, "tried")])
def test_bugs_that_an_interrupt_left_untried_are_not_called_missed(
    points, said, monkeypatch, capsys
):
    """It was "0 of 3 planted bugs caught", and the status of a blind checker."""
    left = [points]

    def watch(*_, **__):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(
        mutants, "watching", lambda *_, **__: contextlib.nullcontext(watch)
    )
    assert main(["mutants", "toy_store:Toy", "--check"]) == 3
    summary = capsys.readouterr().out.splitlines()[-1]
    assert summary.startswith("  interrupted: of ")
    assert said in summary


@pytest.mark.thorough(rows=2)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
@pytest.mark.parametrize(
    ("bug", "status", "verdict"),
    [((), 3, "CONSISTENT"), (("--mutant", "no-sync"), 1, "VIOLATED")],
)
@pytest.mark.parametrize("command", ["run", "fuzz"])
def test_a_file_that_takes_no_certificate_hides_no_verdict(
    command, bug, status, verdict, capsys
):
    """A disk that was full after hours of work was a usage error, and no result."""
    options = ("--programs", "2", "--json", "/dev/full", *bug)
    assert main([command, "toy_store:Toy", *options]) == status
    said = capsys.readouterr()
    assert said.out.startswith(verdict)
    assert said.err.endswith(
        "--json: cannot write /dev/full: No space left on device\n"
    )


def test_json_to_standard_output_is_nothing_but_json(capsys):
    status = main(["run", TOY, "--mutant", "no-sync", "--json", "-"])
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert status == 1
    assert data["violations"][0]["replay"].startswith("tornpage run toy_store:Toy")
    assert data["violations"][0]["program"]


def test_quiet_is_one_line(capsys):
    assert main(["run", TOY, "--quiet", "--programs", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_quiet_still_tells_why_it_is_unverifiable(capsys):
    assert main(["run", TOY, "--quiet", "--programs", "1", "--cap", "3"]) == 3
    headline, because = capsys.readouterr().out.splitlines()
    assert headline.startswith("UNVERIFIABLE")
    assert "crash points were not closed" in because


def test_quiet_still_tells_how_to_replay(capsys):
    assert main(["run", TOY, "--quiet", "--mutant", "no-sync"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("VIOLATED")
    assert second.startswith("tornpage run toy_store:Toy --replay")


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["run", "unheard"], "No subject is installed as 'unheard'"),
        (["run", "unheard:Of"], "Cannot import 'unheard'"),
        (["run", "toy_store:Ty"], "Did you mean Toy"),
        (["run", "toy_store:"], "module:attribute"),
        (["run", "json:JSONDecoder"], "is not a subject: it lacks"),
        (["run", "toy_store:last"], "gives none when it is called: TypeError"),
        (["run", "./toy_store.py:Toy"], "is a file: write toy_store:Toy"),
        (["run", "toy_store.py:Toy"], "is a file: write toy_store:Toy"),
        (["run", "./toy_store.py"], "is a file: write toy_store:ATTRIBUTE"),
        (["run", "../a/b.py:C"], "is a file: with ../a on PYTHONPATH write b:C"),
        (["fuzz", TOY, "-n", "99999"], "99999 processes are more than this machine"),
        (["run", "wrong.syntax:X"], "'wrong.syntax': SyntaxError"),
        (["run", "wrong.value:X"], "ValueError at value.py:1: too early"),
        (["run", TOY, "--mutant", "no-sink"], "Did you mean no-sync"),
        (["run", TOY, "--model", "tear=all"], "--model: tear=all"),
        (["run", TOY, "--programs", "0"], "0 is less than 1"),
        (["run", TOY, "--programs", "many"], "--programs: many is no whole number"),
        (["run", TOY, "--seconds", "soon"], "soon is not a number of seconds"),
        (["fuzz", TOY, "-n", "few"], "-n/--workers: few is no whole number"),
        (["fuzz", TOY, "--minutes", "few"], "few is not a number of minutes"),
        (["run", TOY, "--json", ""], "--json: give the name of a file"),
        (["run", TOY, "--seconds", "-1"], "not a number of seconds"),
        (["run", TOY, "--seconds", "nan"], "not a number of seconds"),
        (["run", TOY, "--cap", "0"], "0 is less than 1"),
        (
            ["run", TOY, "--json", "no/such/folder/c.json"],
            "no directory no/such/folder",
        ),
        (["run", TOY, "--json", "."], ". is a directory"),
        (["run", TOY, "--database", "none.db"], "it has no with_database()"),
        (["run", "toy_store:Seeded", "--database", "none.db"], "cannot read none.db"),
        (["run", "toy_store:Seeded", "--database", "."], "cannot read ."),
        (["run", "toy_store:Seeded", "--database", "/dev/zero"], "no regular file"),
        (["verify", "/dev/null"], "error: /dev/null is a device, no certificate."),
        (["run", TOY, "--replay", "rubbish"], "neither a replay token"),
        (["run", TOY, "--replay", "tp9.x.y"], "of version 'tp9'"),
        (["run", TOY, "--replay", "tp1.x.y"], "damaged"),
        (["run", TOY, "--replay", "tp1.x.y", "--seed", "3"], "leave out --seed"),
        (["mutants", "unheard"], "No subject is installed"),
        (["run"], "required"),
        ([], "required"),
    ],
)
def test_wrong_usage_is_explained_and_exits_two(capsys, argv, complaint):
    os.mkdir("wrong")
    for name, text in (("syntax", "def ("), ("value", "raise ValueError('too early')")):
        with open(f"wrong/{name}.py", "w", encoding="ascii") as file:
            file.write(f"{text}\n")
    assert complaint in " ".join(usage_error(capsys, *argv).split())


def test_an_error_of_the_subject_is_never_the_exit_status_of_a_violation(
    capsys, monkeypatch
):
    def generate(self, seed):
        raise RuntimeError(f"no program of seed {seed}")

    monkeypatch.setattr("toy_store.Toy.generate", generate)
    assert main(["run", TOY]) == 3
    told = capsys.readouterr()
    assert "RuntimeError: no program of seed 0" in told.err
    assert "no verdict was reached" in told.err
    assert told.out == ""


@pytest.mark.parametrize(("options", "status"), [((), 0), (("--check",), 3)])
def test_a_subject_without_planted_bugs_says_so(capsys, monkeypatch, options, status):
    monkeypatch.setattr("toy_store.Toy.mutants", lambda self: {})
    assert main(["mutants", TOY, *options]) == status
    assert f"{TOY} has no planted bugs" in capsys.readouterr().out


def test_a_failure_of_another_subject_is_refused(capsys):
    main(["run", TOY, "--mutant", "no-sync"])
    token = capsys.readouterr().out.split()[-1]
    complaint = usage_error(capsys, "run", "toy_store:Blind", "--replay", token)
    assert "of toy_store:Toy, not of toy_store:Blind" in complaint


def test_a_database_that_the_subject_refuses_is_explained(capsys):
    with open("bad.db", "wb") as file:
        file.write(b"something else")
    complaint = usage_error(capsys, "run", "toy_store:Seeded", "--database", "bad.db")
    assert "bad.db: not a toy database" in complaint


def seeded_failure(capsys, content=b"toy: one"):
    with open("base.db", "wb") as file:
        file.write(content)
    argv = ["run", "toy_store:Seeded", "--database", "base.db"]
    assert main([*argv, "--mutant", "no-sync"]) == 1
    printed = capsys.readouterr().out
    return printed[printed.index("BROKEN") :]


def test_a_failure_on_a_database_replays_on_that_database(capsys):
    story = seeded_failure(capsys)
    argv = story.splitlines()[-1].split()[1:]
    assert "--database" in argv
    assert main(argv) == 1
    assert capsys.readouterr().out == story


def test_a_failure_on_a_database_is_not_replayed_on_another(capsys):
    argv = seeded_failure(capsys).splitlines()[-1].split()[1:]
    with open("base.db", "wb") as file:
        file.write(b"toy: two")
    assert "give that file with --database" in usage_error(capsys, *argv)


def test_mutants_are_listed(capsys):
    assert main(["mutants", TOY]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(MUTANTS)


def test_checking_the_mutants_exits_by_the_kill_rate(capsys):
    assert main(["mutants", TOY, "--check"]) == 0
    assert "7 of 7 planted bugs caught" in capsys.readouterr().out
    assert main(["mutants", "toy_store:Blind", "--check", "--programs", "2"]) == 1


def test_subjects_are_listed(capsys):
    assert main(["subjects"]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("argv", [["--help"], ["run", "--help"], ["mutants", "--help"]])
def test_help_fits_eighty_columns(capsys, argv, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_help_teaches_by_example(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert "tornpage run shearbolt --database data.db" in out
    assert "3 unverifiable" in out


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("tornpage ")


def test_nothing_but_the_result_is_written_to_a_pipe():
    done = process("run", TOY, "--programs", "1")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\r" not in done.stdout
    assert "\x1b" not in done.stdout


def test_rich_is_not_imported_when_nobody_watches():
    code = (
        "import sys\nfrom tornpage.command import main\n"
        f"main(['run', {TOY!r}, '--programs', '1'])\n"
        "bad = {'rich', 'pytest', 'hypothesis', 'psutil'} & set(sys.modules)\n"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    env = {**os.environ, "PYTHONPATH": HERE}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    assert done.returncode == 0, done.stderr


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_somebody_who_watches_sees_progress(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("tornpage.progress._REDRAW", 0)
    assert main(["run", TOY, "--programs", "1"]) == 0
    assert "crash points" in terminal.getvalue()
    assert "executions" in terminal.getvalue()


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize("alike", [False, True])
def test_results_go_to_standard_output_beside_a_progress_line(
    monkeypatch, capsys, alike
):
    """They went to standard error while somebody watched, and not into the file."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    if alike:
        monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("tornpage.progress._REDRAW", 0)
    assert main(["mutants", TOY, "--check", "--programs", "3"]) == 0
    shown = terminal.getvalue()
    assert "crash points" in shown
    rows = shown if alike else capsys.readouterr().out
    assert rows.count("violated") == len(MUTANTS)
    if alike:
        # Each on a line of its own, which the progress line has left.
        for row in ("  (no bug)", "  no-sync"):
            assert f"\r\x1b[2K{row}" in shown
    else:
        assert "violated" not in shown
        assert "\x1b" not in rows


@pytest.mark.parametrize("why", ["CI", "quiet", "dumb"])
def test_a_terminal_stays_clean_where_progress_is_not_wanted(monkeypatch, why):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb" if why == "dumb" else "xterm")
    if why == "CI":
        monkeypatch.setenv("CI", "true")
    main(["run", TOY, "--programs", "1", *(["--quiet"] if why == "quiet" else [])])
    assert terminal.getvalue() == ""


def test_ctrl_c_prints_the_certificate_so_far_and_exits_three(tmp_path):
    note = tmp_path / "notes"
    slow = "toy_fuzz:Slow"
    argv = [sys.executable, "-m", "tornpage", "run", slow, "--programs", "5000"]
    env = {**os.environ, "PYTHONPATH": HERE, "TOY_NOTES": str(note)}
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as child:
        # It has begun its third program.
        while not note.exists() or len(note.read_text().split()) < 3:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert child.returncode == 3, err
    assert out.startswith("UNVERIFIABLE")
    assert "interrupted" in out
    assert "Traceback" not in err


def test_ctrl_c_before_anything_ran_is_no_traceback(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(arguments, "load", interrupted)
    assert main(["run", TOY]) == 3
    assert "interrupted" in capsys.readouterr().err


def test_a_reader_who_leaves_early_causes_no_traceback():
    argv = [sys.executable, "-m", "tornpage", "run", TOY, "--programs", "1"]
    env = {**os.environ, "PYTHONPATH": HERE}
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as child:
        child.stdout.close()
        err = child.stderr.read()
        child.wait(timeout=30)
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


@pytest.mark.thorough(rows=4)
@pytest.mark.parametrize(
    ("redirected", "subject", "unbuffered", "status", "said"),
    [
        (">/dev/full", TOY, "", 3, "cannot be written to standard output: No space"),
        (">/dev/full", TOY, "1", 3, "cannot be written to standard output: No space"),
        (">&-", TOY, "1", 2, "standard output is closed"),
        ("2>/dev/full", TOY, "", 0, ""),
        ("2>&-", TOY, "1", 0, ""),
        ("2>/dev/full", "no:Such", "", 2, ""),
        (">/dev/full 2>/dev/full", TOY, "", 3, ""),
        (">/dev/full 2>/dev/full", TOY, "1", 3, ""),
    ],
)
def test_streams_that_take_nothing_are_no_traceback_and_change_no_verdict_to_a_pass(
    redirected, subject, unbuffered, status, said
):
    run = f'exec "$0" -m tornpage run {subject} --programs 1 {redirected}'
    # Without a buffer it is the write that fails, and not the flush.
    env = {**os.environ, "PYTHONPATH": HERE, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        ["sh", "-c", run, sys.executable],
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )
    assert done.returncode == status
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr
    if said:
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    if status == 0:
        assert done.stdout.startswith("CONSISTENT")


@pytest.mark.thorough(rows=3)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
# argparse writes the first three, the command itself the last.
@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [
        ("--help", ""),
        ("--help", "1"),
        ("--version", "1"),
        ("run --help", ""),
        ("subjects", ""),
        ("subjects", "1"),
    ],
)
def test_help_that_could_not_be_written_is_one_line_and_no_success(words, unbuffered):
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m tornpage {words} >/dev/full', sys.executable],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    assert done.returncode == 3
    assert done.stderr == (
        "tornpage: the result cannot be written to standard output: "
        "No space left on device\n"
    )


@pytest.mark.parametrize(
    "module", ["argparse", "tornpage.command", "tornpage.certificate.token"]
)
def test_ctrl_c_while_the_command_is_imported_is_no_traceback(module):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT.format(module)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = "interrupted: no verdict was reached\n"
    assert (done.returncode, done.stdout, done.stderr) == (3, "", said)


ODD = """
import os
from tornpage import subject_from

def run(root, work, ack):
    print("from run")
    os.close(os.open(f"{root}/f", os.O_CREAT | os.O_WRONLY))
    ack("a")

def recover(root):
    print("from recovery")
    return sorted(os.listdir(root))

def check(acked, in_flight, seen):
    return None if seen else "b\\xe4d \\u2603 \\udc80 \\x1b[31m \\0"

ODD = subject_from("ODD", work=["a"], root="/o", run=run, recover=recover, check=check)
print("from import")
"""


@pytest.fixture
def odd(elsewhere):
    with open("odd.py", "w", encoding="utf-8") as file:
        file.write(ODD)


@pytest.mark.thorough(rows=2)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "utf-8:strict"])
def test_a_story_is_told_in_whatever_encoding_the_stream_has(odd, encoding):
    """The verdict was lost, and Python's traceback was all that was said."""
    done = subprocess.run(
        [sys.executable, "-m", "tornpage", "run", "odd:ODD"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    name = encoding.partition(":")[0]
    said = "b\xe4d \N{SNOWMAN} \\udc80 \\x1b[31m \\x00"
    assert done.returncode == 1
    assert said.encode(name, "backslashreplace") in done.stdout
    assert b"Replay" in done.stdout


@pytest.mark.thorough(rows=2)
@pytest.mark.parametrize("words", ["run", "mutants --check", "fuzz --seeds 0..1 -n 1"])
def test_what_the_subject_prints_is_not_among_the_results(odd, words):
    command, *options = words.split()
    done = process(command, "odd:ODD", *options)
    assert "from" not in done.stdout.partition("Replay")[0].replace("from seed", "")
    assert "from import" in done.stderr


def test_json_on_standard_output_is_json_whatever_the_subject_prints(odd):
    done = process("run", "odd:ODD", "--json", "-")
    assert json.loads(done.stdout)["verdict"] == "violated"
    assert "from run\n" in done.stderr
    assert "from recovery\n" in done.stderr


INTERRUPTED_IMPORT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
def look(event, arguments):
    if event == "import" and arguments[0] == "{}":
        signal.raise_signal(signal.SIGINT)
sys.addaudithook(look)
from tornpage.__main__ import main
sys.exit(main())
"""


def test_the_program_is_the_one_that_hears_ctrl_c_at_once():
    with open(os.path.join(HERE, "../../pyproject.toml"), "rb") as file:
        scripts = tomllib.load(file)["project"]["scripts"]
    assert scripts == {
        "shearbolt": "shearbolt.__main__:main",
        "tornpage": "tornpage.__main__:main",
    }


@pytest.mark.parametrize("error", ["MemoryError", "OSError(24, 'Too many open files')"])
def test_a_command_that_cannot_be_imported_does_not_end_as_a_violation(error):
    """Python ends with 1 after any error."""
    code = f"""
import sys
def look(event, arguments):
    if event == "import" and arguments[0] == "tornpage.command.verify":
        raise {error}
sys.addaudithook(look)
from tornpage.__main__ import main
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == "tornpage: no verdict was reached"


def test_an_error_that_there_is_no_memory_to_tell_is_no_violation(monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr("toy_store.Toy.generate", full)
    for module in "tornpage.command", "tornpage.command.program":
        monkeypatch.setattr(f"{module}.complain", full)
    assert main(["run", TOY]) == 3


def test_a_long_token_that_could_not_be_kept_is_told(capsys, monkeypatch):
    """The replay command named a file that there was not."""
    monkeypatch.setattr("tornpage.run.report._LONGEST_TOKEN", 10)
    with open(".tornpage", "w", encoding="utf-8") as file:
        file.write("in the way")
    assert main(["run", TOY, "--mutant", "no-sync"]) == 1
    said = capsys.readouterr().out
    token = said.partition("in place of its name:\n")[2].split("\n", 1)[0]
    assert main(["run", TOY, "--replay", token]) == 1
    assert capsys.readouterr().out.startswith("BROKEN")


def test_a_folder_that_cannot_be_written_does_not_hide_the_story(capsys):
    with open(".tornpage", "w", encoding="utf-8") as file:
        file.write("in the way")
    assert main(["run", TOY, "--mutant", "no-sync"]) == 1
    out = capsys.readouterr().out
    assert "Not kept in a file" in out
    assert "BROKEN" in out
