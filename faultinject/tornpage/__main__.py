"""`python -m tornpage` is the `tornpage` command."""

import sys

from tornpage.command import main

if __name__ == "__main__":
    sys.exit(main())
