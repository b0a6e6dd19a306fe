"""Containers as ECS tasks."""

from shared.executors.ecs.definition import EcsSettings
from shared.executors.ecs.executor import EcsExecutor

__all__ = ["EcsExecutor", "EcsSettings"]
