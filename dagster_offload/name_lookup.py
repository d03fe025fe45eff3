"""Look-ups of host names that hold nobody up.

asyncio leaves them to its pool of threads, and the end of an event loop waits for that pool: where a name server does
not answer, a probe bounded at 5 s would return after 20. A look-up in a thread of its own is left behind instead.
"""

import asyncio
import socket
import threading
from concurrent.futures import Future

from aiohttp.abc import AbstractResolver, ResolveResult


class NameLookup(AbstractResolver):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found: Future[list[ResolveResult]] = Future()
        found.set_running_or_notify_cancel()  # whoever stops waiting does not take the thread's answer away from it

        def look_up() -> None:
            try:
                found.set_result(_addresses(host, port, family))
            except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
                found.set_exception(error)

        threading.Thread(target=look_up, name=f"look-up-{host}", daemon=True).start()
        return await asyncio.wrap_future(found)

    async def close(self) -> None:
        """Nothing is held."""


def _addresses(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host,
            # As a number that keeps the interface of a link-local address, which mDNS may well answer with.
            host=socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0],
            port=port,
            family=kind,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for kind, _, protocol, _, address in found
    ]
