"""A transaction as a `with` block: what `DB.update` and `DB.view` return.

    with db.update() as tx:  -->  begin ... commit, or on an exception rollback

The block owns the transaction: inside it nobody else may commit or roll it back. One
object is one block at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shearbolt.errors import TxManagedError

if TYPE_CHECKING:
    from types import TracebackType

    from shearbolt.database.handle import DB
    from shearbolt.database.tx import Tx

__all__ = ["Managed"]


class Managed:
    """The context manager behind `update` and `view`.

    It may be used again when its block is over, for another transaction.
    """

    __slots__ = ("_db", "_tx", "_writable")

    def __init__(self, db: DB, *, writable: bool) -> None:
        self._db = db
        self._writable = writable
        self._tx: Tx | None = None

    def __enter__(self) -> Tx:
        if self._tx is not None:
            # Nobody would know which of two transactions a block has ended.
            raise TxManagedError(
                "this update() or view() has an open transaction: call it again for "
                "another one"
            )
        tx = self._tx = self._db.begin(self._writable)
        tx.managed = True
        return tx

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        tx, self._tx = self._tx, None
        if tx is None:
            return
        tx.managed = False
        try:
            if kind is None and self._writable:
                tx.commit()
        finally:
            if not tx.closed:
                tx.give_up()
