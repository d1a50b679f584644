"""The B+tree: buckets, their pages, and what a write transaction makes of them.

Read:

    bucket      keys in order, with values: what a program uses
    cursor      a place in a bucket
    ranges      views over a part of a bucket
    lookup      finding a key, and finding it again
    void        where there is none, for whoever takes the first one again and again
    whole       a bucket with all below it, each page once

Changed, and spilled at commit:

    tree        a bucket's pages, and the nodes in their place
    node        a page being changed
    leafpairs   the pairs of one leaf meanwhile
    insertions  many puts given together
    deletions   many deletes in a row, by way of `doomed` and `leafrun`
    cut         where a node that is too large is cut
    contents    what its pages are made of

    records, chunks   pairs in one piece each; many things, so many at a time

Which version of the tree a transaction sees is the business of `shearbolt.database`.
"""
