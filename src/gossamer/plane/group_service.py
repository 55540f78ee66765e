"""What an agent is told of a WorkloadGroup, before it starts a workload of it.

Invariant: a host learns nothing of groups whose service account its grant does not name.
"""

from __future__ import annotations

from collections.abc import Callable

from gossamer.api.structure import to_json
from gossamer.api.workload_group import WorkloadGroup
from gossamer.model.groups import Groups
from gossamer.rpc import gossamer_pb2 as rpc


def describe_group(
    groups: Groups, granted: Callable[[str, str], str], request: rpc.DescribeGroupRequest
) -> rpc.DescribeGroupResponse:
    """The group's spec as JSON, or why there is none for this host; `granted` says why it may not speak for (namespace,
    service account)."""
    namespace, name = request.group.namespace, request.group.name
    found = groups.get((namespace, name))
    if found is None:
        return _refused(f"there is no WorkloadGroup {namespace}/{name}: write one, or correct the workload's group")
    account = found.spec.template.service_account or request.service_account or "default"
    if request.service_account not in ("", account):
        own = request.service_account
        return _refused(f"WorkloadGroup {namespace}/{name} is for service account {account}, not {own}: leave it out")
    if problem := granted(namespace, account):
        return _refused(problem)
    return rpc.DescribeGroupResponse(document=to_json(WorkloadGroup, found.spec))


def _refused(problem: str) -> rpc.DescribeGroupResponse:
    return rpc.DescribeGroupResponse(problem=problem)
