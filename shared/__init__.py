"""The core that both engines share: what happened, what may happen, and what follows from it."""
