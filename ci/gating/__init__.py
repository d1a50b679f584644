"""The gate: runs crash tests to a policy and gives one verdict.

    policy     what to run: `[tool.tornpage.gate]` of pyproject.toml
    units      the work, cut into pieces that are pure functions
    workers    processes that do them
    lanes      which units make up which part of the result
    outcome    files written, and what the terminal shows

The command is `ci/gate.py`. It needs an installed tornpage and nothing else of this
repository, so that other projects can run it where it lies.
"""
