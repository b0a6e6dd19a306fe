"""Bugs in triggers besides time: `shared/triggers.py`, `shared/decide/triggers.py`, and who is told of ends."""

from tests.mutants.mutant import Mutant

_RULES = ("tests/rules/test_triggers.py",)

TRIGGERS = (
    Mutant(
        "delivery-is-not-signed",
        "shared/triggers.py",
        "{workflow}:{trigger}:{timestamp}:{delivery}:",
        "{workflow}:{trigger}:{timestamp}:",
        ("tests/rules/test_triggers.py", "tests/security/test_webhooks.py"),
    ),
    Mutant(
        "object-told-apart-by-its-event",
        "shared/triggers.py",
        "    if isinstance(trigger, S3Trigger):\n        # EventBridge may",
        "    if trigger is None:\n        # EventBridge may",
        _RULES,
    ),
    Mutant(
        "missed-event-comes-back",
        "shared/decide/triggers.py",
        'one.how != "refused" or _is_live',
        "_is_live",
        _RULES,
    ),
    Mutant(
        "slow-writer-hides-who-listens",
        "shared/stores/dynamodb.py",
        '        version = {"N": str(generation)}\n        condition = "attribute_not_exists(#version) OR',
        '        version = {"N": str(generation)}\n        condition = "attribute_exists(#version) OR attribute_not_exists(#version) OR',
        ("tests/contract/test_dynamodb.py",),
    ),
    Mutant(
        "end-is-told-to-nobody",
        "local/engine.py",
        "            with self._batch():\n                self._tell_listeners(ended)",
        "            with self._batch():\n                self._tell_listeners([])",
        ("tests/engine/test_triggers.py",),
    ),
)
