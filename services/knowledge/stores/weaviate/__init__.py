"""Knowledge in Weaviate, shared by several replicas."""

from services.knowledge.stores.weaviate.connection import Connection
from services.knowledge.stores.weaviate.store import WeaviateStore

__all__ = ["Connection", "WeaviateStore"]
