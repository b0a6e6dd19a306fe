"""A deployment in simulated time: the real functions, use cases and executors over stores, queues and targets that crash, lose, repeat,
reorder, delay and throttle, all from one seed. `python -m tests.simulation` plays seeds; `play.py` says what one is.
"""
