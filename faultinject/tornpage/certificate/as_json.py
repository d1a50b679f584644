"""Certificates on paper: JSON that says everything, twice where people read it.

Numbers that people want (shares, logarithms, seconds) stand beside the exact ones
they are made from; only the exact ones are read back. Images are counted in numbers
of thousands of digits and written in hexadecimal, because Python refuses to read a
decimal number of more than 4,300 digits.

Reading checks: that each field is there and of its kind, that the verdict in the file
is the one that its numbers give, and that these do not contradict each other: there is
a digest for each program, for each seed where nothing was left out, a place for each
crash point. A certificate edited by hand to say "consistent" is refused. That is a
check against accidents, not against malice: whoever changes the numbers too is found
out by `tornpage verify`, which runs the programs again.
"""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from tornpage.certificate.record import (
    Certificate,
    Coverage,
    ProgramRecord,
    ReportedViolation,
    Scope,
    Unclosed,
    faults_with_zeros,
    log2_of,
)
from tornpage.certificate.token import Failure, TokenError

__all__ = ["CertificateError", "from_json", "to_json", "violation_from_json"]

T = TypeVar("T")

FORMAT = 2


class CertificateError(ValueError):
    """The values are not those of a certificate; the message says which."""


def to_json(certificate: Certificate) -> dict[str, Any]:
    """A certificate as JSON values; docs/certificate.md lists the fields."""
    seen, scope = certificate.coverage, certificate.scope
    return {
        "format": FORMAT,
        "verdict": certificate.verdict,
        "doubts": list(certificate.doubts()),
        "never_seen": list(certificate.never_seen()),
        "crash_points": seen.crash_points,
        "executions": seen.executions,
        "images_log2": round(log2_of(seen.images), 3),
        "images_log2_largest": round(log2_of(seen.largest), 3),
        "closed": seen.closed_share,
        "reused": seen.reused,
        "programs": seen.programs,
        "operations": dict(sorted(seen.operations.items())),
        "crash_points_by_kind": dict(sorted(seen.points.items())),
        "faults": faults_with_zeros(seen.faults),
        "violating_programs": dict(sorted(seen.violating.items())),
        "seconds": round(seen.nanoseconds / 1e9, 3),
        "seed": certificate.seeds[0][0] if certificate.seeds else None,
        "seeds": [list(interval) for interval in certificate.seeds],
        "model": scope.model,
        "exclusions": list(scope.exclusions),
        "cap": scope.cap,
        "subject": scope.subject,
        "mutant": scope.mutant,
        "database_sha256": scope.database,
        "code_sha256": scope.code,
        "sometimes": list(scope.sometimes),
        "versions": {"python": scope.python, "tornpage": scope.tornpage},
        "violations": [violation.to_json() for violation in certificate.violations],
        "features": dict(sorted(seen.features.items())),
        "cut": list(certificate.cut),
        "unchecked": list(certificate.unchecked),
        "unclosed": [
            {
                "program": one.program,
                "seed": one.seed,
                "point": one.point,
                "where": one.where,
                "executions": one.executions,
                "reads": list(one.reads),
            }
            for one in certificate.unclosed
        ],
        "program_digests": [
            [record.seed, record.program, record.trace, record.outcomes]
            for record in certificate.records
        ],
        "exact": {
            "closed": seen.closed,
            "images": hex(seen.images),
            "largest": hex(seen.largest),
            "nanoseconds": seen.nanoseconds,
        },
    }


class _Reader:
    """One JSON object, each of whose fields is asked for with its kind."""

    def __init__(self, data: Any, name: str) -> None:
        if not isinstance(data, dict):
            raise CertificateError(f"{name} is not a JSON object.")
        self._data = data
        self._name = name

    def wrong(self, field: str, what: str) -> NoReturn:
        """Complain about a field.

        Raises:
            CertificateError: Always.
        """
        raise CertificateError(
            f"{self._name}: {field} {what}."
            " Give a file that --json wrote, and nobody changed."
        )

    def get(self, field: str, kind: type[T]) -> T:
        """The field, which must be of this kind and, when a number, not negative."""
        value = self._data.get(field)
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            self.wrong(field, f"is not a {kind.__name__}")
        return value

    def value(self, field: str) -> Any:
        """The field as it is; None when there is none."""
        return self._data.get(field)

    def count(self, field: str) -> int:
        """A number of things."""
        value = self.get(field, int)
        if value < 0:
            self.wrong(field, "is negative")
        return value

    def optional(self, field: str) -> str | None:
        """Text or null."""
        return None if self._data.get(field) is None else self.get(field, str)

    def number(self, field: str) -> int | None:
        """A whole number or null."""
        return None if self._data.get(field) is None else self.get(field, int)

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of texts."""
        values = self.get(field, list)
        if not all(isinstance(value, str) for value in values):
            self.wrong(field, "is not a list of texts")
        return tuple(values)

    def counts(self, field: str) -> dict[str, int]:
        """Numbers by name, those that are zero left out."""
        values = self.get(field, dict)
        if not all(type(value) is int and value >= 0 for value in values.values()):
            self.wrong(field, "does not hold numbers of things")
        return {name: value for name, value in values.items() if value}

    def whole(self, field: str) -> int:
        """A whole number in hexadecimal."""
        try:
            return int(self.get(field, str), 16)
        except ValueError:
            self.wrong(field, "is not a hexadecimal number")

    def rows(self, field: str, kinds: tuple[type | tuple[type, ...], ...]) -> Any:
        """A list of lists of these kinds."""
        rows = self.get(field, list)
        for row in rows:
            if (
                not isinstance(row, list)
                or len(row) != len(kinds)
                or not all(map(isinstance, row, kinds))
            ):
                self.wrong(field, "does not hold rows of the right kind")
        return rows


def from_json(data: Any) -> Certificate:
    """The certificate that `to_json` gave.

    Raises:
        CertificateError: The values are not those of a certificate, or they
            contradict each other.
    """
    top = _Reader(data, "certificate")
    if data.get("format") != FORMAT:
        top.wrong("format", f"is {data.get('format')!r} and not {FORMAT}")
    certificate = Certificate(
        scope=_scope(top),
        seeds=tuple((a, n) for a, n in top.rows("seeds", (int, int))),
        coverage=_coverage(top),
        violations=tuple(map(_violation, top.get("violations", list))),
        cut=top.texts("cut"),
        records=tuple(
            ProgramRecord(program, seed, trace, outcomes)
            for seed, program, trace, outcomes in top.rows(
                "program_digests", ((int, type(None)), str, str, str)
            )
        ),
        unclosed=tuple(map(_unclosed, top.get("unclosed", list))),
        # Those written before there was this field have none.
        unchecked=top.texts("unchecked") if "unchecked" in data else (),
    )
    if top.get("verdict", str) != certificate.verdict:
        top.wrong("verdict", f"is not {certificate.verdict}, as its numbers say")
    _agree(top, certificate)
    return certificate


def _agree(top: _Reader, certificate: Certificate) -> None:
    """See that no number contradicts another one.

    Raises:
        CertificateError: One does.
    """
    seen, records = certificate.coverage, certificate.records
    if seen.programs != len(records):
        top.wrong("programs", f"is not {len(records)}, as there are program_digests")
    seeds = [one.seed for one in records if one.seed is not None]
    if len({*seeds}) != len(seeds):
        top.wrong("program_digests", "has a seed twice")
    end = None
    for first, count in certificate.seeds:
        if count < 1 or (end is not None and first < end):
            top.wrong("seeds", "is not in order")
        end = first + count
    if not all(
        any(first <= seed < first + count for first, count in certificate.seeds)
        for seed in seeds
    ):
        top.wrong("program_digests", "has a seed that is not in seeds")
    missing = sum(count for _, count in certificate.seeds) - len(seeds)
    if certificate.verdict == "consistent" and missing:
        top.wrong("program_digests", f"lacks {missing} of the seeds")
    if sum(seen.points.values()) != seen.crash_points:
        top.wrong("crash_points_by_kind", "is not all crash_points")
    if max(seen.closed, seen.reused) > seen.crash_points or seen.largest > seen.images:
        top.wrong("exact", "has more than there are")
    derived = to_json(certificate)
    for name in ("closed", "images_log2", "images_log2_largest", "seconds", "seed"):
        if top.value(name) != derived[name]:
            top.wrong(name, f"is not {derived[name]}, as its numbers say")


def _scope(top: _Reader) -> Scope:
    versions = _Reader(top.get("versions", dict), "versions")
    return Scope(
        subject=top.get("subject", str),
        model=top.get("model", str),
        exclusions=top.texts("exclusions"),
        mutant=top.optional("mutant"),
        database=top.optional("database_sha256"),
        cap=top.count("cap"),
        code=top.get("code_sha256", str),
        sometimes=top.texts("sometimes"),
        python=versions.get("python", str),
        tornpage=versions.get("tornpage", str),
    )


def _coverage(top: _Reader) -> Coverage:
    exact = _Reader(top.get("exact", dict), "exact")
    return Coverage(
        programs=top.count("programs"),
        crash_points=top.count("crash_points"),
        closed=exact.count("closed"),
        reused=top.count("reused"),
        executions=top.count("executions"),
        images=exact.whole("images"),
        largest=exact.whole("largest"),
        operations=top.counts("operations"),
        points=top.counts("crash_points_by_kind"),
        faults=top.counts("faults"),
        violating=top.counts("violating_programs"),
        features=top.counts("features"),
        nanoseconds=exact.count("nanoseconds"),
    )


def _unclosed(data: Any) -> Unclosed:
    row = _Reader(data, "unclosed")
    return Unclosed(
        program=row.get("program", str),
        seed=row.number("seed"),
        point=row.get("point", str),
        where=row.get("where", str),
        executions=row.count("executions"),
        reads=row.texts("reads"),
    )


def violation_from_json(data: Any) -> ReportedViolation:
    """The violation that `ReportedViolation.to_json` gave.

    Raises:
        CertificateError: The values are not those of a violation.
    """
    return _violation(data)


def _violation(data: Any) -> ReportedViolation:
    row = _Reader(data, "violation")
    try:
        failure = Failure.from_token(row.get("token", str))
    except TokenError as error:
        raise CertificateError(f"violation: {error}") from error
    return ReportedViolation(
        property=row.get("property", str),
        message=row.get("message", str),
        seed=row.number("seed"),
        found_size=row.count("found_size"),
        shrunk_size=row.count("shrunk_size"),
        shrinking=row.get("shrinking", str),
        story=row.get("story", str),
        replay=row.get("replay", str),
        failure=failure,
        cause=row.get("cause", str),
        shrunk=row.get("shrunk", bool),
    )
