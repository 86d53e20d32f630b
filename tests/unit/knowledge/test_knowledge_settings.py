"""The knowledge store's settings choose a back-end, and say what is wrong with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.knowledge.settings import Settings

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"store": "redis"}, "'embedded' or 'weaviate'"),
        ({"weaviate_url": "weaviate:8080"}, "WEAVIATE_URL is no address"),
        ({"weaviate_url": "http://weaviate:eighty"}, "WEAVIATE_URL is no address"),
        ({"weaviate_url": "http://weaviate:8080/v1"}, "WEAVIATE_URL is no address"),
        ({"weaviate_url": "http://me:secret-word@weaviate:8080"}, "set NESYCD_KNOWLEDGE_WEAVIATE_API_KEY"),
        ({"weaviate_grpc_host": "weaviate:50051"}, "the port is NESYCD_KNOWLEDGE_WEAVIATE_GRPC_PORT"),
        ({"redis_url": "valkey:6379"}, "REDIS_URL is no address"),
        ({"weaviate_grpc_port": 0}, "weaviate_grpc_port"),
        ({"weaviate_timeout_seconds": 0}, "weaviate_timeout_seconds"),
    ],
)
def test_what_is_wrong_with_weaviates_settings_is_named_and_no_password_is_shown(wrong: dict, told: str) -> None:
    with pytest.raises(ValidationError) as error:
        Settings(**{"store": "weaviate", **wrong})
    assert told in str(error.value) and "secret-word" not in str(error.value)


def test_the_embedded_store_asks_nothing_of_weaviates_settings() -> None:
    assert Settings(weaviate_url="nowhere").store == "embedded"


def test_the_key_is_not_shown() -> None:
    shown = str(
        Settings(store="weaviate", weaviate_api_key="very-secret", redis_url="redis://:hush@valkey/0").describe()
    )
    assert "very-secret" not in shown and "hush" not in shown


@pytest.mark.parametrize(("store", "unwanted"), [("embedded", "weaviate"), ("weaviate", "numba")])
def test_what_the_other_store_needs_is_not_imported(store: str, unwanted: str, tmp_path: Path) -> None:
    program = (
        "import sys; from services.knowledge.__main__ import make_store; from services.knowledge.settings import Settings; "
        f"make_store(Settings(store={store!r}, data_dir={str(tmp_path)!r})); sys.exit({unwanted!r} in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
