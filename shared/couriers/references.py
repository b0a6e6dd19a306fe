"""Secrets that channels of one machine need, by the references that documents and settings use. Their values are read when they are
needed, and kept by nobody."""

from collections.abc import Callable, Mapping

from shared.executors.process.plan import secret_of


def secrets_here(environment: Mapping[str, str], variables: Mapping[str, str]) -> Callable[[str], bytes]:
    """As jobs of one machine have them: `env:NAME`, `file:/path`, and what settings.yaml maps to a variable."""
    return lambda reference: secret_of("of the channel", reference, environment, variables).encode()
