"""The daemon starts, watches and stops runs as tasks of ECS with the settings and the rights that
deploy/aws/app.yaml gives it: dagster-aws' own launcher, against a server that speaks ECS.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
import yaml
from botocore.exceptions import ClientError
from dagster._config import validate_config
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.instance.config import dagster_instance_config_schema
from dagster._core.launcher.base import LaunchRunContext, WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._utils.tags import TagConcurrencyLimitsCounter
from dagster_aws.ecs.utils import get_task_logs

from tests.deploy.recorder import NOBODY, REGION, Recorded, recording_server
from tests.deploy.templates import (
    CLUSTER,
    EXPORTS,
    HERE,
    LOGS,
    Grant,
    grants_of,
    resolved,
    resources,
    template,
)

DAEMON, WEB = "Daemon", "Webserver"


def container_of(task: str) -> dict[str, Any]:
    [container] = template("app")["Resources"][task]["Properties"]["ContainerDefinitions"]
    return container


def environment_of(task: str) -> dict[str, str]:
    return {one["Name"]: resolved(one["Value"]) for one in container_of(task)["Environment"]}


def settings_of(task: str, folder: Path) -> dict[str, Any]:
    """The dagster.yaml of a task: its own start writes it and then runs `true`."""
    *_, program = resolved(container_of(task)["EntryPoint"])
    environment = {**environment_of(task), "DAGSTER_HOME": str(folder), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", program, "true"], env=environment, check=True)
    return yaml.safe_load((folder / "dagster.yaml").read_text())


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    with recording_server() as (endpoint, seen):
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": NOBODY, "AWS_SECRET_ACCESS_KEY": "secret",
            "MM_RUN_TASK": HERE["RunTask"],
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        ecs, ec2 = boto3.client("ecs"), boto3.client("ec2")
        ecs.create_cluster(clusterName=CLUSTER)
        ecs.register_task_definition(
            family="mm-app-run",
            networkMode="awsvpc",
            containerDefinitions=[{
                "name": "run", "image": "mm", "memory": 512,
                "logConfiguration": {"logDriver": "awslogs", "options": {
                    "awslogs-group": LOGS, "awslogs-stream-prefix": "run"}},
            }],
        )  # fmt: skip
        subnets = [s["SubnetId"] for s in ec2.describe_subnets()["Subnets"]][:2]
        [group, *_] = ec2.describe_security_groups()["SecurityGroups"]
        monkeypatch.setitem(EXPORTS, "Subnets", ",".join(subnets))
        monkeypatch.setitem(EXPORTS, "TasksGroup", group["GroupId"])
        yield seen


def acting(role: str, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ACCESS_KEY_ID", role)
    boto3.DEFAULT_SESSION = None


def run_of(instance: dg.DagsterInstance, tags: dict[str, str] | None = None) -> dg.DagsterRun:
    """A run as the daemon finds it in its queue: it knows its code by origin."""
    module = "mm_assets.orchestration.code_location"
    location = ManagedGrpcPythonEnvCodeLocationOrigin(
        LoadableTargetOrigin(module_name=module), location_name="mm_assets"
    )
    repository = RepositoryPythonOrigin("python", ModuleCodePointer(module, "defs", "/"))
    return create_run_for_test(
        instance,
        job_name="pets_upload",
        remote_job_origin=RemoteJobOrigin(
            RemoteRepositoryOrigin(location, "__repository__"), "pets_upload"
        ),
        job_code_origin=JobPythonOrigin("pets_upload", repository),
        tags=tags,
        status=dg.DagsterRunStatus.STARTED,
    )


# What no request shows: ECS asks whether the daemon may hand on the roles that a run's task has.
UNSEEN = {DAEMON: {"iam:PassRole"}, WEB: set()}
# Dagster's logs and the agent of Session Manager: test_policies.py and its list.
ELSEWHERE = {WEB: {"s3:GetObject", "s3:ListBucket", "kms:Decrypt"}, DAEMON: set()}


def test_a_run_becomes_a_task_and_needs_what_the_roles_allow(
    aws: Recorded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_of("DaemonTask", tmp_path / "home")
    overrides = {"run_launcher": settings["run_launcher"]}
    acting(DAEMON, monkeypatch)
    with dg.instance_for_test(temp_dir=str(tmp_path / "home"), overrides=overrides) as instance:
        launcher: Any = instance.run_launcher
        first, second = run_of(instance), run_of(instance)
        for run in (first, second):
            launcher.launch_run(LaunchRunContext(run, None))
        first = instance.get_run_by_id(first.run_id)
        task = first.tags["ecs/task_arn"]
        [told] = boto3.client("ecs").describe_tasks(cluster=CLUSTER, tasks=[task])["tasks"]
        [container] = told["overrides"]["containerOverrides"]
        assert container["command"][1:5] == ["-m", "dagster", "api", "execute_run"]
        assert len(json.dumps(told["overrides"])) < 8192  # ECS takes no longer ones
        assert launcher.check_run_worker_health(first).status is WorkerStatus.RUNNING
        assert launcher.terminate(first.run_id)  # it took longer than it may
        with contextlib.suppress(ClientError):  # the last words of one that failed; it said none
            get_task_logs(launcher.ecs, launcher.logs, CLUSTER, task, "run")
        acting(WEB, monkeypatch)
        of_web = dg.DagsterInstance.from_ref(instance.get_ref())
        assert of_web.run_launcher.terminate(second.run_id)
    for role in (DAEMON, WEB):
        grants = grants_of(role)
        refused = {n for n in aws.needs[role] if not any(g.covers(n) for g in grants)}
        assert not refused, (role, sorted(refused))
        grants -= {Grant("ecs:RunTask", HERE["RunGpuTask"])}  # the next test asks for it
        unused = {g.action for g in grants if not any(g.covers(n) for n in aws.needs[role])}
        agent = {action for action in unused if action.startswith("ssmmessages:")}
        assert unused - agent == UNSEEN[role] | ELSEWHERE[role]


def registered(task: str, ecs: Any) -> None:
    """A task definition of the template; botocore holds it against the service's own model."""

    def as_asked(value: Any) -> Any:
        if isinstance(value, list):
            return [as_asked(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {name[0].lower() + name[1:]: as_asked(inner) for name, inner in value.items()}

    properties = resolved(template("app")["Resources"][task]["Properties"])
    # moto wants a limit of memory; ECS is content with what is reserved.
    ecs.register_task_definition(**as_asked(properties), memory="4096")


def training_tags() -> dict[str, Any]:
    """What the stack tells people to write into a dataset's YAML."""
    return yaml.safe_load(resolved(template("app")["Outputs"]["TrainingTags"]["Value"]))


def a_machine_of_ours(ecs: Any) -> None:
    """What the auto scaling group would start: moto starts none of itself."""
    ec2 = boto3.client("ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    [instance] = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"]
    identity = json.dumps({"instanceId": instance["InstanceId"]})
    ecs.register_container_instance(cluster=CLUSTER, instanceIdentityDocument=identity)


def test_a_training_gets_the_machine_that_its_tags_ask_for(
    aws: Recorded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """training_tags of the YAML, as docs/deployment.md and the template's output show them."""
    large = {"ecs/cpu": "16384", "ecs/memory": "122880", "ecs/ephemeral_storage": "200"}
    gpu = {name: json.dumps(value) for name, value in training_tags().items()}
    ecs = boto3.client("ecs")
    registered("RunGpuTask", ecs)
    a_machine_of_ours(ecs)
    settings = settings_of("DaemonTask", tmp_path / "home")
    overrides = {"run_launcher": settings["run_launcher"]}
    acting(DAEMON, monkeypatch)
    asked: list[dict[str, Any]] = []
    with dg.instance_for_test(temp_dir=str(tmp_path / "home"), overrides=overrides) as instance:
        launcher: Any = instance.run_launcher
        about_to_be_sent = "before-call.ecs.RunTask"  # botocore has validated it by then
        launcher.ecs.meta.events.register(
            about_to_be_sent, lambda params, **_: asked.append(json.loads(params["body"]))
        )
        runs = [run_of(instance, tags) for tags in ({}, large, gpu)]
        for run in runs:
            launcher.launch_run(LaunchRunContext(run, None))
        trains: Any = instance.get_run_by_id(runs[-1].run_id)
        task = trains.tags["ecs/task_arn"]
        [told] = ecs.describe_tasks(cluster=CLUSTER, tasks=[task])["tasks"]
        assert launcher.check_run_worker_health(trains).status is WorkerStatus.RUNNING
        assert launcher.terminate(trains.run_id)
    usual, larger, on_gpu = asked
    assert usual["overrides"].keys() == {"containerOverrides"}
    assert usual["launchType"] == larger["launchType"] == "FARGATE"
    assert (larger["overrides"]["cpu"], larger["overrides"]["memory"]) == ("16384", "122880")
    assert larger["overrides"]["ephemeralStorage"] == {"sizeInGiB": 200}
    assert "launchType" not in on_gpu
    assert told["capacityProviderName"] == HERE["GpuCapacity"]
    assert told["taskDefinitionArn"] == HERE["RunGpuTask"]
    assert told["containerInstanceArn"]
    [container] = on_gpu["overrides"]["containerOverrides"]
    assert container["name"] == container_of("RunGpuTask")["Name"]
    assert on_gpu["networkConfiguration"] == usual["networkConfiguration"]
    refused = {n for n in aws.needs[DAEMON] if not any(g.covers(n) for g in grants_of(DAEMON))}
    assert not refused, sorted(refused)


def test_trainings_on_the_one_gpu_wait_for_each_other_in_dagsters_queue(tmp_path: Path) -> None:
    """There nothing times out; a task that waits at ECS for a machine would."""
    settings = settings_of("DaemonTask", tmp_path)
    assert settings["run_monitoring"]["start_timeout_seconds"] == 1800
    [limit] = settings["concurrency"]["runs"]["tag_concurrency_limits"]
    [tag] = training_tags()
    [(_, group)] = resources("AWS::AutoScaling::AutoScalingGroup")
    assert (limit["key"], limit["limit"]) == (tag, int(group["MaxSize"]))
    running = dg.DagsterRun(job_name="pets_train", tags={tag: "of pets"})
    turns = TagConcurrencyLimitsCounter([limit], [running])
    assert turns.is_blocked(dg.DagsterRun(job_name="blur_train", tags={tag: "of blur"}))
    assert not turns.is_blocked(dg.DagsterRun(job_name="blur_upload"))


def test_the_settings_of_the_tasks_are_what_dagster_takes(tmp_path: Path) -> None:
    for task in ("WebserverTask", "DaemonTask", "CodeServerTask"):
        settings = settings_of(task, tmp_path / task)
        assert "$" not in str(settings)
        checked = validate_config(dg.Shape(dagster_instance_config_schema()), settings)
        assert checked.success, checked.errors


def test_each_variable_that_the_settings_read_is_given(tmp_path: Path) -> None:
    for task in ("WebserverTask", "DaemonTask", "CodeServerTask", "RunTask"):
        container = container_of(task)
        given = set(environment_of(task)) | {
            one["Name"] for one in container["Secrets"] if "Name" in one
        }
        text = template("app")["Mappings"]["Dagster"]["Settings"]["Yaml"]
        read = set(re.findall(r"\{env: (\w+)\}", text))
        # Only who starts runs makes the launcher.
        needed = read - {"MM_RUN_TASK"} if task in ("CodeServerTask", "RunTask") else read
        assert needed <= given, (task, needed - given)
