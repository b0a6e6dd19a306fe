"""What Lambda imports: the API on AWS's adapters, behind API Gateway, which has checked who calls."""

import json
import os

from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers

from functions.api.handler import make_handler
from functions.api.principals import gateway_principal
from functions.api.service import ApiService
from functions.telemetry import doorway, logger_of, metrics_of
from shared.bootstrap.aws import Aws
from shared.settings import Settings

ANSWER_BYTES_MAX = 5_500_000
"""Lambda passes on 6 MB, the headers included."""
LOOK_EVERY_SECONDS = 1.0
"""For a call that waits: each look asks CloudWatch, which takes few such requests a second of a whole account."""

_settings = Settings.read(os.environ)
_aws = Aws(_settings)
_logger = logger_of("api")
# The handler logs as it does in the embedded engine; here its lines become structured ones.
copy_config_to_registered_loggers(source_logger=_logger, include={"runfold.api"})
handler = doorway(
    _logger,
    metrics_of("api"),
    make_handler(
        ApiService(
            queries=_aws.queries,
            control=_aws.control,
            authenticate=gateway_principal(
                json.loads(_settings.iam_grants or "{}"),
                claim=_settings.grants_claim,
                group_claims=_settings.listed("group_claims"),
            ),
            now=_aws.now,
            given_files=lambda: _aws.given_files,
            triggers=lambda: _aws.triggers,
            read_secret=_aws.secrets,
            release=_settings.release,
            cors_origins=_settings.listed("cors_origins"),
            answer_bytes_max=ANSWER_BYTES_MAX,
            look_every_seconds=LOOK_EVERY_SECONDS,
        )
    ),
)
