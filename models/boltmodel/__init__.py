"""What the engine has to do, written down so that it can be checked.

    model      nested buckets as plain dicts: the oracle
    programs   what an application does, as data; `generate`, `simplify`
    interpret  runs a program on engine and model together
    recovery   reopens what a crash left and says what is there
    contract   judges that against what was promised
    subject    all of it, as tornpage wants it
    mutants    planted bugs, to test the testers
    machine    the same operations under Hypothesis

What it is not: part of the engine. Nothing here runs in production, and the
engine never imports it.
"""
