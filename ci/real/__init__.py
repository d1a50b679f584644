"""The crash model's presets against the file systems of this kernel.

    program --> file system --> loop device --> recorded device
                                                 |  every write, every flush
    crash images <-- what a drive with a cache may have lost <--+
         |
         +--> mounted, looked at, compared with what the preset allows

    device     a block device that remembers each request, and can be told to fail
    images     what a drive may hold when the power goes
    systems    how each file system is made, mounted, repaired
    machine    a mounted directory as a program's machine
    programs   litmus lines and random programs, as text
    trial      one program: run, recorded, crashed, looked at
    judge      what the model allows
    check      one against the other
    failing    syncs that fail for real
    store      the engine itself, its commits and its promises

What was found is in docs/crash-model.md. `python -m ci.real` runs it.
"""
