"""The Kubernetes part of docs/several-hosts.md has the form that dagster-k8s reads. Nothing here is a cluster."""

from typing import Any

import dagster as dg
import pytest
from dagster._config import validate_config
from dagster_k8s import k8s_job_executor
from dagster_k8s.launcher import K8sRunLauncher
from dagster_k8s.models import k8s_model_from_dict
from kubernetes.client import V1Container
from ruamel.yaml import YAML

from tests.support.doc_blocks import ROOT, blocks_of

PAGE = ROOT / "docs" / "several-hosts.md"
# How the chart's template writes the values into dagster.yaml.
LAUNCHER_KEYS = {
    "imagePullPolicy": "image_pull_policy",
    "loadInclusterConfig": "load_incluster_config",
    "envConfigMaps": "env_config_maps",
    "envSecrets": "env_secrets",
    "envVars": "env_vars",
    "volumes": "volumes",
    "volumeMounts": "volume_mounts",
}


def block(language: str, word: str) -> str:
    """The only block of the page in this language that has the word."""
    (found,) = [each.text for each in blocks_of(PAGE) if each.language == language and word in each.text]
    return found


def values(word: str) -> Any:
    return YAML(typ="safe").load(block("yaml", word))


def test_the_run_launcher_of_the_values_is_valid() -> None:
    written = values("runLauncher:")["runLauncher"]
    assert written["type"] == K8sRunLauncher.__name__
    config = {LAUNCHER_KEYS[key]: value for key, value in written["config"]["k8sRunLauncher"].items()}
    for key in ("env_secrets", "env_config_maps"):
        config[key] = [each["name"] for each in config[key]]
    needed = {
        "service_account_name": "dagster",
        "instance_config_map": "dagster-instance",
        "dagster_home": "/opt/dagster",
    }
    schema = dg.Shape(K8sRunLauncher.config_type())  # type: ignore[no-untyped-call]
    checked = validate_config(schema, {**config, **needed})
    assert checked.errors in (None, [])


def extract_job() -> dg.JobDefinition:
    """The job of the page's module."""
    module: dict[str, Any] = {}
    exec(block("python", "k8s_job_executor"), module)  # noqa: S102 - our own page
    defs: dg.Definitions = module["defs"]
    return defs.resolve_job_def("extract")


def test_the_configuration_of_a_run_fits_the_job_with_the_executor_of_kubernetes() -> None:
    job, config = extract_job(), values("step_k8s_config:")
    assert job.executor_def.name == k8s_job_executor.name
    dg.validate_run_config(job, config)
    steps = config["execution"]["config"]["step_k8s_config"]
    container = k8s_model_from_dict(V1Container, {"name": "dagster", **steps["container_config"]})
    assert container.resources.limits == container.resources.requests
    assert container.env[0].name == "PYTHON_CPU_COUNT"

    steps["container"] = steps.pop("container_config")
    with pytest.raises(dg.DagsterInvalidConfigError, match='unexpected config entry "container"'):
        dg.validate_run_config(job, config)
