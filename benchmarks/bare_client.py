"""A good script without the product: a fixed number of tasks that use httpx on aiohttp and store nothing.

`python bare_client.py URL CONCURRENCY DOCUMENTS.jsonl`. Each line is a document: the bodies of its completions, in order.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport


async def main(url: str, concurrency: int, file: Path) -> None:
    with file.open(encoding="utf-8") as documents:
        async with httpx.AsyncClient(transport=AiohttpTransport(client=_session), timeout=900) as http:
            await asyncio.gather(*(_lane(http, f"{url}/v1/chat/completions", documents) for _ in range(concurrency)))


async def _lane(http: httpx.AsyncClient, url: str, documents: Iterator[str]) -> None:
    for line in documents:
        for body in json.loads(line):
            response = await http.post(url, json=body)
            response.raise_for_status()
            json.loads(response.json()["choices"][0]["message"]["content"])


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
