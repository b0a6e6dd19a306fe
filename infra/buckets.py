"""Where documents and jobs' files lie: versioned, encrypted, reached over TLS only, never public."""

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.configuration import Configuration
from infra.permissions import allow

UPLOADS = "workflows/"
DOCUMENTS = "documents/"
RUNS = "runs/"
ACCESS_LOG_DAYS = 90
UNFINISHED_UPLOAD_DAYS = 7
NONCURRENT_DAYS = 30


class Buckets(Construct):
    def __init__(self, scope: Construct, name: str, *, configuration: Configuration) -> None:
        super().__init__(scope, name)
        self._keeps_data = configuration.keeps_data
        self._access_logs = self._bucket(
            "AccessLogs", [s3.LifecycleRule(expiration=Duration.days(ACCESS_LOG_DAYS))], logged=False
        )
        # Pinned documents are what history refers to, so they are never deleted by age.
        self.documents = self._bucket("Documents", [])
        # A notification configuration made by CloudFormation itself: the library's own way needs one more function, with more rights.
        documents = self.documents.node.default_child
        assert isinstance(documents, s3.CfnBucket)
        documents.add_property_override("NotificationConfiguration.EventBridgeConfiguration.EventBridgeEnabled", True)
        days = configuration.artifacts_days
        self.artifacts = self._bucket(
            "Artifacts",
            [
                s3.LifecycleRule(
                    prefix=RUNS,
                    expiration=Duration.days(days) if days else None,
                    noncurrent_version_expiration=Duration.days(NONCURRENT_DAYS),
                )
            ],
        )

    def allow_reading_documents(self, role: iam.IRole) -> None:
        allow(
            role,
            "s3:GetObject",
            on=[self.documents.arn_for_objects(f"{DOCUMENTS}*")],
            why="Documents are named for their digests.",
        )

    def allow_keeping_documents(self, role: iam.IRole) -> None:
        self.allow_reading_documents(role)
        allow(
            role,
            "s3:PutObject",
            on=[self.documents.arn_for_objects(f"{DOCUMENTS}*")],
            why="Documents are named for their digests.",
        )

    def allow_reading_uploads(self, role: iam.IRole) -> None:
        allow(
            role,
            "s3:GetObject",
            on=[self.documents.arn_for_objects(f"{UPLOADS}*")],
            why="People choose the names of what they upload.",
        )
        # Without it S3 answers 403 for an object that is gone, which nobody could tell from a missing permission.
        allow(role, "s3:ListBucket", on=[self.documents.bucket_arn])

    def allow_reading_artifacts(self, role: iam.IRole) -> None:
        allow(
            role, "s3:GetObject", on=[self.artifacts.arn_for_objects(f"{RUNS}*")], why="Runs get new keys all the time."
        )
        allow(role, "s3:ListBucket", on=[self.artifacts.bucket_arn])

    def allow_keeping_artifacts(self, role: iam.IRole) -> None:
        self.allow_reading_artifacts(role)
        allow(
            role, "s3:PutObject", on=[self.artifacts.arn_for_objects(f"{RUNS}*")], why="Runs get new keys all the time."
        )

    def allow_taking_given_files(self, role: iam.IRole) -> None:
        """What it signs, whoever has the address may put."""
        allow(
            role,
            "s3:PutObject",
            on=[self.artifacts.arn_for_objects(f"{RUNS}*/_uploads/*")],
            why="Runs get new keys all the time.",
        )

    def _bucket(self, name: str, rules: list[s3.LifecycleRule], *, logged: bool = True) -> s3.Bucket:
        return s3.Bucket(
            self,
            name,
            versioned=True,
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            server_access_logs_bucket=self._access_logs if logged else None,
            server_access_logs_prefix=f"{name.lower()}/" if logged else None,
            lifecycle_rules=[
                s3.LifecycleRule(abort_incomplete_multipart_upload_after=Duration.days(UNFINISHED_UPLOAD_DAYS)),
                *rules,
            ],
            # A bucket that is not empty stops its own deletion, also in dev: deleting what people uploaded is for people.
            removal_policy=RemovalPolicy.RETAIN if self._keeps_data else RemovalPolicy.DESTROY,
        )
