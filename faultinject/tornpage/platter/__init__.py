"""The platter: everything that a device may hold when the power goes.

A crash image is never built. The platter keeps, for each atom of each file and for
each name, what is durable and what has come since, and decides one of them when it
is read. Nothing here knows of a running program; `tornpage.disk` does.

    cell        what one atom of a file may hold, decided as far as it was read
    file_image  one file: its atoms, and the sizes that it may have
    entries     the names, of files and of directories
    image       all of it: what a crash now may leave
    transition  what an operation of the trace changes of it
    settling    what a sync makes durable of it, and what a failed one leaves
    pieces      the records that it is kept in
    bounds      where the crash was, as far as that is decided; which syncs lied
    damage      garbage: what nobody wrote
    parts       answers about parts of a file, kept while their bytes stay

The check on all of these is a second program, which shares with them only what
garbage looks like:

    brute       every image built in full
    brute_file  every content that one file may have
    brute_names every tree that the names may be
"""
