"""DestinationRule, and the traffic policies that it and MeshConfig hold.

Rules: Istio's documentation of DestinationRule.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from gossamer.api import names
from gossamer.api.destination_rule import (
    ClientTLSMode,
    ClientTLSSettings,
    ConnectionPoolSettings,
    ConsistentHashLB,
    DestinationRule,
    H2UpgradePolicy,
    HTTPSettings,
    LoadBalancerSettings,
    OutlierDetection,
    PortTrafficPolicy,
    RetryBudget,
    SimpleLB,
    TCPSettings,
    TrafficPolicy,
    TunnelSettings,
    WarmupConfiguration,
)
from gossamer.api.findings import At
from gossamer.api.resource import Resource
from gossamer.api.rules.common import (
    check,
    check_duration,
    check_export_to,
    check_labels,
    check_not_negative,
    check_one_of,
    check_port,
    check_port_selector,
    check_range,
    check_selector,
    check_unique,
    require,
)
from gossamer.api.rules.locality import check_locality, check_zones

MAX_MAGLEV: Final = 5_000_011
_COLD: Final = (SimpleLB.RANDOM, SimpleLB.PASSTHROUGH)


def check_destination_rule(resource: Resource[DestinationRule], _raw: Any, at: At) -> None:
    spec = resource.spec
    if require(spec.host, at["host"], "host must not be empty"):
        check(names.wildcard_domain_problem(spec.host), at["host"], "invalid-host")
    check_export_to(spec.export_to, at["exportTo"])
    if spec.workload_selector:
        check_selector(spec.workload_selector.match_labels, at["workloadSelector", "matchLabels"])
    if spec.traffic_policy is not None:
        check_traffic_policy(spec.traffic_policy, at["trafficPolicy"])
    for index, subset in enumerate(spec.subsets):
        here = at["subsets", index]
        if require(subset.name, here["name"], "subset name must not be empty"):
            check(names.namespace_problem(subset.name), here["name"], "invalid-subset")
        check_labels(subset.labels, here["labels"])
        if subset.traffic_policy is not None:
            check_traffic_policy(subset.traffic_policy, here["trafficPolicy"])
    check_unique(((subset.name, at["subsets", i, "name"]) for i, subset in enumerate(spec.subsets)), "subset")


def check_traffic_policy(policy: TrafficPolicy, at: At) -> None:
    parts = (
        policy.load_balancer, policy.connection_pool, policy.outlier_detection, policy.tls, policy.tunnel,
        policy.proxy_protocol, policy.retry_budget,
    )  # fmt: skip
    if all(part is None for part in parts) and not policy.port_level_settings:
        at.error("required", "traffic policy must have at least one field")
    _check_settings(policy, at)
    if policy.tunnel is not None:
        _check_tunnel(policy.tunnel, at["tunnel"])
    if policy.retry_budget is not None:
        _check_retry_budget(policy.retry_budget, at["retryBudget"])
    for index, port in enumerate(policy.port_level_settings):
        here = at["portLevelSettings", index]
        if require(port.port, here["port"], "port must be set"):
            check_port_selector(port.port, here["port"])
        _check_settings(port, here)
    numbers = (
        (p.port.number if p.port else 0, at["portLevelSettings", i]) for i, p in enumerate(policy.port_level_settings)
    )
    check_unique(numbers, "port")


def _check_tunnel(tunnel: TunnelSettings, at: At) -> None:
    if tunnel.protocol.upper() not in ("", "CONNECT", "POST"):
        at["protocol"].error("invalid-value", f"tunnel protocol must be CONNECT or POST, not {tunnel.protocol!r}")
    if require(tunnel.target_host, at["targetHost"], "targetHost must not be empty: the tunnel has to end somewhere"):
        problem = "" if names.is_ip(tunnel.target_host) else names.domain_problem(tunnel.target_host)
        check(problem, at["targetHost"], "invalid-host")
    check_port(tunnel.target_port, at["targetPort"])


def _check_retry_budget(budget: RetryBudget, at: At) -> None:
    if budget.percent is not None:
        check_range(budget.percent, 0, 100, at["percent"])
    if budget.budget_interval:
        check_duration(budget.budget_interval, at["budgetInterval"])


def _check_settings(policy: TrafficPolicy | PortTrafficPolicy, at: At) -> None:
    if policy.load_balancer:
        _check_load_balancer(policy.load_balancer, at["loadBalancer"])
    if policy.connection_pool is not None:
        check_connection_pool(policy.connection_pool, at["connectionPool"])
    if policy.outlier_detection:
        check_outlier_detection(policy.outlier_detection, at["outlierDetection"])
    if policy.tls:
        check_client_tls(policy.tls, at["tls"])


def _check_load_balancer(balancer: LoadBalancerSettings, at: At) -> None:
    kinds = {
        "simple": balancer.simple is not None,
        "consistentHash": balancer.consistent_hash is not None,
        "backendUtilization": balancer.backend_utilization is not None,
    }
    check_one_of(at, kinds)
    if balancer.consistent_hash:
        _check_hash(balancer.consistent_hash, at["consistentHash"])
    if balancer.backend_utilization:
        here = at["backendUtilization"]
        check_duration(balancer.backend_utilization.weight_expiration_period, here["weightExpirationPeriod"])
        check_duration(balancer.backend_utilization.weight_stabilization_period, here["weightStabilizationPeriod"])
        check_duration(balancer.backend_utilization.weight_update_period, here["weightUpdatePeriod"])
    if balancer.warmup:
        _check_warmup(balancer.warmup, at["warmup"])
    check_duration(balancer.warmup_duration_secs, at["warmupDurationSecs"])
    for name, given in (("warmup", balancer.warmup), ("warmupDurationSecs", balancer.warmup_duration_secs)):
        if given is not None and (balancer.consistent_hash or balancer.simple in _COLD):
            message = "only ROUND_ROBIN, LEAST_REQUEST and backendUtilization warm endpoints up"
            at[name].warning("no-effect", message)
    locality, zones = balancer.locality_lb_setting, balancer.zone_aware_lb_setting
    check_one_of(at, {"localityLbSetting": locality is not None, "zoneAwareLbSetting": zones is not None})
    if locality is not None:
        check_locality(locality, at["localityLbSetting"])
    if zones is not None:
        check_zones(zones, at["zoneAwareLbSetting"])


def _check_hash(balancer: ConsistentHashLB, at: At) -> None:
    keys = {
        "httpHeaderName": balancer.http_header_name is not None,
        "httpCookie": balancer.http_cookie is not None,
        "useSourceIp": balancer.use_source_ip is not None,
        "httpQueryParameterName": balancer.http_query_parameter_name is not None,
    }
    check_one_of(at, keys)
    if not any(keys.values()):
        at.error("required", f"consistentHash must say what to hash: one of {', '.join(keys)}")
    if balancer.http_header_name is not None:
        check(names.header_problem(balancer.http_header_name), at["httpHeaderName"], "invalid-header")
    if balancer.http_query_parameter_name is not None:
        require(balancer.http_query_parameter_name, at["httpQueryParameterName"], "must not be empty")
    if balancer.http_cookie:
        require(balancer.http_cookie.name, at["httpCookie", "name"], "cookie name must not be empty")
        if balancer.http_cookie.ttl is not None and balancer.http_cookie.ttl < timedelta():
            at["httpCookie", "ttl"].error("invalid-duration", "ttl must not be negative; 0s is for the session")
    check_one_of(at, {"ringHash": balancer.ring_hash is not None, "maglev": balancer.maglev is not None})
    size = balancer.maglev.table_size if balancer.maglev else 0
    if size and not (size < MAX_MAGLEV and _is_prime(size)):
        at["maglev", "tableSize"].error("invalid-value", f"{size} is not a prime number below {MAX_MAGLEV}")


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def _check_warmup(warmup: WarmupConfiguration, at: At) -> None:
    check_duration(warmup.duration, at["duration"])
    if warmup.minimum_percent is not None:
        check_range(warmup.minimum_percent, 0, 100, at["minimumPercent"])
    if warmup.aggression is not None and warmup.aggression < 0:
        at["aggression"].error("out-of-range", f"Invalid value: {warmup.aggression:g} must not be negative")


def check_connection_pool(pool: ConnectionPoolSettings, at: At) -> None:
    if pool.tcp is None and pool.http is None:
        at.error("required", "connection pool must have at least one field")
    if pool.tcp:
        _check_tcp(pool.tcp, at["tcp"])
    if pool.http:
        _check_http(pool.http, at["http"])


def _check_tcp(tcp: TCPSettings, at: At) -> None:
    check_not_negative(tcp.max_connections, at["maxConnections"])
    check_duration(tcp.connect_timeout, at["connectTimeout"])
    check_duration(tcp.max_connection_duration, at["maxConnectionDuration"])
    if tcp.tcp_keepalive:
        check_duration(tcp.tcp_keepalive.time, at["tcpKeepalive", "time"])
        check_duration(tcp.tcp_keepalive.interval, at["tcpKeepalive", "interval"])


def _check_http(http: HTTPSettings, at: At) -> None:
    limits = (
        ("http1MaxPendingRequests", http.http1_max_pending_requests),
        ("http2MaxRequests", http.http2_max_requests),
        ("maxRequestsPerConnection", http.max_requests_per_connection),
        ("maxRetries", http.max_retries),
        ("maxConcurrentStreams", http.max_concurrent_streams),
    )
    for name, value in limits:
        check_not_negative(value, at[name])
    check_duration(http.idle_timeout, at["idleTimeout"])
    if http.h2_upgrade_policy is H2UpgradePolicy.UPGRADE and http.use_client_protocol:
        message = "useClientProtocol must not be set when h2UpgradePolicy is UPGRADE"
        at["useClientProtocol"].error("exclusive-fields", message)
    if http.http2_keep_alive:
        check_duration(http.http2_keep_alive.interval, at["http2KeepAlive", "interval"])
        check_duration(http.http2_keep_alive.timeout, at["http2KeepAlive", "timeout"])


def check_outlier_detection(outlier: OutlierDetection, at: At) -> None:
    check_not_negative(outlier.consecutive_errors, at["consecutiveErrors"])
    if outlier.consecutive_errors:
        hint = "use consecutiveGatewayErrors or consecutive5xxErrors"
        at["consecutiveErrors"].warning("deprecated-field", "consecutiveErrors is deprecated", hint, on_key=True)
    if outlier.consecutive_local_origin_failures and not outlier.split_external_local_origin_errors:
        message = "consecutiveLocalOriginFailures counts nothing unless splitExternalLocalOriginErrors is true"
        at["consecutiveLocalOriginFailures"].error("invalid-value", message, "set splitExternalLocalOriginErrors: true")
    check_duration(outlier.interval, at["interval"])
    check_duration(outlier.base_ejection_time, at["baseEjectionTime"])
    check_range(outlier.max_ejection_percent, 0, 100, at["maxEjectionPercent"])
    check_range(outlier.min_health_percent, 0, 100, at["minHealthPercent"])
    for index, code in enumerate(outlier.outlier_detection_http_error_codes):
        check_range(code, 100, 599, at["outlierDetectionHttpErrorCodes", index])


def check_client_tls(tls: ClientTLSSettings, at: At) -> None:
    """Which files, secret and checks go with which mode."""
    skips = bool(tls.insecure_skip_verify)
    verified_by = {
        "caCertificates": tls.ca_certificates,
        "subjectAltNames": tls.subject_alt_names,
        # A MUTUAL credential is wanted for the client's own certificate.
        "credentialName": tls.credential_name if tls.mode is ClientTLSMode.SIMPLE else "",
    }
    if skips and tls.mode in (ClientTLSMode.SIMPLE, ClientTLSMode.MUTUAL):
        for name, value in verified_by.items():
            if value:
                message = f"cannot specify {name} when insecureSkipVerify is set: nothing is verified with it"
                at[name].error("exclusive-fields", message)
    if tls.mode not in (ClientTLSMode.SIMPLE, ClientTLSMode.MUTUAL):
        return
    files = {
        "clientCertificate": tls.client_certificate,
        "privateKey": tls.private_key,
        "caCertificates": tls.ca_certificates,
    }
    if tls.credential_name:
        for name, value in files.items():
            if value:
                at[name].error("exclusive-fields", f"cannot specify {name} when credentialName is set")
    elif tls.mode is ClientTLSMode.MUTUAL:
        require(tls.client_certificate, at["clientCertificate"], "client certificate required for MUTUAL")
        require(tls.private_key, at["privateKey"], "private key required for MUTUAL")
