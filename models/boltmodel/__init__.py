"""What the engine has to do, written down so that it can be checked.

What it has to do:

    model          nested buckets as plain dicts: the oracle; `overlay` for large ones
    contract       what a database must show after a crash
    error_contract the same of a run with errors in it

What is done with it:

    programs       what an application does, as data
    generate       programs from seeds; `corpus`, those written by hand
    simplify       smaller ones to try instead of a failing one
    features       which shapes of trees a program went through

How that is compared:

    interpret      runs a program on engine and model together: `both_sides` of each
                   operation, `nearby` around what it named in a large database
    under_errors   the same on a disk whose calls fail; `quiet`
    recovery       reopens what a crash left and says what is there, by a `survey`
    detector       no write may touch what somebody can still read; `fields`
    subject        all of it, as tornpage wants it
    threaded       what threads do that share a database, and what each has to see
    machine        the same operations under Hypothesis; `profiles`
    lanes          hunts beyond a subject's crashes
    mutants        planted bugs, to test the testers

What it is not: part of the engine. Nothing here runs in production, and the
engine never imports it.
"""
