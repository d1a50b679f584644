"""tornpage inside pytest: one fixture, one marker, six options.

    def test_my_store_survives_every_crash(tornpage):
        tornpage.check(MySubject())

`check` fails the test with the whole story, replay command included, when a promise
is broken, and also when the result is unverifiable: a test that passes because
nothing was exercised is worse than one that fails.

    pytest -n 2 --tornpage-shards 8

makes eight tests of each one that uses the fixture, test_x[shard-1-of-8] and so on.
Each checks seeds that no other one checks: the programs are split among them, and
when only time is given each shard has a stream of its own, `SHARD_STRIDE` seeds from
the next. Which seeds a shard has does not depend on which process runs it. A plain
property-based test under pytest-xdist runs on one worker, however many there are;
the same test in N copies would run the same examples N times.

pytest loads this module in every run of every project it is installed beside, so
it imports nothing until a test asks for the fixture. Certificates travel as
user properties: they land in junit.xml, and come back from xdist's workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tornpage.certificate.record import Certificate
    from tornpage.subject import Subject

__all__ = ["SHARD_STRIDE", "TornpageFixture"]

_PROPERTY = "tornpage"

_FIXTURE = pytest.StashKey["TornpageFixture"]()

SHARD_STRIDE = 1 << 32
"""Seeds from one shard's stream to the next one's."""

_SETTINGS = ("seed", "programs", "seconds", "model", "crashes", "mutant")


class SettingError(ValueError):
    """A setting of a check means nothing: it would check less than was asked for."""


def _shards(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options group "tornpage"."""
    group = parser.getgroup("tornpage", "crash testing")
    group.addoption(
        "--tornpage-seed", type=int, metavar="N", help="seed of the first program"
    )
    group.addoption(
        "--tornpage-programs", type=int, metavar="N", help="programs for each check"
    )
    group.addoption(
        "--tornpage-seconds", type=float, metavar="S", help="time for each check"
    )
    group.addoption("--tornpage-model", metavar="SPEC", help="what a crash may do")
    group.addoption(
        "--tornpage-crashes",
        type=int,
        metavar="N",
        help="crashes in a row, each but the first during recovery",
    )
    group.addoption(
        "--tornpage-shards",
        type=_shards,
        default=1,
        metavar="N",
        help="make N tests of each that uses the fixture, with disjoint seeds",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make the shards."""
    shards = metafunc.config.getoption("tornpage_shards", 1)
    if shards > 1 and "tornpage" in metafunc.fixturenames:
        ids = [f"shard-{one}-of-{shards}" for one in range(1, shards + 1)]
        metafunc.parametrize("tornpage", range(shards), ids=ids, indirect=True)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        "tornpage(seed=, programs=, seconds=, model=, crashes=, mutant=):"
        " defaults for the tornpage fixture of this test",
    )


class TornpageFixture:
    """What the `tornpage` fixture gives a test.

    What a check runs is taken, in this order, from the call's arguments, from the
    command line, from the test's markers, the closest first. A call that is explicit
    about its seed means that seed; the command line widens what is left open.

    Attributes:
        checks: How many checks ran programs.
        too_few: Why one did not, in this shard; "" while there is none.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self.checks = 0
        self.too_few = ""

    def _setting(self, name: str, given: Any) -> Any:
        if given is not None:
            return given
        option = self._request.config.getoption(f"tornpage_{name}", None)
        if option is not None:
            return option
        # Of several the closest one that says it: a test's own, its class's, its
        # module's. One that says something else takes nothing away.
        markers = [*self._request.node.iter_markers("tornpage")]
        said = [self._said_by(marker) for marker in markers]
        return next((one[name] for one in said if name in one), None)

    def _said_by(self, marker: pytest.Mark) -> Mapping[str, Any]:
        """The settings of a marker.

        Raises:
            SettingError: There are others among them.
        """
        unknown = [*map(repr, marker.args), *marker.kwargs.keys() - {*_SETTINGS}]
        if unknown:
            raise SettingError(
                f"@pytest.mark.tornpage has {', '.join(_SETTINGS)}, each by its name,"
                f" and not {', '.join(sorted(unknown))}"
            )
        return marker.kwargs

    def _share(self, seed: int, programs: int | None) -> tuple[int, int | None]:
        """The first seed, and how many programs, of this shard."""
        shards = self._request.config.getoption("tornpage_shards", 1)
        # Asked for by name while a test runs, it was not there to be made shards of.
        shard = getattr(self._request, "param", None)
        if shards <= 1 or shard is None:
            return seed, programs
        if programs is None:
            return seed + shard * SHARD_STRIDE, None
        begin, end = (programs * at // shards for at in (shard, shard + 1))
        if begin == end:
            # The test goes on: its next check may have programs for this shard.
            self.too_few = f"{programs} programs are too few for {shards} shards"
        return seed + begin, end - begin

    def check(
        self,
        subject: Subject,
        *,
        seed: int | None = None,
        programs: int | None = None,
        seconds: float | None = None,
        model: str | None = None,
        crashes: int | None = None,
        mutant: str | None = None,
    ) -> Certificate:
        """Close every crash of some programs of a subject.

        Args:
            subject: The code under test.
            seed: Seed of the first program.
            programs: How many; when neither this nor `seconds` is given, as many
                as the subject thinks right.
            seconds: Start no program after this many seconds.
            model: What a crash may do, as `CrashModel.parse` reads it.
            crashes: How many crashes come in a row, each but the first at any
                operation of the recovery from the one before; when neither this nor
                the model says so, as many as the subject does.
            mutant: Planted bug to run with.

        Returns:
            The certificate; its verdict is "consistent". In a shard for which none of
            the programs is left it is about no program, and so "unverifiable".

        Raises:
            AssertionError: A promise is broken, or the result is unverifiable.
            ValueError: There is no such model or planted bug, a number is none, the
                marker has another setting, or the subject makes no sense.
        """
        # Not at the top: see the module's head.
        from tornpage.certificate.as_text import render  # noqa: PLC0415
        from tornpage.model import ModelError  # noqa: PLC0415
        from tornpage.subject import SubjectError  # noqa: PLC0415

        __tracebackhide__ = True
        before = self.checks
        try:
            certificate = self._certificate(
                subject, seed, programs, seconds, model, crashes, mutant
            )
        except (ModelError, SettingError, SubjectError) as error:
            # Whoever wrote the subject learns nothing from the lines of this package;
            # what their own code raised is the error's cause.
            raise error.with_traceback(None)  # noqa: B904
        if self.checks == before:
            return certificate
        self._request.node.user_properties.append((_PROPERTY, _summary(certificate)))
        if certificate.verdict == "violated":
            raise AssertionError(certificate.violations[0].story)
        if certificate.verdict == "unverifiable":
            raise AssertionError(render(certificate))
        return certificate

    def _certificate(
        self,
        subject: Subject,
        seed: int | None,
        programs: int | None,
        seconds: float | None,
        model: str | None,
        crashes: int | None,
        mutant: str | None,
    ) -> Certificate:
        """What these programs of the subject show; see `check`."""
        from tornpage.extras import extras_of, model_for  # noqa: PLC0415
        from tornpage.registry import require_subject, spec_of  # noqa: PLC0415
        from tornpage.run.programs import Plan, is_time, run  # noqa: PLC0415

        extras = extras_of(require_subject(subject, "what check was given"))
        seconds = self._setting("seconds", seconds)
        programs = self._setting("programs", programs)
        if programs is None and seconds is None:
            programs = extras.default_programs
        seed = self._setting("seed", seed) or 0
        _require(isinstance(seed, int), "seed", "a whole number", seed)
        if programs is not None:
            fits = isinstance(programs, int) and programs > 0
            _require(fits, "programs", "a number from 1 on", programs)
        if seconds is not None:
            wanted = "a number above 0, and not infinite"
            _require(is_time(seconds), "seconds", wanted, seconds)
        mutant = self._setting("mutant", mutant)
        if mutant is not None and mutant not in (known := subject.mutants()):
            raise SettingError(
                f"mutant is one of {', '.join(known) or 'none that there is'}, not"
                f" {mutant!r}"
            )
        first, programs = self._share(seed, programs)
        self.checks += programs != 0
        plan = Plan(
            spec=spec_of(subject),
            seed=first,
            programs=programs,
            seconds=seconds,
            model=model_for(
                subject,
                self._setting("model", model),
                self._setting("crashes", crashes),
            ),
            mutant=mutant,
        )
        return run(subject, plan)


def _require(fits: bool, name: str, wanted: str, value: object) -> None:
    if not fits:
        raise SettingError(f"{name} is {wanted}, not {value!r}")


def _summary(certificate: Certificate) -> dict[str, Any]:
    """The certificate without its stories, which the failure shows already."""
    data = certificate.to_json()
    del data["violations"]
    return data


@pytest.fixture
def tornpage(request: pytest.FixtureRequest) -> TornpageFixture:
    """Check that storage code survives every crash."""
    made = request.node.stash[_FIXTURE] = TornpageFixture(request)
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Skip a shard in which no check had a program."""
    yield
    made = item.stash.get(_FIXTURE, None)
    if made is not None and made.too_few and not made.checks:
        # Not a pass: a shard without a program has shown nothing.
        pytest.skip(made.too_few)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line: how much all checks of this session covered."""
    found = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in getattr(report, "user_properties", ())
        if name == _PROPERTY
    ]
    if not found:
        return
    points = sum(one["crash_points"] for one in found)
    executions = sum(one["executions"] for one in found)
    closed = sum(round(one["closed"] * one["crash_points"]) for one in found)
    terminalreporter.write_line(
        f"tornpage: {len(found):,} checks, {points:,} crash points"
        f" ({closed:,} closed), {executions:,} executions"
    )
