"""What deploy/kubernetes holds is what Kubernetes takes, and as closed as it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes_validate
import pytest
import yaml
from dagster._core.launcher.base import LaunchRunContext

from tests.deploy.test_launcher import run_of

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
SERVE = FOLDER / "serve"
VERSION = "1.34"  # of Kubernetes; any that is maintained takes these


def documents() -> dict[str, dict[str, Any]]:
    names = yaml.safe_load((SERVE / "kustomization.yaml").read_text())["resources"]
    return {
        document["kind"]: document
        for name in names
        for document in yaml.safe_load_all((SERVE / name).read_text())
    }


def test_kubernetes_takes_each_document() -> None:
    for document in documents().values():
        kubernetes_validate.validate(document, VERSION, strict=True)


def test_what_kustomize_makes_of_them_is_taken_too() -> None:
    if not shutil.which("kubectl"):
        pytest.skip("install kubectl (apt: kubernetes-client) to see what kustomize makes")
    made = subprocess.run(
        ["kubectl", "kustomize", str(SERVE)], capture_output=True, text=True, check=True
    )
    found = list(yaml.safe_load_all(made.stdout))
    assert len(found) == len(documents()) + 1  # and the settings
    for document in found:
        kubernetes_validate.validate(document, VERSION, strict=True)
    [policy] = [one for one in found if one["kind"] == "NetworkPolicy"]
    assert policy["spec"]["ingress"][0]["from"] == [
        {"podSelector": {"matchLabels": {"mm-assets/may-ask": "true"}}}
    ]


def test_all_speak_of_the_same_pods() -> None:
    kinds = documents()
    labels = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert kinds["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert kinds["Service"]["spec"]["selector"] == labels
    assert kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels


def test_the_pod_runs_as_nobody_and_its_probes_are_those_of_mm_serve() -> None:
    from mm_assets.contract.settings import Settings
    from mm_assets.serving.app import make_app
    from mm_assets.serving.options import Options

    pod = documents()["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    [container] = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    paths = make_app(Options(open=True), {}, Settings()).openapi()["paths"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] in paths


def test_the_values_for_dagster_hold_no_secret_and_open_no_door() -> None:
    values = yaml.safe_load((FOLDER / "dagster-values.yaml").read_text())
    assert "assword:" not in (FOLDER / "dagster-values.yaml").read_text()
    assert values["runLauncher"]["type"] == "K8sRunLauncher"
    assert values["dagsterWebserver"]["service"]["type"] == "ClusterIP"
    [code] = values["dagster-user-deployments"]["deployments"]
    for part in (values["dagsterWebserver"], values["dagsterDaemon"], code):
        assert part["podSecurityContext"]["runAsNonRoot"] is True
        assert part["securityContext"]["readOnlyRootFilesystem"] is True
        assert part["resources"]["limits"]["memory"]


def test_runs_alone_get_the_key_that_signs_and_what_answers_the_public_one() -> None:
    values = yaml.safe_load((FOLDER / "dagster-values.yaml").read_text())
    [code] = values["dagster-user-deployments"]["deployments"]
    run = values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]["containerConfig"]
    [serve] = documents()["Deployment"]["spec"]["template"]["spec"]["containers"]
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "run"},
         "spec": {"containers": [{"name": "run", **run}]}}, VERSION, strict=True,
    )  # fmt: skip
    assert _of_secrets(run["env"]) == {"MM_SIGNING_KEY"}
    assert _of_secrets(code["env"]) == {"MM_VERIFY_KEY"}
    assert "env" not in serve  # the public half is no secret: a literal of the settings
    [settings] = yaml.safe_load((SERVE / "kustomization.yaml").read_text())["configMapGenerator"]
    assert "MM_VERIFY_KEY=" in settings["literals"]
    for part in (values["dagsterWebserver"], values["dagsterDaemon"]):
        assert "mm-signing" not in str(part)


def test_what_answers_knows_the_lake_and_the_table_of_the_runs() -> None:
    """The table says which promotion was the newest, should somebody cut the log short."""
    [made] = yaml.safe_load((SERVE / "kustomization.yaml").read_text())["configMapGenerator"]
    values = yaml.safe_load((FOLDER / "dagster-values.yaml").read_text())
    [code] = values["dagster-user-deployments"]["deployments"]
    runs = {one["name"]: one.get("value") for one in code["env"]}
    serve = dict(literal.split("=", 1) for literal in made["literals"])
    for name in ("MM_LAKE", "MM_TABLE"):
        assert serve[name] == runs[name]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """A server that takes jobs as Kubernetes does: the file that leads to it, and what it took."""
    taken: list[dict[str, Any]] = []

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append({"path": self.path, **json.loads(body)})
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "one",
        "clusters": [{"name": "one", "cluster": {"server": address}}],
        "users": [{"name": "one", "user": {}}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
    }))  # fmt: skip
    yield file, taken
    server.shutdown()
    server.server_close()


def as_dagster_says(value: Any) -> Any:
    """Keys of the chart's values as those of Dagster's settings, at the top alone."""
    return {re.sub("([A-Z])", lambda c: "_" + c[1].lower(), k): v for k, v in value.items()}


def test_a_training_asks_kubernetes_for_the_pod_that_its_tags_say(
    cluster: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    """dagster-k8s' own launcher with the values' settings, and the tags of docs/deployment.md."""
    kubeconfig, taken = cluster
    values = yaml.safe_load((FOLDER / "dagster-values.yaml").read_text())
    said = as_dagster_says(values["runLauncher"]["config"]["k8sRunLauncher"])
    said["run_k8s_config"] = as_dagster_says(said["run_k8s_config"])
    settings = {
        "module": "dagster_k8s", "class": "K8sRunLauncher",
        "config": {**said, "service_account_name": "mm-dagster", "job_namespace": "mm",
                   "job_image": "mm-assets:0.1.0", "instance_config_map": "dagster-instance",
                   "dagster_home": "/tmp", "load_incluster_config": False,
                   "kubeconfig_file": str(kubeconfig)},
    }  # fmt: skip
    words = (FOLDER.parents[1] / "docs" / "deployment.md").read_text()
    [shown] = [b for b in re.findall("```yaml\n(.*?)```", words, re.S) if "dagster-k8s" in b]
    tags = {k: json.dumps(v) for k, v in yaml.safe_load(shown)["training_tags"].items()}
    home = tmp_path / "home"
    home.mkdir()
    with dg.instance_for_test(temp_dir=str(home), overrides={"run_launcher": settings}) as instance:
        for some in ({}, tags):
            instance.run_launcher.launch_run(LaunchRunContext(run_of(instance, some), None))
    image = (FOLDER.parent / "image" / "requirements.lock").read_text()
    assert "\ndagster-k8s==" in image  # the daemon of the chart is our image
    for job in taken:
        assert job.pop("path") == "/apis/batch/v1/namespaces/mm/jobs"
        kubernetes_validate.validate(
            {"apiVersion": "batch/v1", "kind": "Job", **job}, VERSION, strict=True
        )
    usual, trains = (job["spec"]["template"]["spec"] for job in taken)
    [of_usual], [of_training] = usual["containers"], trains["containers"]
    assert of_usual["image"] == "mm-assets:0.1.0"
    assert "nvidia" not in json.dumps(usual)
    assert of_training["image"].endswith("-gpu")
    assert str(of_training["resources"]["limits"]["nvidia.com/gpu"]) == "1"
    assert trains["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert trains["tolerations"][0]["key"] == "nvidia.com/gpu"
    # Everything else is as for any run: its key, its user, its folders.
    for name in ("env", "securityContext", "volumeMounts"):
        assert of_training[name] == of_usual[name], name
    for name in ("securityContext", "volumes", "serviceAccountName"):
        assert trains[name] == usual[name], name
    assert "MM_SIGNING_KEY" in str(of_training["env"])


def _of_secrets(env: list[dict[str, Any]]) -> set[str]:
    """The variables that come from the secret, each under its own name, if it is there."""
    found = [one for one in env if "valueFrom" in one]
    for one in found:
        wanted = {"name": "mm-signing", "key": one["name"], "optional": True}
        assert one["valueFrom"] == {"secretKeyRef": wanted}
    return {one["name"] for one in found}
