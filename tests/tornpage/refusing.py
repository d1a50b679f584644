"""A block in which something is refused, which is said again at its end."""

from contextlib import contextmanager

import pytest

from tornpage.patch import UnsupportedCallError, patched


@contextmanager
def refusing(disk, match=None):
    """As `patched`."""
    with pytest.raises(UnsupportedCallError, match=match), patched(disk) as root:
        yield root
