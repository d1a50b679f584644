"""What a run proved, and what a failure needs to be seen again.

    record   the certificate: numbers that add up, three verdicts
    as_json  on paper for programs
    as_text  on paper for people
    token    one failure as one line of text

See docs/certificate.md.
"""

from tornpage.certificate.as_json import CertificateError, from_json, to_json
from tornpage.certificate.as_text import headline, render
from tornpage.certificate.record import (
    NOTHING_PROMISED,
    Certificate,
    Coverage,
    MergeError,
    merge,
)
from tornpage.certificate.token import Failure, TokenError, read_token

__all__ = [
    "NOTHING_PROMISED",
    "Certificate",
    "CertificateError",
    "Coverage",
    "Failure",
    "MergeError",
    "TokenError",
    "from_json",
    "headline",
    "merge",
    "read_token",
    "render",
    "to_json",
]
