"""The table of runs as an application maps it, and a table of what a run brings in."""

import uuid
from datetime import datetime

from sqlalchemy import Column, DateTime, Float, Integer, MetaData, String
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import declarative_base, sessionmaker
from sqlalchemy.pool import NullPool

from checks import POOLED

Base = declarative_base(metadata=MetaData(schema="app"))


def utc_now():
    """As the application writes its times: naive, in UTC."""
    return datetime.utcnow()


class SyncRun(Base):
    __tablename__ = "emag_sync_logs"

    id = Column(UUID(as_uuid=True), primary_key=True, default=uuid.uuid4)
    sync_type = Column(String(50), nullable=False)
    account_type = Column(String(10), nullable=False)
    operation = Column(String(50), nullable=False)
    status = Column(String(50), nullable=False, default="running")
    total_items = Column(Integer, nullable=False, default=0)
    processed_items = Column(Integer, nullable=False, default=0)
    created_items = Column(Integer, nullable=False, default=0)
    updated_items = Column(Integer, nullable=False, default=0)
    failed_items = Column(Integer, nullable=False, default=0)
    errors = Column(JSONB)
    duration_seconds = Column(Float)
    pages_processed = Column(Integer, nullable=False, default=0)
    api_requests_made = Column(Integer, nullable=False, default=0)
    rate_limit_hits = Column(Integer, nullable=False, default=0)
    started_at = Column(DateTime, nullable=False, default=utc_now)
    completed_at = Column(DateTime)
    updated_at = Column(DateTime, nullable=False, default=utc_now, onupdate=utc_now)


class Product(Base):
    __tablename__ = "products"

    sku = Column(String(50), primary_key=True)
    run = Column(UUID(as_uuid=True))


def new_session():
    """An AsyncSession over asyncpg that keeps no connection between transactions, as behind a pooler."""
    arguments = {"statement_cache_size": 0} if POOLED else {}
    engine = create_async_engine(
        "postgresql+asyncpg://" + ("?prepared_statement_cache_size=0" if POOLED else ""),
        poolclass=NullPool,
        connect_args=arguments,
    )
    return sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)


def new_run(sync_type="products", account_type="both", **values):
    return SyncRun(sync_type=sync_type, account_type=account_type, operation="full_sync", **values)
