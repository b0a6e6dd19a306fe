"""Events of the bus, and messages of the queue of triggers, start runs."""
