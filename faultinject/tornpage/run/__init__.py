"""Programs, run on the simulated disk, and every crash that they can suffer.

    experiment   one program, its crashes, the promises
    programs     many programs, one certificate
    report       from a finding to something worth reading, and back
    relapse      the order that is missing in a recovery that was crashed
    shrink       making a failure small: program, crash point, tape
    behaviour    what a program made happen, as a set of names
    detector     unsafe writes, found without a crash
    killrate     does every planted bug get caught?
    afresh       recovery in a process that has not run the program, by way of
                 `pristine`: a process set aside in time
    regression   a failure as a test that fails until it is repaired
    verify       a certificate, checked by running a sample of it again
    fingerprint, code_digest   what a certificate is about, as digests
    worker, pool               the same in processes of their own, told by
                               `plan_as_json`

What all of it rests on is said in docs/design.md.
"""

from tornpage.run.experiment import Experiment, Finding
from tornpage.run.killrate import KillRate, check_mutants
from tornpage.run.programs import Plan, cover, run
from tornpage.run.verify import verify_file

__all__ = [
    "Experiment",
    "Finding",
    "KillRate",
    "Plan",
    "check_mutants",
    "cover",
    "run",
    "verify_file",
]
