"""A network, a cluster and roles in which the examples run, for an account that has none (`-c demo=true`).

Public subnets and no NAT gateway: it costs nothing while nothing runs. Tasks get a public address to pull images, and no way in.
"""

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.buckets import Buckets
from infra.configuration import Configuration
from infra.permissions import acknowledge, allow


class Demo(Construct):
    def __init__(
        self, scope: Construct, name: str, *, configuration: Configuration, buckets: Buckets, job_logs: logs.LogGroup
    ) -> None:
        super().__init__(scope, name)
        vpc = ec2.Vpc(
            self,
            "Vpc",
            max_azs=2,
            nat_gateways=0,
            # The default group would let everything in it talk to each other; emptying it takes one more function of the CDK's.
            restrict_default_security_group=False,
            subnet_configuration=[ec2.SubnetConfiguration(name="Public", subnet_type=ec2.SubnetType.PUBLIC)],
        )
        acknowledge(
            vpc,
            {
                "AwsSolutions-VPC7": "Nothing can come in, and what examples send out is their own business; flow logs cost per line."
            },
        )
        vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        self.security_group = ec2.SecurityGroup(
            self, "Nothing", vpc=vpc, description="Out to anywhere, in from nowhere", allow_all_outbound=True
        )
        self.subnets = tuple(subnet.subnet_id for subnet in vpc.public_subnets)
        self.cluster_name = f"runfold-{configuration.stage}-demo"
        ecs.CfnCluster(
            self,
            "Cluster",
            cluster_name=self.cluster_name,
            capacity_providers=["FARGATE", "FARGATE_SPOT"],
            cluster_settings=[ecs.CfnCluster.ClusterSettingsProperty(name="containerInsights", value="enabled")],
        )
        tasks = iam.ServicePrincipal("ecs-tasks.amazonaws.com")
        path = configuration.passed_role_path
        self.execution_role = iam.Role(self, "ExecutionRole", path=path, assumed_by=tasks)
        allow(
            self.execution_role,
            "logs:CreateLogStream",
            "logs:PutLogEvents",
            on=[job_logs.log_group_arn],
            why="Every container writes a stream of its own in the group of jobs.",
        )
        self.task_role = iam.Role(self, "TaskRole", path=path, assumed_by=tasks)
        # What the containers beside a job's own need, to fetch its inputs and keep its outputs.
        buckets.allow_keeping_artifacts(self.task_role)
