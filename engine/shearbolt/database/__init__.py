"""The open file: its transactions, and how a commit becomes durable.

    opening   from a path to a database
    handle    DB: which transactions are open, who reads, who writes
    settings  what may be changed of an open database
    tx        one version of the database, or the making of the next one
    managed   a transaction as a `with` block
    batch     the changes of several threads in one commit
    durable   the file side of a commit: settle, flush, publish, heal
    doubt     meta slots whose content is unknown
    unsynced  commits that wait for a sync, and files that have lost some
    growth    how large the file is made
    alone     work that one thread does at a time
    strangers what others have done to the file meanwhile
    copy      a file that appears whole and durable, or not at all

What a page holds is the business of `shearbolt.pages`, how pages make buckets that of
`shearbolt.tree`.
"""
