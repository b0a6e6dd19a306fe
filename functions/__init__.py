"""The doorways on AWS: each handler parses, calls one use case and answers."""

import gc
import os

if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # Importing makes some hundred thousand objects that live for ever, and looking for garbage among them takes a tenth of a cold start: there is
    # none to be found before `functions.telemetry.doorway`. A handler makes few cycles, so it may look more rarely afterwards as well.
    gc.disable()
    gc.set_threshold(50_000, 20, 50)
