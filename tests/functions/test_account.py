"""What `runfold doctor --stack` reads of a deployment's own history, on moto: which jobs its live documents have."""

from dataclasses import replace

import pytest

from shared.bootstrap.account import Account
from shared.errors import RunfoldError
from shared.ids import workflow_stream
from tests.functions.conftest import Deployed
from tests.functions.test_doorways import NIGHTLY, document


def test_the_live_documents_of_a_deployment_are_read_without_changing_anything(deployed: Deployed) -> None:
    deployed.aws.control.register(document(), name="nightly.json", by="ann")
    deployed.aws.settle(deployed.aws.loader.load(workflow_stream(NIGHTLY)))
    ((name, workflow),) = Account(region="us-east-1").live_documents(deployed.aws.settings)
    assert name == NIGHTLY
    assert [job.name for job in workflow.jobs]
    deployed.aws.control.unregister(NIGHTLY, by="ann")
    assert list(Account(region="us-east-1").live_documents(deployed.aws.settings)) == []


def test_a_table_that_is_not_there_is_an_error_of_ours(deployed: Deployed) -> None:
    elsewhere = replace(deployed.aws.settings, views_table="gone")
    with pytest.raises(RunfoldError, match="cannot"):
        list(Account(region="us-east-1").live_documents(elsewhere))
