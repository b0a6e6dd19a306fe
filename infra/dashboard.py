"""One page that answers: is it well, is it keeping up, what is it doing."""

from collections.abc import Mapping

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.alarms import ours
from infra.configuration import Configuration
from infra.service_function import ServiceFunction

_FIVE_MINUTES = Duration.minutes(5)
_WIDTH = 12


class Dashboard(Construct):
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
        stage = configuration.stage
        board = cloudwatch.Dashboard(self, "Board", dashboard_name=f"runfold-{stage}")
        lambdas = {kind: one.function for kind, one in functions.items()}
        outcomes = ("RunsSucceeded", "RunsFailed", "RunsCancelled")
        board.add_widgets(
            _graph("Runs that ended", [ours(name, "relay", stage) for name in outcomes]),
            _graph("Wants a person", [ours(name, "relay", stage) for name in ("AttemptsInDoubt", "StopsUnconfirmed")]),
        )
        board.add_widgets(
            _graph(
                "Oldest message (s)",
                [queue.metric_approximate_age_of_oldest_message(label=kind) for kind, queue in polled.items()],
            ),
            _graph(
                "Set aside",
                [
                    queue.metric_approximate_number_of_messages_visible(label=kind, statistic="Maximum")
                    for kind, queue in set_aside.items()
                ],
            ),
        )
        board.add_widgets(
            _graph(
                "Invocations",
                [one.metric_invocations(label=kind, period=_FIVE_MINUTES) for kind, one in lambdas.items()],
            ),
            _graph("Errors", [one.metric_errors(label=kind, period=_FIVE_MINUTES) for kind, one in lambdas.items()]),
        )
        board.add_widgets(
            _graph(
                "Duration, p95 (ms)",
                [
                    one.metric_duration(label=kind, statistic="p95", period=_FIVE_MINUTES)
                    for kind, one in lambdas.items()
                ],
            ),
            _graph(
                "Sweeps and streams due", [ours("Sweeps", "scheduler", stage), ours("StreamsDue", "scheduler", stage)]
            ),
        )


def _graph(title: str, metrics: list[cloudwatch.Metric]) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=list[cloudwatch.IMetric](metrics), width=_WIDTH)
