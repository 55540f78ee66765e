"""Extensions in filter chains: a filter for each, whose content comes by ECDS.

Changing an extension's code or configuration is a change of its content, which reaches open connections and cuts none;
adding or removing an extension changes the listeners that it is in.

Invariant: traffic never passes an extension that closes on failure while its code is not there: the place is taken by a
filter that denies.
"""

from __future__ import annotations

from typing import Final

from envoy.config.core.v3.base_pb2 import AsyncDataSource, DataSource
from envoy.config.core.v3.config_source_pb2 import (
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    ExtensionConfigSource,
)
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.lua.v3.lua_pb2 import Lua as LuaFilter
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.http.wasm.v3 import wasm_pb2 as http_wasm_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from envoy.extensions.filters.network.wasm.v3 import wasm_pb2 as network_wasm_pb2
from envoy.extensions.wasm.v3.wasm_pb2 import EnvironmentVariables, FailurePolicy, PluginConfig, VmConfig
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue

from gossamer.api.wasm_plugin import EnvValueSource, FailStrategy
from gossamer.compile.draft import Draft, pack
from gossamer.core.resources import EXTENSION
from gossamer.model.extensions import Extension, Lua, Wasm
from gossamer.model.modules import Module

MISSING: Final = "extension-not-received"
"""The policy that a denial names while an extension's code is not there."""
RUNTIME: Final = "envoy.wasm.runtime.v8"
_WARMING: Final = 15
_POLICIES: Final = {
    FailStrategy.FAIL_CLOSE: FailurePolicy.FAIL_CLOSED,
    FailStrategy.FAIL_OPEN: FailurePolicy.FAIL_OPEN,
    FailStrategy.FAIL_RELOAD: FailurePolicy.FAIL_RELOAD,
}


def compile_extension(extension: Extension) -> Draft:
    """The content of an extension's filter."""
    message = TypedExtensionConfig(name=extension.name, typed_config=_content(extension))
    return Draft(
        type_url=EXTENSION,
        name=extension.name,
        message=message,
        references=frozenset(),
        origins=(extension.origin,),
    )


def discovery_of(extension: Extension) -> ExtensionConfigSource:
    """How a filter asks for its content. Without an answer for 15 s it is as if the code were not there."""
    default = _without_code(extension)
    kinds = (default.type_url, *(pack(kind).type_url for kind in _kinds(extension)))
    return ExtensionConfigSource(
        config_source=ConfigSource(
            ads=AggregatedConfigSource(),
            resource_api_version=ApiVersion.V3,
            initial_fetch_timeout=Duration(seconds=_WARMING),
        ),
        default_config=default,
        type_urls=kinds,
    )


def _kinds(extension: Extension) -> tuple[Message, ...]:
    if isinstance(extension.code, Lua):
        return (LuaFilter(),)
    return (network_wasm_pb2.Wasm() if extension.network else http_wasm_pb2.Wasm(),)


def _content(extension: Extension) -> any_pb2.Any:
    code = extension.code
    if isinstance(code, Lua):
        if code.code is None:
            return _without_code(extension)
        return pack(LuaFilter(default_source_code=DataSource(inline_string=code.code)))
    if code.module is None:
        return _without_code(extension)
    config = _plugin(extension.name.rpartition("/")[2], code, code.module)
    return pack(network_wasm_pb2.Wasm(config=config) if extension.network else http_wasm_pb2.Wasm(config=config))


def _without_code(extension: Extension) -> any_pb2.Any:
    """What stands where there is no code: nothing for one that opens on failure, else a filter that denies."""
    opens = isinstance(extension.code, Wasm) and extension.code.fail is FailStrategy.FAIL_OPEN
    rules = None if opens else _nobody()
    if extension.network:
        return pack(network_rbac_pb2.RBAC(rules=rules, stat_prefix="extension."))
    return pack(http_rbac_pb2.RBAC(rules=rules))


def _nobody() -> rbac_pb2.RBAC:
    policy = rbac_pb2.Policy(permissions=[rbac_pb2.Permission(any=True)], principals=[rbac_pb2.Principal(any=True)])
    return rbac_pb2.RBAC(action=rbac_pb2.RBAC.DENY, policies={MISSING: policy})


def _plugin(name: str, code: Wasm, module: Module) -> PluginConfig:
    source = DataSource(inline_bytes=module.content) if module.content else DataSource(filename=module.path)
    vm = VmConfig(runtime=RUNTIME, code=AsyncDataSource(local=source))
    if code.env.env:
        vm.environment_variables.CopyFrom(_environment(code))
    config = PluginConfig(name=name, root_id=code.plugin_name, vm_config=vm, failure_policy=_POLICIES[code.fail])
    if code.config is not None:
        config.configuration.CopyFrom(pack(StringValue(value=code.config)))
    return config


def _environment(code: Wasm) -> EnvironmentVariables:
    inline = {one.name: one.value for one in code.env.env if one.value_from is EnvValueSource.INLINE}
    host = [one.name for one in code.env.env if one.value_from is EnvValueSource.HOST and one.name not in inline]
    return EnvironmentVariables(host_env_keys=list(dict.fromkeys(host)), key_values=inline)
