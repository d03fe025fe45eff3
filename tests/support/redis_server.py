"""A Redis server on an address of its own."""

import base64
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from tests.support.acceptance import wait_for
from tests.support.patience import PATIENCE_SECONDS

REDIS_PORT = 6379  # on an address that only this test has
REDIS_PASSWORD = "s3cret-redis"


class RedisServer:
    """A Redis with a password, whose files are in a folder."""

    def __init__(self, address: str, folder: Path) -> None:
        self.url = f"redis://:{REDIS_PASSWORD}@{address}:{REDIS_PORT}/0"
        self._folder = folder
        options = {"bind": address, "port": str(REDIS_PORT), "requirepass": REDIS_PASSWORD, "save": "3600 1"}
        self._options = [
            word for name, value in {**options, "dir": str(folder)}.items() for word in (f"--{name}", value)
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start Redis with what it had when it was stopped."""
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(["redis-server", *self._options], stdout=log, stderr=log)
        wait_for(self._answers, "Redis")

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def stop(self) -> None:
        """Stop Redis, if it runs, and wait for its end."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def clear(self) -> None:
        """Forget everything, such as the step of a worker that was killed."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def content(self) -> str:
        """Everything that Redis holds, with the bodies of its messages decoded."""
        with redis.Redis.from_url(self.url, decode_responses=True) as client:
            read: dict[str, Callable[[str], Any]] = {
                "string": client.get,
                "list": lambda key: client.lrange(key, 0, -1),
                "hash": client.hgetall,
                "set": client.smembers,
                "zset": lambda key: client.zrange(key, 0, -1),
            }
            found = "\n".join(f"{key}: {read[client.type(key)](key)}" for key in client.scan_iter())
        bodies = [base64.b64decode(body).decode() for body in re.findall(r'"body": "([A-Za-z0-9+/=]+)"', found)]
        return "\n".join([found, *bodies])
