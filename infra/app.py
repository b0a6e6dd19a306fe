"""What `cdk synth` and `cdk deploy` run: one stack, `Runfold-<stage>`, checked by cdk-nag before anything is written."""

import sys
from collections.abc import Mapping
from pathlib import Path

from aws_cdk import App, Validations
from cdk_nag import AwsSolutionsChecks, ServerlessChecks

from infra.configuration import Configuration
from infra.packing import ROOT, pack
from infra.stack import RunfoldStack
from shared.errors import InvalidInput

PACKED = ROOT / "build" / "functions"


def app(context: Mapping[str, object] | None = None, folder: Path | None = None) -> App:
    """The app with its stack, not yet synthesized. Without `context` and `folder` the CDK's command line says both."""
    made = App(context=dict(context) if context is not None else None, outdir=str(folder) if folder else None)
    configuration = Configuration.read(made.node.try_get_context)
    RunfoldStack(
        made,
        f"Runfold-{configuration.stage}",
        configuration=configuration,
        packages=pack(configuration.platform, PACKED),
    )
    Validations.of(made).add_plugins(AwsSolutionsChecks(made), ServerlessChecks(made))
    return made


if __name__ == "__main__":
    try:
        app().synth()
    except InvalidInput as invalid:
        sys.exit("\n".join(str(problem) for problem in invalid.problems))
