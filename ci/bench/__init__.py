"""Benchmarks: the engine beside its peers, each run one command.

    python -m ci.bench engine --mode quick

    command  __main__    reads the arguments
    engine   rounds of one worker process a peer, interleaved
    worker   one peer, one process: runs the workloads, prints JSON
    peers    what a workload is in the words of each store
    workloads  names, order, data; the same bytes for every peer
    report   medians, ratios, targets
    tables, charts   the report as Markdown and as SVG
    machine  what it ran on

No test depends on a time. `tests/ci` checks that the harness measures what it
says and that its arithmetic is right.
"""
