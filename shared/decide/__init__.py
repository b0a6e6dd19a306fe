"""The rules: `decide(state, command) -> events`, pure."""
