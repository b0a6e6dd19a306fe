"""Adapters that start, observe and stop attempts, one for each kind of target; what they owe stands in `shared.ports`."""
