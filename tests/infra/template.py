"""A synthesized template, and how tests ask it things."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Statement:
    role: str
    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: dict[str, dict[str, Any]]


class Template:
    """`stage` names the stack; references read as `<Name>` and `<Name.Attribute>`."""

    def __init__(self, folder: Path, stage: str) -> None:
        self.path = folder / f"Runfold-{stage}.template.json"
        self.folder = folder
        self.stage = stage
        self.body: dict[str, Any] = json.loads(self.path.read_text())

    def all_of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Properties by logical name."""
        return {name: one.get("Properties", {}) for name, one in self.body["Resources"].items() if one["Type"] == kind}

    def policies_of(self, kind: str) -> set[str]:
        """What becomes of the resources of a kind when the stack goes."""
        return {one.get("DeletionPolicy", "Delete") for one in self.body["Resources"].values() if one["Type"] == kind}

    def function(self, name: str) -> dict[str, Any]:
        wanted = f"runfold-{self.stage}-{name}"
        return next(one for one in self.all_of("AWS::Lambda::Function").values() if one["FunctionName"] == wanted)

    def functions(self) -> dict[str, dict[str, Any]]:
        prefix = f"runfold-{self.stage}-"
        return {one["FunctionName"].removeprefix(prefix): one for one in self.all_of("AWS::Lambda::Function").values()}

    def archives(self) -> tuple[Path, Path]:
        """The functions' one zip and the layer's."""
        (code,) = {one["Code"]["S3Key"] for one in self.functions().values()}
        (layer,) = self.all_of("AWS::Lambda::LayerVersion").values()
        return self.folder / f"asset.{code}", self.folder / f"asset.{layer['Content']['S3Key']}"

    def named(self, kind: str, part: str) -> str:
        """The one logical name of a kind with this part in it."""
        found = [name for name in self.all_of(kind) if part in name]
        assert len(found) == 1, found
        return found[0]

    def statements(self, role: str | None = None) -> list[Statement]:
        """Of all roles, or of the function with this name."""
        wanted = flat(self.function(role)["Role"]).strip("<>").removesuffix(".Arn") if role else None
        found = []
        for policy in self.all_of("AWS::IAM::Policy").values():
            for one in policy["Roles"]:
                name = flat(one).strip("<>")
                if wanted is None or name == wanted:
                    found += [
                        Statement(
                            name,
                            statement["Effect"],
                            tuple(_listed(statement["Action"])),
                            tuple(flat(resource) for resource in _listed(statement["Resource"])),
                            statement.get("Condition", {}),
                        )
                        for statement in policy["PolicyDocument"]["Statement"]
                    ]
        return found

    def actions(self, role: str) -> set[str]:
        return {action for statement in self.statements(role) for action in statement.actions}


def flat(value: Any) -> str:
    match value:
        case str():
            return value
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(flat(part) for part in parts)
        case {"Fn::Sub": str() as text}:
            return text
    raise AssertionError(value)


def texts(value: Any) -> Iterator[str]:
    """Every text in a value, keys included."""
    match value:
        case str():
            yield value
        case dict():
            for key, one in value.items():
                yield key
                yield from texts(one)
        case list():
            for one in value:
                yield from texts(one)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
