"""The templates of deploy/aws as Python, with the names that the tests' servers use put in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from tests.deploy.recorder import ACCOUNT, KEY, REGION, Need

AWS = Path(__file__).parents[2] / "deploy" / "aws"
NAMES = ("network", "data", "app", "watch")
CLUSTER, LOGS = "mm-cluster", "mm-run-logs"
PSEUDO = {
    "AWS::Partition": "aws", "AWS::Region": REGION, "AWS::AccountId": ACCOUNT,
    "AWS::StackName": "mm-app",
}  # fmt: skip
# What the other stacks export.
EXPORTS = {
    "Bucket": "mm-lake",
    "BucketArn": "arn:aws:s3:::mm-lake",
    "Lake": "s3://mm-lake/lake",
    "Logs": "arn:aws:s3:::mm-lake/logs/*",
    **{
        folder.capitalize(): f"arn:aws:s3:::mm-lake/lake/{folder}/*"
        for folder in ("inbox", "datasets", "probes", "doctor", "received")
    },
    "Prefix": "lake",
    "Table": "mm-table",
    "TableArn": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/mm-table",
    "EventsArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:mm-events",
    "EventsDeadArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:mm-events-dead",
    "EventsUrl": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/mm-events",
    "KeyArn": KEY,
    "TasksGroup": "sg-tasks",
    "Subnets": "subnet-a,subnet-b",
    "DatabaseHost": "127.0.0.1",
    "DagsterLogin": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:mm-login",
}
# The stack that the tests look at has a GPU, and no login.
HOLDS = {"Gpu": True, "Run": True, "Signed": False, "Login": False}
HERE = {
    "Cluster": CLUSTER,
    "Cluster.Arn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{CLUSTER}",
    "RunTask": f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/mm-app-run:1",
    "RunGpuTask": f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/mm-app-run-gpu:1",
    "RunLogs": LOGS,
    "GpuCapacity": "mm-app-gpu",
    "GpuImage": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mm@sha256:{'0' * 64}",
    "AWS::NoValue": None,
    "VerifyKey": "",
    "Run.Arn": f"arn:aws:iam::{ACCOUNT}:role/Run",
    "Starting.Arn": f"arn:aws:iam::{ACCOUNT}:role/Starting",
}


@cache
def template(name: str) -> dict[str, Any]:
    """A template as plain dictionaries; `!Sub x` is {"Fn::Sub": "x"}."""
    from cfnlint.decode.cfn_yaml import load

    return load(str(AWS / f"{name}.yaml"))


def resources(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every resource of a type, in all templates: its name and its properties."""
    for name in NAMES:
        for logical, resource in template(name)["Resources"].items():
            if resource["Type"] == kind:
                yield logical, resource.get("Properties", {})


def resolved(value: Any, names: dict[str, Any] | None = None) -> Any:
    """A value as CloudFormation would make it. Raises KeyError for an unknown name."""
    known = {**PSEUDO, **HERE, **(names or {})}
    if isinstance(value, list):
        every = [resolved(one, names) for one in value]
        return [one for one in every if one is not None]
    if not isinstance(value, dict):
        return value
    [(function, argument), *more] = value.items()
    if more or not (function.startswith("Fn::") or function == "Ref"):
        return {key: resolved(inner, names) for key, inner in value.items()}
    if function == "Ref":
        return known[argument]
    if function == "Fn::GetAtt":
        return known[".".join(argument) if isinstance(argument, list) else argument]
    if function == "Fn::ImportValue":
        return EXPORTS[argument["Fn::Sub"].partition("}-")[2]]
    if function == "Fn::Sub":
        text, more_names = argument if isinstance(argument, list) else (argument, {})
        known |= {name: resolved(inner, names) for name, inner in more_names.items()}
        filled = re.sub(r"\$\{([^!}]+)\}", lambda found: known[found[1]], text)
        return filled.replace("${!", "${")
    if function == "Fn::If":
        condition, there, otherwise = argument
        return resolved(there if HOLDS[condition] else otherwise, names)
    if function == "Fn::FindInMap":
        first, second, third = argument
        return template("app")["Mappings"][first][second][third]
    if function == "Fn::Split":
        return resolved(argument[1], names).split(argument[0])
    if function == "Fn::Select":
        return resolved(argument[1], names)[argument[0]]
    raise AssertionError(f"a function that nobody thought of: {function}")


# -- policies -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One action on one resource (with its wildcards) that a policy allows."""

    action: str
    resource: str

    def covers(self, need: Need) -> bool:
        return self.action == need.action and fnmatchcase(need.resource, self.resource)


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement of a role's or a person's policy: whose it is, and the statement."""
    for role, properties in resources("AWS::IAM::Role"):
        for policy in properties.get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                yield role, statement
    for name, properties in resources("AWS::IAM::ManagedPolicy"):
        for statement in properties["PolicyDocument"]["Statement"]:
            yield name, statement


def grants_of(role: str) -> set[Grant]:
    found = set()
    for whose, statement in statements():
        if whose != role:
            continue
        where = resolved(statement["Resource"])
        for resource in where if isinstance(where, list) else [where]:
            found |= {Grant(action, resource) for action in statement["Action"]}
    return found
