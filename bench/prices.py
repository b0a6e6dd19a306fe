"""Public prices of AWS in us-east-1, on demand, without free tiers, discounts or taxes: what `bench/cost.py` multiplies its counts by.

Each was compared on 2026-11-22 with what others quote of AWS's pages, as of the month named beside it where they say one; that of Step Functions with a copy of AWS's own page. All agreed, but for
two pages: one quotes DynamoDB's prices from before they were halved in November 2024, one calls Scheduler free. AWS's pages, named as sources, are where to look before you promise a figure. A price that changes
is changed here and nowhere else.
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
    """AWS's page."""
    seen: str
    """Where it was quoted when it was last compared, and as of when."""


PRICES: dict[Unit, Price] = {
    "write unit": Price(
        0.625 / MILLION,
        "aws.amazon.com/dynamodb/pricing/on-demand: write request units, Standard",
        "airbyte.com, DynamoDB pricing, undated",
    ),
    "read unit": Price(
        0.125 / MILLION,
        "aws.amazon.com/dynamodb/pricing/on-demand: read request units, Standard",
        "airbyte.com, DynamoDB pricing, undated",
    ),
    "SQS request": Price(
        0.40 / MILLION,
        "aws.amazon.com/sqs/pricing: standard queue, first 100 billion, each 64 KB",
        "cloudburn.io, Amazon SQS pricing, 2026-03; 64 KB as well by factualminds.com, 2026-06",
    ),
    "invocation": Price(
        0.20 / MILLION,
        "aws.amazon.com/lambda/pricing: requests",
        "a course on Lambda at git.mcrn.ar, undated",
    ),
    "GB-second": Price(
        0.0000133334,
        "aws.amazon.com/lambda/pricing: Arm, first 7.5 billion GB-seconds",
        "cloudchipr.com, Lambda pricing, 2024; a course on Lambda at git.mcrn.ar, undated",
    ),
    "S3 GET": Price(
        0.40 / MILLION, "aws.amazon.com/s3/pricing: GET, Standard", "estimates in several public repositories, undated"
    ),
    "S3 PUT": Price(
        5.00 / MILLION,
        "aws.amazon.com/s3/pricing: PUT, COPY, POST, LIST, Standard",
        "estimates in several public repositories, undated",
    ),
    "schedule": Price(
        1.00 / MILLION,
        "aws.amazon.com/eventbridge/pricing: Scheduler invocations",
        "cloudburn.io, EventBridge pricing, 2026-03",
    ),
    "API request": Price(
        1.00 / MILLION,
        "aws.amazon.com/api-gateway/pricing: HTTP API, first 300 million",
        "awsforengineers.com, API Gateway pricing, 2025-05; amnic.com, undated",
    ),
}
"""EventBridge's rules on events of AWS's own services, DynamoDB's stream read by Lambda, and the calls to ECS, EMR and SSM cost nothing."""

SQS_REQUEST_BYTES = 64 * 1024
"""A request with more is charged as several."""

TRANSITION_USD = 25.00 / MILLION
"""A state transition of Step Functions Standard (aws.amazon.com/step-functions/pricing, which says 0.025 USD for 1,000 in us-east-1)."""
TRANSITIONS_BARE = 1.1
"""Of a job: its own state, and its part of the run's start and end in a run of ten."""
TRANSITIONS_TYPICAL = 3.1
"""With a choice, a step that records, and one retry in ten."""


def step_functions_usd(transitions_per_job: float) -> float:
    """USD for a million jobs."""
    return transitions_per_job * TRANSITION_USD * MILLION
