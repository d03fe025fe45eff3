"""A common script: LiteLLM's SDK and a semaphore, no ledger. Runs in a separate venv.

`python litellm_client.py URL CONCURRENCY DOCUMENTS.jsonl`. Each line is a document: the bodies of its completions, in order.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise it first downloads prices
import litellm  # type: ignore[import-not-found, unused-ignore]


async def main(url: str, concurrency: int, documents: list[list[dict[str, Any]]]) -> None:
    semaphore = asyncio.Semaphore(concurrency)
    await asyncio.gather(*(_ask(url, bodies, semaphore) for bodies in documents))


async def _ask(url: str, bodies: list[dict[str, Any]], semaphore: asyncio.Semaphore) -> None:
    async with semaphore:
        for body in bodies:
            wanted = {name: value for name, value in body.items() if name not in ("model", "chat_template_kwargs")}
            answer = await litellm.acompletion(
                model=f"openai/{body['model']}",
                api_base=f"{url}/v1",
                api_key="none",
                num_retries=2,
                extra_body={"chat_template_kwargs": body.get("chat_template_kwargs", {})},
                **wanted,
            )
            json.loads(answer.choices[0].message.content)


if __name__ == "__main__":
    lines = Path(sys.argv[3]).read_text(encoding="utf-8").splitlines()
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), [json.loads(line) for line in lines]))
