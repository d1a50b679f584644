"""What a subject may say beyond what it must.

A `Subject` has methods that all have to be there. These attributes may be, each with a
default that is right for most:

    class MySubject:
        returns_within = 300.0       # recovery of this store is slow
        default_model = "ext4-o"
        packages = ("mystore",)
        ...

What it is not: a place for options of a run; those are in the plan, and a run says
which. A wrong value is a usage error, told before anything is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from tornpage.model import MOST_CRASHES, CrashModel
from tornpage.subject import SubjectError
from tornpage.time_limit import DEFAULT_SECONDS, MOST_SECONDS

if TYPE_CHECKING:
    from tornpage.subject import Subject

__all__ = ["Extras", "extras_of", "model_for"]

_DEFAULT_PROGRAMS: Final = 50

Features = Callable[[Any], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Extras:
    """Attributes that a subject may have, under these names.

    Attributes:
        default_model: What a crash may do in a run that names no model; "": as
            `CrashModel()`.
        default_programs: Programs of a run that says no number.
        returns_within: Seconds of processor time in which one call of `run` or
            `recover` returns, or breaks the promise that it does; None: no limit.
        packages: Top-level names of the code under test, when that is not only the
            package that the subject's class is in. Certificates have their digest.
        recovers_alike: Whether recovery is the same for all programs and keeps nothing
            of a run. Programs that begin with the same operations then share what is
            known of these.
        features: Called with what `run` returned; names of what the program went
            through. A fuzzer keeps programs that show a new one. None: there are none.
        sometimes: Features that any run should have seen; one that has not is told.
        default_crashes: Crashes in a row of a run that says no number, see
            `CrashModel.crashes`; at least as many as `default_model` says.
    """

    default_model: str = ""
    default_programs: int = _DEFAULT_PROGRAMS
    returns_within: float | None = DEFAULT_SECONDS
    packages: tuple[str, ...] = ()
    recovers_alike: bool = False
    features: Features | None = None
    sometimes: tuple[str, ...] = ()
    default_crashes: int = 1


def extras_of(subject: Subject) -> Extras:
    """What this subject says.

    Raises:
        SubjectError: An attribute has a value that means nothing.
    """
    return Extras(
        default_model=_one(subject, "default_model", str, ""),
        default_crashes=_crashes(subject),
        default_programs=_programs(subject),
        returns_within=_seconds(subject),
        packages=_names(subject, "packages"),
        recovers_alike=_one(subject, "recovers_alike", bool, False),
        features=_features(subject),
        sometimes=_names(subject, "sometimes"),
    )


def model_for(
    subject: Subject, given: str | None = None, crashes: int | None = None
) -> CrashModel:
    """The crash model of a run of this subject.

    Args:
        subject: The code under test.
        given: A model, as `CrashModel.parse` reads it; None: the subject's.
        crashes: How many crashes come in a row; None: as `given` says, and if it says
            nothing of them, as the subject does.

    Raises:
        ModelError: There is no such model.
        SubjectError: An attribute has a value that means nothing.
    """
    extras = extras_of(subject)
    model = CrashModel.parse(extras.default_model if given is None else given)
    if crashes is None and (given is None or "crashes=" not in given):
        crashes = max(model.crashes, extras.default_crashes)
    return model if crashes is None else replace(model, crashes=crashes)


def _wrong(name: str, value: object, right: str) -> SubjectError:
    return SubjectError(f"the subject's {name} is {value!r}; it has to be {right}")


def _one(subject: Subject, name: str, kind: type, default: Any) -> Any:
    value = getattr(subject, name, default)
    if not isinstance(value, kind):
        raise _wrong(name, value, f"a {kind.__name__}")
    return value


def _names(subject: Subject, name: str) -> tuple[str, ...]:
    value = getattr(subject, name, ())
    # A string is a row of letters, and never meant as one.
    right = isinstance(value, Iterable) and not isinstance(value, str)
    if not right or not all(isinstance(one, str) for one in value):
        raise _wrong(name, value, "a row of strings, such as a tuple")
    return tuple(value)


def _programs(subject: Subject) -> int:
    value = getattr(subject, "default_programs", _DEFAULT_PROGRAMS)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong("default_programs", value, "a whole number of at least 1")
    return value


def _crashes(subject: Subject) -> int:
    value = getattr(subject, "default_crashes", 1)
    right = isinstance(value, int) and not isinstance(value, bool)
    if not right or not 1 <= value <= MOST_CRASHES:
        raise _wrong("default_crashes", value, f"a number from 1 to {MOST_CRASHES}")
    return value


def _seconds(subject: Subject) -> float | None:
    value = getattr(subject, "returns_within", DEFAULT_SECONDS)
    if value is None:
        return None
    right = isinstance(value, int | float) and not isinstance(value, bool)
    if not right or not 0 < value <= MOST_SECONDS:
        raise _wrong(
            "returns_within",
            value,
            f"a number of seconds above 0 and to {MOST_SECONDS:.0e}, or None for no"
            " limit",
        )
    return float(value)


def _features(subject: Subject) -> Features | None:
    value: Any = getattr(subject, "features", None)
    if value is not None and not callable(value):
        raise _wrong("features", value, "a method")
    return value  # type: ignore[no-any-return]
