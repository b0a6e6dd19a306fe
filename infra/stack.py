"""The deployment as a whole: what there is, who works off what, and who may touch what. The constructs say how."""

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version

from aws_cdk import CfnOutput, Duration, RemovalPolicy, Stack, Tags
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.alarms import Alarms
from infra.buckets import Buckets
from infra.configuration import Configuration
from infra.dashboard import Dashboard
from infra.demo import Demo
from infra.http_api import HttpApi
from infra.notices import allow_telling
from infra.packing import Packages
from infra.people import People
from infra.permissions import acknowledge, allow
from infra.polled_queue import PolledQueue
from infra.reports_rules import ReportsRules
from infra.schedules import Schedules
from infra.service_function import Service, ServiceFunction, retention
from infra.set_aside import kept_letters
from infra.tables import Tables
from infra.targets import allow_looking_for_files, allow_observing_jobs, allow_reading_output, allow_running_jobs
from infra.trigger_rules import TriggerRules
from infra.uploads_rule import UploadsRule
from shared.settings import Settings

# Waiting for AWS is most of what functions do, so memory buys little but CPU for the cold start: 512 MB keep it near a second.
# Those that check documents compile and compare, and people wait for them.
WAITING_MB = 512
CHECKING_MB = 1024

DISPATCH_TIMEOUT = Duration.seconds(120)
"""Ten messages of 25 effects, one call each at some 100 ms, and room for a target that answers slowly."""
STATUS_TIMEOUT = Duration.seconds(60)
SCHEDULER_TIMEOUT = Duration.seconds(120)
"""The next sweep begins after a minute; that they overlap is harmless, that one never ends its last stream is not."""
TRIGGER_TIMEOUT = Duration.seconds(60)
RELAY_TIMEOUT = Duration.seconds(60)
REGISTER_TIMEOUT = Duration.seconds(60)
API_TIMEOUT = Duration.seconds(29)
"""The gateway gives up after 30."""

RELAY_BATCH = 100
RELAY_TRIES = 10
RELAY_AGE = Duration.hours(6)
"""After which a record is parked. The sweep has long done what it would have led to."""


class RunfoldStack(Stack):
    def __init__(self, scope: Construct, name: str, *, configuration: Configuration, packages: Packages) -> None:
        super().__init__(
            scope,
            name,
            stack_name=name,
            description="Runfold: schedules and runs workflows of jobs",
            termination_protection=configuration.keeps_data,
        )
        stage = configuration.stage
        for key, value in {"application": "runfold", "stage": stage, **configuration.tags}.items():
            Tags.of(self).add(key, value)

        # --- what is kept -------------------------------------------------------------------------------------------------
        tables = Tables(self, "Tables", configuration=configuration)
        buckets = Buckets(self, "Buckets", configuration=configuration)
        job_logs = logs.LogGroup(
            self,
            "JobLogs",
            log_group_name=f"/runfold/{stage}/jobs",
            retention=retention(configuration.job_log_retention_days),
            removal_policy=RemovalPolicy.RETAIN if configuration.keeps_data else RemovalPolicy.DESTROY,
        )

        # --- what is under way --------------------------------------------------------------------------------------------
        effects = PolledQueue(self, "Effects", queue_name=f"runfold-{stage}-effects", timeout=DISPATCH_TIMEOUT)
        reports = PolledQueue(self, "Reports", queue_name=f"runfold-{stage}-reports", timeout=STATUS_TIMEOUT)
        undelivered = kept_letters(self, "Undelivered", f"runfold-{stage}-undelivered")
        parked = kept_letters(self, "Parked", f"runfold-{stage}-parked")

        # --- what works it off --------------------------------------------------------------------------------------------
        service = Service(self, "Functions", configuration=configuration, packages=packages)
        schedules = Schedules(
            self,
            "Schedules",
            group_name=f"runfold-{stage}",
            function_arn=service.function_arn("scheduler"),
            undelivered=undelivered,
        )
        demo = (
            Demo(self, "Demo", configuration=configuration, buckets=buckets, job_logs=job_logs)
            if configuration.demo
            else None
        )
        service.settings = _settings(
            configuration,
            demo,
            Settings(
                stage=stage,
                events_table=tables.events.table_name,
                views_table=tables.views.table_name,
                documents_bucket=buckets.documents.bucket_name,
                artifacts_bucket=buckets.artifacts.bucket_name,
                effects_queue_url=effects.queue.queue_url,
                schedule_group=f"runfold-{stage}",
                schedule_role_arn=schedules.role.role_arn,
                schedule_target_arn=service.function_arn("scheduler"),
                schedule_dead_letter_arn=undelivered.queue_arn,
                log_group=job_logs.log_group_name,
            ),
        )
        register = ServiceFunction(
            service, "register", memory_mb=CHECKING_MB, timeout=REGISTER_TIMEOUT, reads_documents=True
        )
        scheduler = ServiceFunction(
            service, "scheduler", memory_mb=WAITING_MB, timeout=SCHEDULER_TIMEOUT, reads_documents=True
        )
        relay = ServiceFunction(service, "relay", memory_mb=WAITING_MB, timeout=RELAY_TIMEOUT)
        dispatch = ServiceFunction(
            service,
            "dispatch",
            memory_mb=WAITING_MB,
            timeout=DISPATCH_TIMEOUT,
            reads_documents=True,
            feeds_itself=True,
        )
        status = ServiceFunction(service, "status", memory_mb=WAITING_MB, timeout=STATUS_TIMEOUT)
        api = ServiceFunction(service, "api", memory_mb=CHECKING_MB, timeout=API_TIMEOUT, reads_documents=True)

        trigger = ServiceFunction(
            service, "trigger", memory_mb=WAITING_MB, timeout=TRIGGER_TIMEOUT, reads_documents=True
        )

        clusters = _clusters(configuration, demo)
        for function in (register, scheduler, dispatch, status, api, trigger):
            # Each of them turns what it hears into a command, and hands over what follows.
            tables.allow_appending(function.role)
            tables.allow_keeping_views(function.role)
            allow(function.role, "sqs:SendMessage", on=[effects.queue.queue_arn])
        for function in (scheduler, dispatch, status, relay, trigger):
            buckets.allow_reading_documents(function.role)
        for function in (register, api):
            buckets.allow_keeping_documents(function.role)

        # --- uploads ------------------------------------------------------------------------------------------------------
        buckets.allow_reading_uploads(register.role)
        UploadsRule(self, "Uploads", bucket=buckets.documents, register=register, undelivered=undelivered)

        # --- triggers besides time ----------------------------------------------------------------------------------------
        rules = TriggerRules(
            self,
            "Triggers",
            bus_name=f"runfold-{stage}",
            buckets=configuration.trigger_buckets,
            trigger=trigger,
            undelivered=undelivered,
        )
        messages = (
            PolledQueue(self, "Messages", queue_name=f"runfold-{stage}-triggers", timeout=TRIGGER_TIMEOUT)
            if configuration.trigger_queue
            else None
        )
        if messages is not None:
            messages.worked_off_by(trigger, concurrency=2, window_seconds=0)
            CfnOutput(self, "TriggersQueue", value=messages.queue.queue_url)
        _allow_reading_secrets(api.role, configuration)

        # --- time ---------------------------------------------------------------------------------------------------------
        # A ring or a sweep that failed is repaired by the next one, a minute later: repeating it would only be late.
        scheduler.function.configure_async_invoke(max_event_age=Duration.seconds(60), retry_attempts=0)
        acknowledge(
            scheduler.function,
            {
                "Serverless-LambdaAsyncFailureDestination": "The next sweep, a minute later, does all that a failed one left."
            },
        )
        # The sweep repairs what the relay should have derived, bells included.
        schedules.allow_reconciling(scheduler.role)
        schedules.sweep(scheduler)

        # --- the table's stream -------------------------------------------------------------------------------------------
        tables.allow_reading_history(relay.role)
        # A run's end may be what another workflow waits for.
        allow(relay.role, "sqs:SendMessage", on=[effects.queue.queue_arn])
        tables.allow_keeping_views(relay.role)
        # Who waits for what has ended is woken.
        allow(relay.role, "sqs:SendMessage", on=[effects.queue.queue_arn])
        schedules.allow_reconciling(relay.role)
        relay.function.add_event_source(
            sources.DynamoEventSource(
                tables.events,
                starting_position=lambda_.StartingPosition.TRIM_HORIZON,
                batch_size=RELAY_BATCH,
                max_batching_window=Duration.seconds(configuration.stream_window_seconds),
                # One bad run must not hold up the others in its shard.
                bisect_batch_on_error=True,
                report_batch_item_failures=True,
                retry_attempts=RELAY_TRIES,
                max_record_age=RELAY_AGE,
                on_failure=sources.SqsDlq(parked),
            )
        )
        acknowledge(
            relay.role, {"AwsSolutions-IAM5[Resource::*]": "ListStreams, and X-Ray's calls, know no resources."}
        )

        # --- telling people -----------------------------------------------------------------------------------------------
        allow_telling(dispatch.role, configuration)

        # --- targets ------------------------------------------------------------------------------------------------------
        allow_running_jobs(dispatch.role, configuration, clusters, buckets.artifacts)
        allow_looking_for_files(dispatch.role, configuration)
        buckets.allow_keeping_artifacts(dispatch.role)
        allow_observing_jobs(status.role, configuration, clusters, buckets.artifacts)
        buckets.allow_reading_artifacts(status.role)
        ReportsRules(
            self,
            "Rules",
            reports=reports.queue,
            undelivered=undelivered,
            clusters=clusters,
            applications=configuration.emr_serverless_applications,
            running=configuration.running_events,
        )
        effects.worked_off_by(
            dispatch,
            concurrency=configuration.effects_concurrency,
            window_seconds=configuration.effects_window_seconds,
        )
        reports.worked_off_by(
            status,
            concurrency=configuration.reports_concurrency,
            window_seconds=configuration.reports_window_seconds,
        )

        # --- people -------------------------------------------------------------------------------------------------------
        buckets.allow_reading_artifacts(api.role)
        buckets.allow_taking_given_files(api.role)
        allow(
            api.role,
            "logs:GetLogEvents",
            "logs:DescribeLogStreams",
            on=[job_logs.log_group_arn],
            why="Every attempt writes streams of its own in the one group of jobs.",
        )
        allow_reading_output(api.role, configuration)
        self._open(api, configuration)

        # --- watching -----------------------------------------------------------------------------------------------------
        functions = {
            "register": register,
            "scheduler": scheduler,
            "relay": relay,
            "dispatch": dispatch,
            "status": status,
            "api": api,
        }
        polled = {"effects": effects.queue, "reports": reports.queue}
        set_aside = {
            "effects-dead": effects.dead_letters,
            "reports-dead": reports.dead_letters,
            **({"triggers-dead": messages.dead_letters} if messages is not None else {}),
            "undelivered": undelivered,
            "parked": parked,
        }
        if configuration.alarms:
            alarms = Alarms(
                self,
                "Alarms",
                configuration=configuration,
                # What triggers cannot work off is set aside, and watched there.
                functions=functions,
                polled=polled | ({"triggers": messages.queue} if messages is not None else {}),
                set_aside=set_aside,
            )
            CfnOutput(self, "AlarmsTopic", value=alarms.topic_arn)
            Dashboard(
                self,
                "Dashboard",
                configuration=configuration,
                functions=functions | {"trigger": trigger},
                polled=polled | ({"triggers": messages.queue} if messages is not None else {}),
                set_aside=set_aside,
            )
        outputs: Mapping[str, str] = {
            "DocumentsBucket": buckets.documents.bucket_name,
            "ArtifactsBucket": buckets.artifacts.bucket_name,
            "EventsTable": tables.events.table_name,
            "ViewsTable": tables.views.table_name,
            "EventBus": rules.bus.event_bus_name,
        }
        for output, value in outputs.items():
            CfnOutput(self, output, value=value)

    def _open(self, api: ServiceFunction, configuration: Configuration) -> None:
        for access in configuration.api_access:
            issuer, audience = configuration.oidc_issuer, configuration.oidc_audience
            if access == "jwt" and not issuer:
                people = People(self, "People", configuration=configuration)
                issuer, audience = people.issuer, people.audience
                CfnOutput(self, "UserPool", value=people.pool_id)
                CfnOutput(self, "UserPoolClient", value=people.audience[0])
            gateway = HttpApi(
                self,
                "JwtApi" if access == "jwt" else "IamApi",
                access="jwt" if access == "jwt" else "iam",
                api=api,
                configuration=configuration,
                issuer=issuer,
                audience=audience,
            )
            CfnOutput(self, f"{access.capitalize()}ApiUrl", value=gateway.url)


def _allow_reading_secrets(role: iam.IRole, configuration: Configuration) -> None:
    for service, action in (("secretsmanager", "secretsmanager:GetSecretValue"), ("ssm", "ssm:GetParameter")):
        named = [one for one in configuration.webhook_secrets if one.split(":")[2] == service]
        if named:
            allow(role, action, on=named, why="Configured so: secrets of webhooks that share a beginning.")


def _settings(configuration: Configuration, demo: Demo | None, made: Settings) -> Settings:
    """`made`, and what jobs use when they do not say it themselves: what is configured, otherwise the demo's."""
    return replace(
        made,
        cluster=configuration.cluster or (demo.cluster_name if demo else ""),
        subnets=",".join(configuration.subnets or (demo.subnets if demo else ())),
        security_groups=",".join(
            configuration.security_groups or ((demo.security_group.security_group_id,) if demo else ())
        ),
        assign_public_ip="true" if configuration.assign_public_ip or (demo and not configuration.subnets) else "",
        execution_role_arn=configuration.execution_role_arn or (demo.execution_role.role_arn if demo else ""),
        task_role_arn=configuration.task_role_arn or (demo.task_role.role_arn if demo else ""),
        ec2_capacity_provider=configuration.ec2_capacity_provider,
        ec2_spot_capacity_provider=configuration.ec2_spot_capacity_provider,
        emr_service_role=configuration.emr_service_role,
        emr_instance_profile=configuration.emr_instance_profile,
        emr_serverless_role_arn=configuration.emr_serverless_role_arn,
        files_image=configuration.files_image,
        restored_from=configuration.restored_from,
        notices_sender=configuration.notices_sender,
        notices_private="true" if configuration.notices_private else "",
        notices_address=configuration.notices_address,
        hosts=json.dumps(configuration.hosts, sort_keys=True) if configuration.hosts else "",
        cors_origins=",".join(configuration.cors_origins),
        grants_claim=configuration.grants_claim,
        group_claims=",".join(configuration.group_claims),
        iam_grants=json.dumps(configuration.iam_grants, sort_keys=True) if configuration.iam_grants else "",
        release=version("runfold"),
    )


def _clusters(configuration: Configuration, demo: Demo | None) -> tuple[str, ...]:
    """Names of the clusters that jobs may run on; none: all."""
    named = [configuration.cluster, *configuration.clusters, demo.cluster_name if demo else ""]
    return tuple(dict.fromkeys(name.rpartition("/")[2] for name in named if name))
