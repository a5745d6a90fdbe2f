"""The model's world with many hosts: each has a journal and a clock of its own, and all share one PostgreSQL."""

from __future__ import annotations

from model_world import World
from model_zygote import Zygote
from real_postgres import RealPostgres


class SharedWorld(World):
    """
    One example of the model.

    Args:
        zygote: From which the processes are forked.
        server: In which the ledger is.
    """

    hosts = 2

    def __init__(self, zygote: Zygote, server: RealPostgres) -> None:
        super().__init__(zygote)
        self._server = server
        self._database = server.new_database()

    def ledger(self) -> str:
        """A fresh database."""
        return self._server.url(self._database)

    def end_leases(self) -> None:
        """The server's clock does not move with the model's."""
        with self._server.connect(self._database) as connection:
            if connection.execute("SELECT to_regclass('meterkit_lease')").fetchone() != (None,):
                connection.execute("UPDATE meterkit_lease SET expires_at = expires_at - 61")

    def close(self) -> None:
        """End what is left, and the database."""
        super().close()
        self._server.drop_databases()
