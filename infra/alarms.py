"""What wakes somebody up: work that was set aside, work that waits too long, functions that fail, and a scheduler that has gone silent."""

from collections.abc import Mapping

from aws_cdk import Aws, Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.configuration import Configuration
from infra.permissions import acknowledge
from infra.service_function import ServiceFunction

MESSAGE_AGE_SECONDS = 300
"""Sound work is taken within seconds; what is tried again is a new message."""
ITERATOR_AGE_SECONDS = 120
SILENT_MINUTES = 5
_MINUTE = Duration.minutes(1)
_FIVE_MINUTES = Duration.minutes(5)


def ours(metric: str, function: str, stage: str) -> cloudwatch.Metric:
    """A metric that a handler emits: its namespace is the stage's (`functions/telemetry.py`)."""
    return cloudwatch.Metric(
        namespace=f"Runfold/{stage}",
        metric_name=metric,
        dimensions_map={"service": f"runfold-{function}"},
        statistic="Sum",
        period=_MINUTE,
    )


class Alarms(Construct):
    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        configuration: Configuration,
        functions: Mapping[str, ServiceFunction],
        polled: Mapping[str, sqs.Queue],
        set_aside: Mapping[str, sqs.Queue],
    ) -> None:
        super().__init__(scope, name)
        self._stage = configuration.stage
        topic = sns.Topic(self, "Topic", topic_name=f"runfold-{configuration.stage}-alarms", enforce_ssl=True)
        # A topic with a policy of its own has lost the default one, under which alarms may publish.
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            )
        )
        self._action = actions.SnsAction(topic)
        if configuration.alarm_email:
            topic.add_subscription(subscriptions.EmailSubscription(configuration.alarm_email))
            reason = (
                "A mail that cannot be delivered would only raise an alarm that is mailed, too; the dashboard shows it."
            )
            acknowledge(topic, {"Serverless-SNSRedrivePolicy": reason})
        self.topic_arn = topic.topic_arn
        for kind, queue in set_aside.items():
            self._alarm(
                f"{kind}-set-aside",
                queue.metric_approximate_number_of_messages_visible(period=_FIVE_MINUTES, statistic="Maximum"),
                over=0,
                text=f"Messages lie in {kind}: read them, mend the cause, redrive them.",
            )
        for kind, queue in polled.items():
            self._alarm(
                f"{kind}-old",
                queue.metric_approximate_age_of_oldest_message(period=_MINUTE, statistic="Maximum"),
                over=MESSAGE_AGE_SECONDS,
                periods=5,
                text=f"Messages wait longer than {MESSAGE_AGE_SECONDS} s in {kind}: its function is throttled, failing or too slow.",
            )
        for kind, function in functions.items():
            self._alarm(
                f"{kind}-errors",
                function.function.metric_errors(period=_FIVE_MINUTES),
                over=0,
                text=f"{kind} raised or ran out of time: see its log.",
            )
            self._alarm(
                f"{kind}-throttles",
                function.function.metric_throttles(period=_FIVE_MINUTES),
                over=10,
                periods=3,
                text=f"{kind} is refused by Lambda: the account's concurrency is used up.",
            )
        self._alarm(
            "relay-behind",
            functions["relay"].function.metric("IteratorAge", period=_MINUTE, statistic="Maximum"),
            over=ITERATOR_AGE_SECONDS * 1000,
            periods=3,
            text="The relay is behind the table's stream: lists are stale, work goes on.",
        )
        self._alarm(
            "doubt",
            ours("AttemptsInDoubt", "relay", self._stage),
            over=0,
            text="An attempt was asked for and nobody knows whether it runs: `runfold runs` shows it under attention.",
        )
        self._alarm(
            "stops-unconfirmed",
            ours("StopsUnconfirmed", "relay", self._stage),
            over=0,
            text="A stop was asked for and the target does not confirm it: look whether it still runs.",
        )
        self._alarm(
            "streams-left-alone",
            ours("StreamsRefused", "scheduler", self._stage),
            over=0,
            periods=5,
            text="A history cannot be folded by this release: `runfold verify` says which and why.",
        )
        self._alarm(
            "scheduler-silent",
            ours("Sweeps", "scheduler", self._stage),
            below=1,
            periods=SILENT_MINUTES,
            text=f"No sweep for {SILENT_MINUTES} minutes: nothing is started by time and nothing lost is repaired.",
            missing=cloudwatch.TreatMissingData.BREACHING,
        )

    def _alarm(
        self,
        name: str,
        metric: cloudwatch.Metric,
        *,
        text: str,
        over: float | None = None,
        below: float | None = None,
        periods: int = 1,
        missing: cloudwatch.TreatMissingData = cloudwatch.TreatMissingData.NOT_BREACHING,
    ) -> None:
        threshold = over if below is None else below
        assert threshold is not None, name
        alarm = cloudwatch.Alarm(
            self,
            name,
            alarm_name=f"runfold-{self._stage}-{name}",
            alarm_description=text,
            metric=metric,
            threshold=threshold,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD
            if below is None
            else cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            evaluation_periods=periods,
            treat_missing_data=missing,
        )
        alarm.add_alarm_action(self._action)
        alarm.add_ok_action(self._action)
