"""Public prices of AWS in us-east-1, on demand, without free tiers, discounts or taxes: what `bench/cost.py` multiplies its counts by.

As published until 2026-11-22. Those of DynamoDB and Lambda were compared with texts of 2025 that quote AWS; the others are AWS's long-standing
list prices and were not looked up again: do so, on the page named beside each, before you promise a figure. A price that
changes is changed here and nowhere else.
"""

from dataclasses import dataclass
from typing import Literal

AS_OF = "2026-11-22"
MILLION = 1_000_000
SECONDS_A_MONTH = 730 * 3600

Unit = Literal[
    "write unit",
    "read unit",
    "SQS request",
    "invocation",
    "GB-second",
    "S3 GET",
    "S3 PUT",
    "schedule",
    "API request",
]


@dataclass(frozen=True, slots=True)
class Price:
    usd: float
    """Of one unit."""
    source: str


PRICES: dict[Unit, Price] = {
    "write unit": Price(0.625 / MILLION, "aws.amazon.com/dynamodb/pricing/on-demand: write request units, Standard"),
    "read unit": Price(0.125 / MILLION, "aws.amazon.com/dynamodb/pricing/on-demand: read request units, Standard"),
    "SQS request": Price(0.40 / MILLION, "aws.amazon.com/sqs/pricing: standard queue, first 100 billion, each 64 KB"),
    "invocation": Price(0.20 / MILLION, "aws.amazon.com/lambda/pricing: requests"),
    "GB-second": Price(0.0000133334, "aws.amazon.com/lambda/pricing: Arm, first 7.5 billion GB-seconds"),
    "S3 GET": Price(0.40 / MILLION, "aws.amazon.com/s3/pricing: GET, Standard"),
    "S3 PUT": Price(5.00 / MILLION, "aws.amazon.com/s3/pricing: PUT, COPY, POST, LIST, Standard"),
    "schedule": Price(1.00 / MILLION, "aws.amazon.com/eventbridge/pricing: Scheduler invocations"),
    "API request": Price(1.00 / MILLION, "aws.amazon.com/api-gateway/pricing: HTTP API, first 300 million"),
}
"""EventBridge's rules on events of AWS's own services, DynamoDB's stream read by Lambda, and the calls to ECS, EMR and SSM cost nothing."""

SQS_REQUEST_BYTES = 64 * 1024
"""A request with more is charged as several."""

TRANSITION_USD = 25.00 / MILLION
"""A state transition of Step Functions Standard (aws.amazon.com/step-functions/pricing)."""
TRANSITIONS_BARE = 1.1
"""Of a job: its own state, and its part of the run's start and end in a run of ten."""
TRANSITIONS_TYPICAL = 3.1
"""With a choice, a step that records, and one retry in ten."""


def step_functions_usd(transitions_per_job: float) -> float:
    """USD for a million jobs."""
    return transitions_per_job * TRANSITION_USD * MILLION
