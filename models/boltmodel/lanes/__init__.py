"""Lanes: ways to hunt for a broken promise, each with what the others do not reach.

    depth         crashes during recovery, and during the commits after it
    errors_sweep  every error at every call
    double_fault  a sync fails, the process goes on, then the power goes
    takeover      a process is killed, the next one's syncs fail, then the power goes
    relaxed       without syncs: fewer commits, and no holes
    interleave    readers between any two I/O operations of the writer
    threads       threads switched at any place in the engine, then the power goes
    corruption    what the format notices of silent corruption
    kill          real processes, a real file, SIGKILL
    presets       what holds on each kind of disk
    museum        is each planted bug noticed, and by what?
    sabotage      would the museum notice a checker that does not check?

Those that print a table or search for long are programs, too: `python -m
boltmodel.lanes.museum --help`. On a terminal they show how far they are. Ctrl-C ends
one with what it knows by then, and with status 3 if that is nothing bad: of what it has
not come to, nothing is known.
"""
