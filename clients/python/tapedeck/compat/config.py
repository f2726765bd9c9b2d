"""The predecessors' configuration: their environment names, `.env`, JSON, and settings by service.

The database's address and login are the deck's business (``[sink.NAME] kind = "influx"``): they are read,
shown and passed on to nobody. Points go to the deck, at ``url``.
"""

import json
import logging
import os
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Optional

from ..write import URL

logger = logging.getLogger(__name__)


def _is_true(text: str) -> bool:
    return text.strip().lower() == "true"


#: Environment name to field and type.
ENVIRONMENT: Dict[str, Any] = {
    "INFLUXDB_HOST": ("host", str),
    "INFLUXDB_PORT": ("port", int),
    "INFLUXDB_USER": ("username", str),
    "INFLUXDB_PASSWORD": ("password", str),
    "INFLUXDB_DB": ("database", str),
    "INFLUXDB_SSL": ("ssl", _is_true),
    "INFLUXDB_VERIFY_SSL": ("verify_ssl", _is_true),
    "INFLUXDB_TIMEOUT": ("timeout", int),
    "INFLUXDB_BATCH_SIZE": ("batch_size", int),
    "INFLUXDB_CONSISTENCY": ("write_consistency", str),
    "INFLUXDB_RETENTION": ("retention_policy", str),
}


def _env(name: str, default: Any) -> Callable[[], Any]:
    def read() -> Any:
        text = os.environ.get(name)
        return default if text in (None, "") else ENVIRONMENT[name][1](text)

    return read


def _url() -> str:
    return os.environ.get("TAPEDECK_URL") or URL


@dataclass
class InfluxDBConfig:
    host: str = field(default_factory=_env("INFLUXDB_HOST", "127.0.0.1"))
    port: int = field(default_factory=_env("INFLUXDB_PORT", 8086))
    username: str = field(default_factory=_env("INFLUXDB_USER", "zmq"))
    password: str = field(default_factory=_env("INFLUXDB_PASSWORD", "zmq"), repr=False)
    database: str = field(default_factory=_env("INFLUXDB_DB", "tick"))
    ssl: bool = field(default_factory=_env("INFLUXDB_SSL", False))
    verify_ssl: bool = field(default_factory=_env("INFLUXDB_VERIFY_SSL", True))
    timeout: int = field(default_factory=_env("INFLUXDB_TIMEOUT", 10))
    batch_size: int = field(default_factory=_env("INFLUXDB_BATCH_SIZE", 500))
    write_consistency: str = field(default_factory=_env("INFLUXDB_CONSISTENCY", "one"))
    retention_policy: str = field(default_factory=_env("INFLUXDB_RETENTION", "autogen"))
    #: The deck that takes the points.
    url: str = field(default_factory=_url)


#: Sizes of a batch by service, as the predecessors had them; each service has a database of its name.
SERVICES: Dict[str, int] = {"tick": 500, "ohlc": 100, "depth": 250, "sentiment": 100, "orders": 200}


class ConfigManager:
    """Environment over ``config.json`` over ``.env``, both in the working folder."""

    def __init__(self) -> None:
        self.base_config: Dict[str, Any] = {}
        self.service_configs: Dict[str, Dict[str, Any]] = {}
        for values in (_from_env_file(".env"), _from_json("config.json"), _from_environment()):
            self.base_config.update(values)

    def get_base_config(self) -> Dict[str, Any]:
        return dict(self.base_config)

    def get_service_config(self, service_name: str) -> Dict[str, Any]:
        if service_name not in self.service_configs:
            config: Dict[str, Any] = {}
            if service_name in SERVICES:
                config = {
                    "database": service_name,
                    "retention_policy": "autogen",
                    "batch_size": SERVICES[service_name],
                }
            config.update(self.base_config)
            self.service_configs[service_name] = config
        return dict(self.service_configs[service_name])

    def register_service_config(self, service_name: str, config: Dict[str, Any]) -> None:
        self.service_configs[service_name] = dict(config)

    def print_config(self) -> None:
        shown = {key: "***" if key == "password" else value for key, value in self.base_config.items()}
        logger.info("configuration: %s", json.dumps(shown, sort_keys=True))


def _from_environment() -> Dict[str, Any]:
    return _typed({name: os.environ[name] for name in ENVIRONMENT if os.environ.get(name)})


def _from_env_file(path: str) -> Dict[str, Any]:
    found: Dict[str, str] = {}
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                name, equals, value = line.strip().partition("=")
                if equals and not name.startswith("#"):
                    found[name.strip()] = value.strip().strip("'\"")
    except OSError:
        pass
    return _typed(found)


def _from_json(path: str) -> Dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except (OSError, ValueError):
        return {}
    fields = {name for name, _ in ENVIRONMENT.values()}
    return {key: value for key, value in config.items() if key in fields} if isinstance(config, dict) else {}


def _typed(texts: Dict[str, str]) -> Dict[str, Any]:
    typed: Dict[str, Any] = {}
    for name, text in texts.items():
        if name in ENVIRONMENT:
            key, kind = ENVIRONMENT[name]
            try:
                typed[key] = kind(text)
            except ValueError:
                logger.warning("%s: %r is not used, a number is expected", name, text)
    return typed


_manager: Optional[ConfigManager] = None


def get_config_manager() -> ConfigManager:
    global _manager
    if _manager is None:
        _manager = ConfigManager()
    return _manager
