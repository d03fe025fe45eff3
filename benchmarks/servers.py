"""Real servers, each in a venv of its own in the benchmarks' cache, started and stopped here.

llama.cpp comes in a wheel, mlx_lm has a wheel for Linux, and llama-cpp-python is compiled: a quarter of an hour or more, once.
"""

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.venvs import venv_python
from benchmarks.workspace import ALIAS, Workspace

ROOT = Path(__file__).parents[1]
LLAMA_SERVER = ROOT / "tests/support/llama_server.py"
CONSTANT_MODEL = ROOT / "benchmarks/constant_model.py"
LLAMA_AND_LITELLM = (
    "xllamacpp==2026.10.11549",
    "gguf==0.19.0",
    "tokenizers==0.23.3",
    "numpy==2.4.6",
    "litellm[proxy]==1.108.0",
)
MLX_LM = ("mlx[cpu]==0.32.4", "mlx-lm==0.32.2")
LLAMA_CPP_PYTHON = ("llama-cpp-python[server]==0.3.36",)
# One job, and no part of it that its server does not need.
BUILD = {
    "CMAKE_BUILD_PARALLEL_LEVEL": "1",
    "CMAKE_ARGS": "-DLLAVA_BUILD=OFF -DLLAMA_CURL=OFF -DGGML_OPENMP=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF",
}
ALIASES = 28
CONTEXT_TOKENS = 8_192
START_SECONDS = 600.0  # LiteLLM takes 10 s by itself, and minutes on a busy machine
LOADED_MODEL = "default_model"  # mlx_lm: the model it was started with. Every other name is loaded as a model
ANSWER = '{"category": "letter", "confidence": 0.9, "language": "en"}'


@dataclass(frozen=True)
class Server:
    """A running server: its name, its URL, and the slot's other settings.

    `work` counts what the server has done since its start, in `unit`: completions, or the tokens it has written.
    `upstream` is the server that a proxy passes its calls on to.
    """

    name: str
    url: str
    model: str = ALIAS
    api_key: str | None = None
    work: Callable[[], int] | None = None
    unit: str = "completions"
    upstream: "Server | None" = None


@contextmanager
def llama_cpp(workspace: Workspace, api_key: str | None = None) -> Iterator[Server]:
    """llama.cpp's HTTP server with a model of random weights."""
    python = _llama_python(workspace)
    with workspace.folder() as folder:
        url = _free_url()
        command = [python, LLAMA_SERVER, _random_model(python, folder), url.rpartition(":")[2]]
        command += ["--ctx", 2 * CONTEXT_TOKENS, "--slots", 2, *(["--api-key", api_key] if api_key else [])]
        with _process(folder / "llama.log", f"{url}/health", command):
            yield Server("llama.cpp", url, api_key=api_key, work=_tokens_written(url, api_key), unit="tokens")


@contextmanager
def mlx_lm(workspace: Workspace) -> Iterator[Server]:
    """mlx_lm's server with a model that gives one answer to all requests."""
    python = venv_python(workspace, "mlx-lm", MLX_LM)
    with workspace.folder() as folder:
        model, url, log = folder / "model", _free_url(), folder / "mlx.log"
        (folder / "hub").mkdir()  # without a cache of models its list of models ends in an error
        subprocess.run([str(python), str(CONSTANT_MODEL), str(model), ANSWER], check=True)
        command = [python.parent / "mlx_lm.server", "--model", model, "--port", url.rpartition(":")[2]]
        with _process(log, f"{url}/health", command, {"HF_HUB_CACHE": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}):
            yield Server("mlx_lm", url, LOADED_MODEL, work=lambda: log.read_text().count('"POST /v1/chat/completions'))


@contextmanager
def llama_cpp_python(workspace: Workspace, api_key: str | None = None) -> Iterator[Server]:
    """llama-cpp-python's server with the model of `llama_cpp`."""
    python = venv_python(workspace, "llama-cpp-python", LLAMA_CPP_PYTHON, BUILD)
    with workspace.folder() as folder:
        model, url, log = _random_model(_llama_python(workspace), folder), _free_url(), folder / "llama.log"
        command = [python, "-m", "llama_cpp.server", "--model", model, "--port", url.rpartition(":")[2]]
        command += ["--n_ctx", CONTEXT_TOKENS, *(["--api_key", api_key] if api_key else [])]
        with _process(log, f"{url}/v1/models", command):
            yield Server(
                "llama-cpp-python",
                url,
                api_key=api_key,
                work=lambda: log.read_text().count('"POST /v1/chat/completions'),
            )


@contextmanager
def lite_llm(workspace: Workspace, upstream: Server) -> Iterator[Server]:
    """A LiteLLM proxy with 28 aliases of `upstream` and a master key."""
    python, key = _llama_python(workspace), f"sk-{secrets.token_hex(8)}"
    names = [ALIAS, *(f"alias-{n}" for n in range(1, ALIASES))]
    parameters = {
        "model": f"openai/{upstream.model}",
        "api_base": f"{upstream.url}/v1",
        "api_key": upstream.api_key or "none",
    }
    config = {"model_list": [{"model_name": name, "litellm_params": parameters} for name in names]}
    with workspace.folder() as folder:
        (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
        url = _free_url()
        command = [python.parent / "litellm", "--config", folder / "config.yaml", "--host", "127.0.0.1"]
        command += ["--port", url.rpartition(":")[2], "--telemetry", "False"]
        environment = {"LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        with _process(folder / "litellm.log", f"{url}/health/liveliness", command, environment):
            yield Server(f"LiteLLM before {upstream.name}", url, api_key=key, upstream=upstream)


def _llama_python(workspace: Workspace) -> Path:
    return venv_python(workspace, "real-servers", LLAMA_AND_LITELLM)


def _random_model(python: Path, folder: Path) -> Path:
    make = "import sys; sys.path.insert(0, sys.argv[1]); import llama_server, pathlib; "
    make += "llama_server.make_model(pathlib.Path(sys.argv[2]))"
    model = folder / "random-qwen3.gguf"
    subprocess.run([str(python), "-c", make, str(LLAMA_SERVER.parent), str(model)], check=True)
    return model


def _free_url() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def _tokens_written(url: str, api_key: str | None) -> Callable[[], int]:
    def count() -> int:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        for line in httpx.get(f"{url}/metrics", headers=headers, timeout=10).text.splitlines():
            if line.startswith("llamacpp:tokens_predicted_total"):
                return int(float(line.split()[-1]))
        raise RuntimeError("llama.cpp reports no metrics")

    return count


@contextmanager
def _process(
    log: Path, url: str, command: Sequence[object], environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server until the end of the block. Returns when it answers HTTP. Raises `RuntimeError` with the end of its log."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OFFLOAD_")}
    with log.open("w") as output:
        running = subprocess.Popen(
            [str(part) for part in command],
            stdout=output,
            stderr=output,
            env=kept | dict(environment or {}),
            cwd=log.parent,
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    httpx.get(url, timeout=5)
                    break
                except httpx.HTTPError:
                    if running.poll() is not None or time.monotonic() > deadline:
                        name, log_end = Path(str(command[0])).name, log.read_text()[-1_000:]
                        ending = f"exit code {running.returncode}" if running.returncode is not None else "it hangs"
                        raise RuntimeError(f"{name} did not start ({ending}): {log_end}") from None
                    time.sleep(0.2)
            yield
        finally:
            running.terminate()
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
