"""A simulated disk and a crash explorer for storage code.

Point it at code that does its I/O through an object (`tornpage.disk.Disk` has
the methods), record a run, and every image that losing power could leave is
covered:

    disk        = Disk()
    run(disk)                                     # records disk.trace
    explorer = Explorer({}, disk.trace, recover)  # recover(disk) -> outcome
    for closure in explorer.sweep():
        ...                                       # closure.outcomes

Modules, each importing only from those above it:

    choices     one tape of decisions: enumerate, sample, replay
    trace       what was done to a disk, as data
    model       what a crash may do, as parameters
    cell        the legal contents of one atom, decided as far as it was read
    file_image  one file on the platter: everything it may hold
    image       the platter: files and names, moved on by operations
    clock       time and threads of the simulated machine
    life        what a running program sees and thereby decides
    disk        the machine that storage code talks to
    schedule    names for crash points and for single crashes
    brute       every image built in full, the check on the explorer
    explore     every outcome of every crash of a run

Around the explorer: `subject` (what storage code under test has to say of itself),
`functions` and `patch` (the same for code that uses `open` and `os`), `script`,
`faults` and `corruption` (calls that fail, disks that change data without a word),
`detector` (unsafe writes, found without a crash), `afresh` (recovery in a process that
has not run the program, with `pristine` and `witness`), `run`, `story`, `shrink`,
`certificate`, `fuzz` and `verify` (what the command does).

See docs/design.md and docs/crash-model.md.
"""
