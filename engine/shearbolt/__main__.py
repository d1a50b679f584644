"""`python -m shearbolt`."""

from __future__ import annotations

import sys

from shearbolt.command import main

sys.exit(main())
