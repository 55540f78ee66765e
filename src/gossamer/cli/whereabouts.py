"""The options by which a command says where its host is."""

from __future__ import annotations

from typing import Annotated

import typer

from gossamer.api import names
from gossamer.core.errors import UsageError
from gossamer.node.workload import Here

Locality = Annotated[
    str, typer.Option(envvar="GOSSAMER_LOCALITY", help="REGION/ZONE/SUBZONE of this host, for locality load balancing.")
]
Network = Annotated[
    str, typer.Option(envvar="GOSSAMER_NETWORK", help="The network of this host, as the mesh calls it.")
]
Cluster = Annotated[
    str, typer.Option(envvar="GOSSAMER_CLUSTER", help="The cluster of this host, as the mesh calls it.")
]


def here_of(locality: str, network: str, cluster: str) -> Here:
    """What the options say. UsageError for what is no place."""
    for option, text, problem in (
        ("--locality", locality, names.locality_problem(locality)),
        ("--network", network, names.label_value_problem(network)),
        ("--cluster", cluster, names.label_value_problem(cluster)),
    ):
        if text and problem:
            raise UsageError(f"{option}: {problem}")
    return Here(locality=locality, network=network, cluster=cluster)
