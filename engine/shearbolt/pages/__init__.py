"""Pages: what the bytes of a file mean, and where they are read, kept and written.

    format    the layout of a page, and the records that it is read as
    decoding  bytes to records
    encoding  records to bytes
    pager     pages by number: read, decoded once, kept within a bound of bytes
    window    reading more than is asked for, where that is cheaper
    newpages  the pages that a commit makes
    freelist  which pages may be written, and since when
    freeruns  free pages that lie together, and finding so many
    pageset   a set of page numbers that knows its own bytes in the file
    pagemap   what a walk knows of the pages it has met

Nothing here knows a key from a value's point of view: how pages make a tree is the
business of `shearbolt.tree`.
"""
