"""The pytest fixture, in a pytest of its own."""

import os
import subprocess
import sys

import pytest

# Imported before a run in this process: what only such a run has imported is forgotten
# at its end, and would be imported again as something else.
import tornpage.run  # noqa: F401

pytest_plugins = ("pytester",)

HERE = os.path.dirname(os.path.abspath(__file__))


# Hypothesis's plugin takes 2 s of the 2.5 where no bytecode is kept.
WITHOUT = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")


@pytest.fixture
def inner(pytester, monkeypatch):
    """A pytest run of its own; in this process, as a start takes most of the time."""
    monkeypatch.syspath_prepend(HERE)

    def run(source, *options):
        pytester.makepyfile(source)
        return pytester.runpytest_inprocess(*WITHOUT, *options)

    return run


@pytest.fixture
def started(pytester, monkeypatch):
    """The same in another process, as it is used."""
    monkeypatch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)

    def run(source, *options):
        pytester.makepyfile(source)
        return pytester.runpytest_subprocess(*WITHOUT, *options)

    return run


def test_a_consistent_subject_passes_and_is_summarised(inner):
    result = inner("""
        from toy_store import Toy

        def test_it(tornpage):
            certificate = tornpage.check(Toy(), programs=1)
            assert certificate.coverage.programs == 1
    """)
    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines([r"tornpage: 1 checks, \d+ crash points.*"])


def test_a_violation_fails_the_test_with_its_story(started):
    result = started("""
        from toy_store import Toy

        def test_it(tornpage):
            tornpage.check(Toy(), mutant="no-sync")
    """)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*BROKEN: P persistence*", "*tornpage run toy_store:Toy --replay tp1.*"]
    )


def test_a_check_that_exercised_nothing_fails_the_test(inner):
    result = inner("""
        from toy_store import Idle

        def test_it(tornpage):
            tornpage.check(Idle())
    """)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*nothing was exercised*"])


SETTINGS = """
    import pytest
    from toy_store import Toy

    @pytest.mark.tornpage(programs=2, seed=5, model="tear=page")
    def test_marked(tornpage):
        certificate = tornpage.check(Toy())
        print("SEEN", certificate.seeds, certificate.scope.model)

    @pytest.mark.tornpage(programs=2, seed=5)
    def test_called(tornpage):
        print("CALL", tornpage.check(Toy(), seed=9, programs=1).seeds)
"""


def test_a_subject_that_makes_no_sense_is_told_in_a_line(inner):
    result = inner("""
        import pytest
        from toy_store import Toy

        class Unsure(Toy):
            def judge(self, history, marks, outcome):
                return marks.nothing

        @pytest.mark.parametrize("what", [None, Toy, Toy.judge, Unsure()])
        def test_it(tornpage, what):
            tornpage.check(what)
    """)
    result.assert_outcomes(failed=4)
    text = result.stdout.str()
    assert "what check was given is a class: give Toy(), an instance" in text
    assert text.count("what check was given is not a subject") >= 2
    assert "judge: it raised AttributeError at test_a_subject" in text
    # The line that raised is shown, and none of the package's.
    assert "return marks.nothing" in text
    assert "explorer.py" not in text


def test_a_setting_that_means_nothing_is_refused_in_a_line(inner):
    """A misspelt number of programs in the marker was the default's number."""
    result = inner("""
        import pytest
        from toy_store import Toy

        WRONG = [
            dict(programs=0), dict(programs="9"), dict(programs=2.5),
            dict(seconds=0), dict(seconds=-1), dict(seconds=float("nan")),
            dict(seconds="1"), dict(seconds=float("inf")), dict(seed="0"),
            dict(mutant="no-such"),
        ]

        @pytest.mark.parametrize("wrong", WRONG, ids=map(str, WRONG))
        def test_it(tornpage, wrong):
            tornpage.check(Toy(), **wrong)

        @pytest.mark.tornpage(programms=200)
        def test_marked(tornpage):
            tornpage.check(Toy())

        @pytest.mark.tornpage(200)
        def test_counted(tornpage):
            tornpage.check(Toy())
    """)
    result.assert_outcomes(failed=12)
    said = str(result.stdout)
    for words in (
        "programs is a number from 1 on, not 0",
        "programs is a number from 1 on, not '9'",
        "seconds is a number above 0, and not infinite, not nan",
        "seconds is a number above 0, and not infinite, not inf",
        "seed is a whole number, not '0'",
        "mutant is one of no-sync, ",
        "each by its name, and not programms",
        "each by its name, and not 200",
    ):
        assert words in said
    assert "pytest_plugin.py" not in said


@pytest.mark.parametrize("shards", ["0", "-3", "x"])
def test_a_number_of_shards_that_there_cannot_be_is_a_usage_error(inner, shards):
    """No shard at all was every program once, as if it had not been said."""
    result = inner("def test_it(tornpage): pass", "--tornpage-shards", shards)
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_the_marker_sets_defaults_and_the_call_overrides(inner):
    result = inner(SETTINGS, "--strict-markers", "-s")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*SEEN ((5, 2),) tear=page*", "*CALL ((9, 1),)*"])


def test_the_command_line_overrides_the_marker_and_not_the_call(inner):
    result = inner(SETTINGS, "-s", "--tornpage-seed=7", "--tornpage-programs=1")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*SEEN ((7, 1),)*", "*CALL ((9, 1),)*"])


def test_tests_without_the_fixture_hear_nothing_of_it(inner):
    result = inner("def test_it(): pass")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("tornpage:*")


def test_loading_the_plugin_imports_nothing_heavy():
    code = (
        "import sys, tornpage.pytest_plugin\n"
        "bad = {'rich', 'hypothesis', 'psutil', 'tornpage.run', 'tornpage.disk'}\n"
        "sys.exit(str(bad & set(sys.modules)) if bad & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


SHARDED = """
    from toy_store import Toy

    def test_it(tornpage):
        seeds = tornpage.check(Toy(), programs=7, seed=100).seeds
        print("SEEDS", *seeds[0])

    def test_without():
        pass
"""


@pytest.mark.parametrize(("run", "workers"), [("inner", "-n0"), ("started", "-n2")])
def test_shards_cover_all_seeds_once_and_are_summarised_whoever_runs_them(
    run, workers, request
):
    pytest_run = request.getfixturevalue(run)
    result = pytest_run(SHARDED, "--tornpage-shards=3", "-rP", workers)
    # Three shards and the test that does not use the fixture.
    result.assert_outcomes(passed=4)
    found = [
        tuple(map(int, line.split()[1:]))
        for line in result.outlines
        if line.startswith("SEEDS")
    ]
    assert sorted(found) == [(100, 2), (102, 2), (104, 3)]
    result.stdout.fnmatch_lines(["*shard-2-of-3*"])
    # Of other processes, too.
    result.stdout.re_match_lines([r"tornpage: 3 checks, \d+ crash points.*"])


def test_shards_that_have_only_time_are_streams_of_their_own(inner):
    result = inner(
        """
        from toy_store import Toy
        from tornpage.pytest_plugin import SHARD_STRIDE

        def test_it(tornpage):
            (first, _), = tornpage.check(Toy(), seconds=0.01, seed=3).seeds
            print("FIRST", (first - 3) // SHARD_STRIDE, (first - 3) % SHARD_STRIDE)
        """,
        "--tornpage-shards=2",
        "-rP",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["FIRST 0 0", "FIRST 1 0"])


def test_a_shard_without_programs_does_not_pass(inner):
    result = inner(
        """
        from toy_store import Toy

        def test_it(tornpage):
            tornpage.check(Toy(), programs=2)
        """,
        "--tornpage-shards=3",
    )
    result.assert_outcomes(passed=2, skipped=1)


def test_a_check_behind_one_too_small_for_a_shard_loses_no_program(inner):
    """The skip ended the test: seed 0 of the second check was run by no shard."""
    result = inner(
        """
        from toy_store import Toy

        def test_it(tornpage):
            tornpage.check(Toy(), programs=1)
            for first, count in tornpage.check(Toy(), programs=2).seeds:
                print("SEEDS", first, count)
        """,
        "--tornpage-shards=3",
        "-rP",
    )
    result.assert_outcomes(passed=2, skipped=1)
    found = [line for line in result.outlines if line.startswith("SEEDS")]
    assert sorted(found) == ["SEEDS 0 1", "SEEDS 1 1"]


def test_a_fixture_that_is_asked_for_late_checks_all_programs_in_one_shard(inner):
    result = inner(
        """
        from toy_store import Toy

        def test_it(request):
            check = request.getfixturevalue("tornpage").check
            assert check(Toy(), programs=2).seeds == ((0, 2),)
        """,
        "--tornpage-shards=3",
    )
    result.assert_outcomes(passed=1)


def test_every_marker_counts_and_the_closest_first(inner):
    """Only the closest was read: what the class asked for was not checked."""
    result = inner("""
        import pytest
        from toy_store import Toy

        pytestmark = pytest.mark.tornpage(seed=7, programs=3, model="tear=byte")

        @pytest.mark.tornpage(model="tear=page")
        class TestIt:
            @pytest.mark.tornpage(programs=1)
            def test_inner(self, tornpage):
                certificate = tornpage.check(Toy())
                assert certificate.seeds == ((7, 1),)
                assert certificate.scope.model.startswith("tear=page")

            @pytest.mark.tornpage(programs=1)
            @pytest.mark.tornpage(seed=5, programs=2)
            def test_stacked(self, tornpage):
                assert tornpage.check(Toy()).seeds == ((5, 2),)
    """)
    result.assert_outcomes(passed=2)


def test_call_command_line_and_marker_say_how_many_crashes_in_this_order(inner):
    result = inner(
        """
        import pytest
        from toy_store import Toy

        def test_call(tornpage):
            model = tornpage.check(Toy(), programs=1, crashes=3).scope.model
            assert model.endswith("crashes=3")

        @pytest.mark.tornpage(crashes=4)
        def test_command_line(tornpage):
            model = tornpage.check(Toy(), programs=1).scope.model
            assert model.endswith("crashes=2")
    """,
        "--tornpage-crashes=2",
    )
    result.assert_outcomes(passed=2)
