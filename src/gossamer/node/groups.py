"""WorkloadGroups, asked of the control plane: what a workload that names its group leaves to it.

The control plane itself gives the workload its group's labels, place and weight; an agent needs what comes before
that: who the workload is, where it listens and how it is probed. Invariant: what was said once is kept on disk, so
that a host starts without the control plane as it started with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from gossamer.ca.files import private_folder, write_private
from gossamer.core.errors import GossamerError
from gossamer.node.health import Probe
from gossamer.node.probes import probe_of
from gossamer.node.workload import ServedPort, WorkloadSpec
from gossamer.rpc import calls
from gossamer.rpc import gossamer_pb2 as rpc

_LOG = logging.getLogger(__name__)
_PATIENCE_S: Final = 3.0
_AGAIN_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Asks through channels that `channel` opens, and keeps the answers in `folder`."""

    folder: Path
    channel: Callable[[], grpc.aio.Channel]

    async def resolve(self, spec: WorkloadSpec) -> WorkloadSpec:
        """The spec with what its group says; the spec itself if it has none.

        Waits for the control plane where nothing is kept. GossamerError if there is no such group, or it is another's.
        """
        return grouped(spec, await self._document(spec)) if spec.group else spec

    async def _document(self, spec: WorkloadSpec) -> str:
        path = self.folder / f"{spec.namespace}.{spec.group}.json"
        tries = 0
        while True:
            try:
                answer = await self._ask(spec)
                break
            except grpc.aio.AioRpcError as error:
                if path.exists():
                    return path.read_text(encoding="utf-8")
                if tries % 20 == 5:
                    _LOG.warning("group-awaited", extra={"workload": spec.slug, "reason": error.details()})
                tries += 1
                await asyncio.sleep(_AGAIN_S)
        if answer.problem:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            raise GossamerError(answer.problem)
        write_private(private_folder(self.folder) / path.name, answer.document.encode())
        return answer.document

    async def _ask(self, spec: WorkloadSpec) -> rpc.DescribeGroupResponse:
        request = rpc.DescribeGroupRequest(
            group=rpc.WorkloadKey(namespace=spec.namespace, name=spec.group), service_account=spec.service_account
        )
        async with self.channel() as channel:
            return await calls.DESCRIBE_GROUP.call(channel)(request, timeout=_PATIENCE_S)


def grouped(spec: WorkloadSpec, document: str) -> WorkloadSpec:
    """The spec, with service account, ports and probe that it leaves out taken from a WorkloadGroup's spec (JSON)."""
    from gossamer.api.findings import At  # noqa: PLC0415 - only who has groups reads the API
    from gossamer.api.structure import build_typed  # noqa: PLC0415
    from gossamer.api.workload_group import WorkloadGroup  # noqa: PLC0415

    group = build_typed(WorkloadGroup, json.loads(document), At())
    if group is None:
        raise GossamerError(f"this agent does not understand WorkloadGroup {spec.namespace}/{spec.group}; update it")
    template = group.template
    ports = tuple(ServedPort(number=number, name=name) for name, number in template.ports.items())
    probe = probe_of(group.probe) if group.probe else None
    return dataclasses.replace(
        spec,
        service_account=spec.service_account or template.service_account or "default",
        ports=spec.ports or tuple({port.number: port for port in ports}.values()),
        health=spec.health or probe,
    )


def default_probe(text: str) -> Probe | None:
    """The probe that the control plane told of (JSON), for workloads that say nothing of it; None for none."""
    if not text:
        return None
    from gossamer.api.findings import At  # noqa: PLC0415 - only who is told of one reads the API
    from gossamer.api.structure import build_typed  # noqa: PLC0415
    from gossamer.api.workload_group import ReadinessProbe  # noqa: PLC0415

    written = build_typed(ReadinessProbe, json.loads(text), At())
    return probe_of(written) if written is not None else None
