"""What the templates promise, read from the templates themselves."""

from __future__ import annotations

from typing import Any

import pytest

from mm_assets.tables.dynamodb.items import INDEXES
from mm_assets.tables.dynamodb.table import KEYS, _attributes, _index_parameters
from tests.deploy.templates import AWS, NAMES, resources, statements, template

# AWS knows no resource for these, so "*" is all that a policy can say.
WITHOUT_RESOURCE = {
    "ecr:GetAuthorizationToken", "ecs:DescribeTaskDefinition", "ecs:DiscoverPollEndpoint",
    "ecs:ListTasks",
    "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
}  # fmt: skip


def in_order(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(listed, key=str)


def test_the_table_is_the_one_that_the_code_makes() -> None:
    [(_, table)] = resources("AWS::DynamoDB::Table")
    assert table["KeySchema"] == KEYS
    assert in_order(table["AttributeDefinitions"]) == in_order(_attributes(INDEXES))
    made = [_index_parameters(index) for index in INDEXES]
    assert in_order(table["GlobalSecondaryIndexes"]) == in_order(made)
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["DeletionProtectionEnabled"] is True
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_no_policy_has_a_wildcard_where_aws_knows_a_resource() -> None:
    for whose, statement in statements():
        assert not [action for action in statement["Action"] if "*" in action], (whose, statement)
        if statement["Resource"] == "*":
            assert set(statement["Action"]) <= WITHOUT_RESOURCE, (whose, statement)


def test_each_task_has_a_role_of_its_own_and_no_more_user_than_it_needs() -> None:
    tasks = dict(resources("AWS::ECS::TaskDefinition"))
    of_others = {name: task for name, task in tasks.items() if name != "RunGpuTask"}
    roles = [task["TaskRoleArn"]["Fn::GetAtt"][0] for task in of_others.values()]
    assert len(set(roles)) == len(of_others)
    for name, task in tasks.items():
        [container] = task["ContainerDefinitions"]
        assert container["User"] == "10001:10001", name
        assert container["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}, name
        writable = container["ReadonlyRootFilesystem"] is not True
        # Session Manager's agent writes beside the web server, where that is the way in.
        assert writable == (name == "WebserverTask"), name


def test_no_task_and_no_database_is_public() -> None:
    for name, service in resources("AWS::ECS::Service"):
        network = service["NetworkConfiguration"]["AwsvpcConfiguration"]
        assert network["AssignPublicIp"] == "DISABLED", name
        assert "PublicSubnets" not in str(network["Subnets"]), name
    for name, database in resources("AWS::RDS::DBInstance"):
        assert database["PubliclyAccessible"] is False, name


def test_nobody_from_outside_reaches_anything_but_the_load_balancer() -> None:
    for name, group in resources("AWS::EC2::SecurityGroup"):
        from_addresses = [r for r in group.get("SecurityGroupIngress", []) if "CidrIp" in r]
        assert not from_addresses or name == "Balancers", name
    for name, rule in resources("AWS::EC2::SecurityGroupIngress"):
        assert "SourceSecurityGroupId" in rule, name


def test_what_must_outlive_the_stacks_is_kept_when_they_go() -> None:
    kept = {name for name, one in template("data")["Resources"].items()
            if one.get("DeletionPolicy") in ("Retain", "Snapshot")}  # fmt: skip
    assert {"Bucket", "Table", "Database", "Key", "DagsterLogin", "Registry"} <= kept
    for name in NAMES:
        for logical, one in template(name)["Resources"].items():
            assert one.get("DeletionPolicy") == one.get("UpdateReplacePolicy"), logical


def test_no_secret_stands_in_a_template() -> None:
    for name, task in resources("AWS::ECS::TaskDefinition"):
        [container] = task["ContainerDefinitions"]
        plain = [one["Name"] for one in container["Environment"] if "PASSWORD" in one["Name"]]
        assert not plain, name


def test_only_runs_sign_and_whatever_reads_the_lake_verifies() -> None:
    signing, verifying, reading = set(), set(), set()
    for name, task in resources("AWS::ECS::TaskDefinition"):
        [container] = task["ContainerDefinitions"]
        told = {one["Name"] for one in container["Environment"]}
        reading |= {name} if "MM_LAKE" in told else set()
        verifying |= {name} if "MM_VERIFY_KEY" in told else set()
        signing |= {name} if "MM_SIGNING_KEY" in str(container.get("Secrets")) else set()
    assert signing == {"RunTask", "RunGpuTask"}
    assert verifying == reading >= {"RunTask", "ServeTask", "CodeServerTask"}


def test_a_run_on_a_gpu_differs_from_another_in_its_machine_and_image_alone() -> None:
    tasks = dict(resources("AWS::ECS::TaskDefinition"))
    run, on_gpu = dict(tasks["RunTask"]), dict(tasks["RunGpuTask"])
    [container], [of_gpu] = run.pop("ContainerDefinitions"), on_gpu.pop("ContainerDefinitions")
    machine = {"Family", "RequiresCompatibilities", "Cpu", "Memory", "EphemeralStorage",
               "RuntimePlatform", "Volumes"}  # fmt: skip
    assert {name for name in run | on_gpu if run.get(name) != on_gpu.get(name)} == machine
    of_container = {"Image", "ResourceRequirements", "MemoryReservation", "LinuxParameters"}
    both = container | of_gpu
    assert {name for name in both if container.get(name) != of_gpu.get(name)} == of_container
    assert of_gpu["ResourceRequirements"] == [{"Type": "GPU", "Value": "1"}]
    named = [{volume["Name"] for volume in task["Volumes"]} for task in (run, on_gpu)]
    assert named[0] == named[1]


def test_without_an_image_for_it_there_is_nothing_of_a_gpu() -> None:
    app = template("app")
    assert app["Parameters"]["GpuImage"]["Default"] == ""
    assert template("network")["Parameters"]["Gpu"]["Default"] == "no"
    for name, one in app["Resources"].items():
        assert not name.startswith(("Gpu", "RunGpu")) or one["Condition"] == "Gpu", name
    conditional = {n for n, one in template("network")["Resources"].items()
                   if one.get("Condition") == "Machines"}  # fmt: skip
    assert conditional == {"Agents", "AgentsFigures"}


def test_a_machine_with_a_gpu_is_there_only_while_a_task_needs_it() -> None:
    [(name, group)] = resources("AWS::AutoScaling::AutoScalingGroup")
    assert group["MinSize"] == "0"
    assert "DesiredCapacity" not in group  # a deployment in the middle would set it anew
    assert group["NewInstancesProtectedFromScaleIn"] is True
    [(_, capacity)] = resources("AWS::ECS::CapacityProvider")
    provider = capacity["AutoScalingGroupProvider"]
    assert provider["AutoScalingGroupArn"] == {"Ref": name}
    assert provider["ManagedScaling"]["Status"] == "ENABLED"
    assert provider["ManagedTerminationProtection"] == "ENABLED"
    [(_, made_from)] = resources("AWS::EC2::LaunchTemplate")
    data = made_from["LaunchTemplateData"]
    assert data["MetadataOptions"]["HttpTokens"] == "required"
    program = data["UserData"]["Fn::Base64"]["Fn::Sub"]
    assert "ECS_CLUSTER=${Cluster}\n" in program
    assert "ECS_AWSVPC_BLOCK_IMDS=true\n" in program  # a task can't have the machine's role


@pytest.mark.parametrize("name", NAMES)
def test_a_template_can_be_given_to_cloudformation_as_it_is(name: str) -> None:
    """Larger ones must be put into a bucket first."""
    assert (AWS / f"{name}.yaml").stat().st_size <= 1_000_000  # of a bucket; without one 51,200


def test_each_name_that_a_stack_takes_from_another_is_exported_there() -> None:
    exported = {
        name: {
            output["Export"]["Name"]["Fn::Sub"].partition("}-")[2]
            for output in template(name).get("Outputs", {}).values()
            if "Export" in output
        }
        for name in NAMES
    }

    def imports(value: Any) -> list[str]:
        if isinstance(value, dict):
            taken = value.get("Fn::ImportValue")
            return [taken["Fn::Sub"]] if taken else [i for v in value.values() for i in imports(v)]
        return [i for v in value for i in imports(v)] if isinstance(value, list) else []

    for name in NAMES:
        for taken in imports(template(name)):
            stack, _, what = taken.removeprefix("${").partition("}-")
            assert what in exported[stack.lower()], (name, taken)
