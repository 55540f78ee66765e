"""Names of things that users wrote, and of where a compiled thing came from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ResourceId:
    """A resource as people name it; `namespace` is empty for kinds that have none."""

    kind: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Origin:
    """The user resource, and the part of it, that made something; `rule` is a field path such as `spec.http[0]`.

    File and line are not part of it: they are joined from the configuration's index when somebody reads, so that
    moving a line changes no compiled byte.
    """

    resource: ResourceId
    rule: str = ""

    def __str__(self) -> str:
        return f"{self.resource} {self.rule}".rstrip()
