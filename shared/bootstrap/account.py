"""An AWS account and a deployment in it, as the command reaches them with the credentials of a person.

`Account` asks read-only questions for `runfold doctor --stack`, each bounded in time, and all of them together: whatever goes wrong, an answer that
did not come is one error of ours, `Unanswered`, which says what to allow or mend. `Operated` is the engine's own parts on a
deployment's tables, for `runfold verify` and `runfold rebuild`: of these only the second writes, and never to the events.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, PartialCredentialsError

from shared.bootstrap.aws import CONNECT_SECONDS as ENGINE_CONNECT_SECONDS
from shared.bootstrap.aws import READ_SECONDS as ENGINE_READ_SECONDS
from shared.bootstrap.aws import RHYTHM, SDK_TRIES, Aws
from shared.errors import InvalidInput, NotFound, Problem, RunfoldError
from shared.ids import StreamName, workflow_stream
from shared.ports import BackfillRow, NoticeRow, RunRow, WorkflowRow
from shared.settings import Settings
from shared.state.backfill import BackfillState
from shared.state.notices import NoticeLog
from shared.state.run import Run
from shared.state.workflow import WorkflowState
from shared.stores.aws import translated
from shared.stores.dynamodb import DynamoStore, DynamoViews
from shared.stores.s3 import S3Documents
from shared.usecases.loading import Loader, PlanCache
from shared.views.rows import backfill_row, notice_row, run_row, workflow_row
from shared.workflow.document import Workflow

CONNECT_SECONDS = 3
READ_SECONDS = 10
TRIES = 2
"""Of each call."""
SECONDS_MAX = 90.0
"""Of all questions together; what is asked later is not answered."""
PAGES_MAX = 20
"""Of one list; what is beyond is not looked at."""
WORKFLOWS_MAX = 200

_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "AuthorizationErrorException",
        "UnauthorizedOperation",
    }
)
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_MISSING = ("NotFound", "NoSuch", "DoesNotExist", "NonExistentQueue", "InvalidSubnetID", "InvalidGroup")
_PREFIXES = {"service-quotas": "servicequotas"}
_ACTIONS = {"s3:GetBucketNotificationConfiguration": "s3:GetBucketNotification"}
"""Where IAM's word is not the call's."""

Kind = Literal["denied", "missing", "credentials", "unreachable", "refused", "late"]


class Unanswered(RunfoldError):
    """A question that AWS did not answer. `missing`: what was asked about is not there."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Kind = kind


class Account:
    """The account and region that the credentials of the environment, or of a profile, lead to."""

    def __init__(
        self,
        *,
        region: str | None = None,
        profile: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises `InvalidInput` where there is no such profile, or no region is known."""
        try:
            self._session = boto3.Session(profile_name=profile, region_name=region)
        except BotoCoreError as error:
            raise InvalidInput(
                [Problem("--profile", str(error), "`aws configure list-profiles` shows them")]
            ) from error
        if not self._session.region_name:
            raise InvalidInput([Problem("--region", "no region is known", "name one, or set AWS_REGION")])
        self.region = str(self._session.region_name)
        self._clock = clock
        self._ends_at = clock() + SECONDS_MAX
        self._clients: dict[tuple[str, str], Any] = {}
        self._silent: set[tuple[str, str]] = set()

    def ask(self, service: str, operation: str, *, region: str | None = None, **arguments: Any) -> dict[str, Any]:
        """One call. Raises `Unanswered`."""
        client, action = self._prepared(service, operation, region)
        try:
            answer: dict[str, Any] = getattr(client, operation)(**arguments)
        except (ClientError, BotoCoreError) as error:
            raise self._translated(error, service, action, region) from error
        return answer

    def listed(
        self, service: str, operation: str, key: str, *, region: str | None = None, **arguments: Any
    ) -> list[dict[str, Any]]:
        """All entries under `key` of a list that comes in pages, `PAGES_MAX` of them at most. Raises `Unanswered`."""
        client, action = self._prepared(service, operation, region)
        found: list[dict[str, Any]] = []
        try:
            for number, page in enumerate(client.get_paginator(operation).paginate(**arguments), start=1):
                found += page.get(key, [])
                if number == PAGES_MAX:
                    break
                self._prepared(service, operation, region)
        except (ClientError, BotoCoreError) as error:
            raise self._translated(error, service, action, region) from error
        return found

    def settings(self, stack: str) -> Settings:
        """What a deployment's functions are told, which names everything else. Raises `Unanswered`, `NotFound`, `InvalidInput`."""
        listed = self.listed("cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=stack)
        functions = [
            one.get("PhysicalResourceId", "") for one in listed if one["ResourceType"] == "AWS::Lambda::Function"
        ]
        dispatch = next((name for name in functions if name.endswith("-dispatch")), None)
        if dispatch is None:
            raise NotFound(f"{stack} has no function `dispatch`: it is none of ours, or not complete")
        told = self.ask("lambda", "get_function_configuration", FunctionName=dispatch)
        return Settings.read(told.get("Environment", {}).get("Variables", {}))

    def operated(self, settings: Settings) -> "Operated":
        """A deployment's parts, reached with these credentials."""
        return Operated(settings, self._session)

    def live_documents(self, settings: Settings) -> Iterator[tuple[str, Workflow]]:
        """The workflows of a deployment that are in service, by name. Raises `StoreUnavailable`, `CorruptStream`, `UnknownEvents`."""
        dynamodb, _ = self._prepared("dynamodb", "query", None)
        s3, _ = self._prepared("s3", "get_object", None)
        plans = PlanCache(S3Documents(s3, settings.documents_bucket))
        loader = Loader(DynamoStore(dynamodb, settings.events_table), plans)
        rows, _ = DynamoViews(dynamodb, settings.views_table).workflows(limit=WORKFLOWS_MAX)
        for row in rows:
            self._prepared("dynamodb", "query", None)
            state = loader.load(workflow_stream(row.workflow)).state
            if isinstance(state, WorkflowState) and state.live is not None:
                yield state.name, plans(state.live.document).workflow

    def _prepared(self, service: str, operation: str, region: str | None) -> tuple[Any, str]:
        """A client that may be asked now, and IAM's name of the call."""
        place = (service, region or self.region)
        if place not in self._clients:
            config = Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"total_max_attempts": TRIES, "mode": "standard"},
            )
            self._clients[place] = self._session.client(service, region_name=place[1], config=config)  # type: ignore[call-overload]
        client = self._clients[place]
        called = client.meta.method_to_api_mapping[operation]
        action = f"{_PREFIXES.get(service, service)}:{called}"
        action = _ACTIONS.get(action, action)
        if place in self._silent:
            # It will not be reached a second later either, and each try takes seconds.
            raise Unanswered("unreachable", f"{action} is not asked, because {service} did not answer before")
        if self._clock() > self._ends_at:
            raise Unanswered("late", f"the {SECONDS_MAX:.0f} s for all questions were over before {action}")
        return client, action

    def _translated(self, error: Exception, service: str, action: str, region: str | None) -> Unanswered:
        if isinstance(error, ClientError):
            facts = error.response.get("Error", {})
            code, message = str(facts.get("Code", "")), str(facts.get("Message", ""))
            if code in _DENIED:
                return Unanswered("denied", f"you may not {action}: allow it, or let somebody ask who may")
            if code in _CREDENTIALS:
                return Unanswered("credentials", f"AWS does not take the credentials ({code}): sign in again")
            if any(word in code for word in _MISSING) or "does not exist" in message:
                return Unanswered("missing", message or code)
            return Unanswered("refused", f"{action} is refused: {code}: {message}")
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return Unanswered(
                "credentials", "there are no credentials: set AWS_PROFILE, or name a profile with --profile"
            )
        if isinstance(error, NoRegionError):
            return Unanswered("refused", str(error))
        self._silent.add((service, region or self.region))
        return Unanswered("unreachable", f"{action}: no answer: {error}")


class Operated(Aws):
    """The engine's parts on a deployment's tables, with the credentials of whoever operates it, and at rest: nothing is sent to targets."""

    patience = RHYTHM.patience
    """How late a look may be that only repairs."""

    def __init__(self, settings: Settings, session: boto3.Session) -> None:
        super().__init__(settings)
        self._session = session

    def client(self, service: str) -> Any:
        config = Config(
            connect_timeout=ENGINE_CONNECT_SECONDS,
            read_timeout=ENGINE_READ_SECONDS,
            retries={"total_max_attempts": SDK_TRIES, "mode": "standard"},
        )
        return self._session.client(service, config=config)  # type: ignore[call-overload]

    def with_events(self, table: str) -> "Operated":
        """The same with another table of events, restored ones for instance."""
        return Operated(replace(self.settings, events_table=table), self._session)

    def row_of(
        self, _stream: StreamName, state: object, version: int
    ) -> RunRow | WorkflowRow | BackfillRow | NoticeRow | None:
        """What lists should show for a stream's state; None for streams that no list shows."""
        match state:
            case Run():
                return run_row(state, version)
            case WorkflowState():
                return workflow_row(state, version, self.plans((state.live or state.versions[-1]).document))
            case BackfillState():
                return backfill_row(state, version, self.plans(state.request.document))
            case NoticeLog() if state.sending:
                return notice_row(state, version)
            case _:
                return None

    def without_beginning(self) -> Iterator[tuple[StreamName, int]]:
        """Streams whose first commits are gone, with the first version that is there: no index has them, so the whole table is read.

        A table gives the items of one stream together and in order, so nothing has to be remembered but the last of them.
        """
        before = ""
        start: dict[str, Any] = {}
        while True:
            with translated(f"read table {self.settings.events_table}"):
                answer = self._dynamodb.scan(
                    TableName=self.settings.events_table,
                    ProjectionExpression="#stream, #version",
                    ExpressionAttributeNames={"#stream": "stream", "#version": "version"},
                    **start,
                )
            for item in answer["Items"]:
                stream, version = item["stream"]["S"], int(item["version"]["N"])
                if stream != before and version != 1:
                    yield StreamName(stream), version
                before = stream
            if "LastEvaluatedKey" not in answer:
                return
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
