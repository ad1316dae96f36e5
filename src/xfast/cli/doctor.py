"""``xfast doctor``: what this installation can do, and how to get what is missing."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass, field
from importlib import import_module, metadata, util
from typing import Any

import xfast

# Extra -> (what it brings, the modules that must be importable).
EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "train": ("training on Parquet events", ("pyarrow",)),
    "data": ("Arrow and Parquet tables, importers", ("pyarrow",)),
    "kafka": ("Kafka as the event source", ("confluent_kafka",)),
    "postgres": ("PostgreSQL stores", ("psycopg",)),
    "serve": ("gRPC and HTTP services", ("grpc", "grpc_health", "grpc_reflection", "prometheus_client")),
    "otel": ("OpenTelemetry spans", ("opentelemetry",)),
    "faiss": ("approximate retrieval indexes", ("faiss",)),
    "research": ("preference research and the audit", ("scipy", "sklearn", "polars", "matplotlib")),
}

PACKAGES = ("numpy", "jax", "jaxlib", "optax", "pyarrow", "grpcio", "confluent-kafka", "psycopg", "faiss-cpu")

# Processor flags that decide which kernels run, in the kernel's spelling.
FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16")


@dataclass
class Diagnosis:
    """Everything ``xfast doctor`` found."""

    xfast: str
    python: str
    platform: str
    packages: dict[str, str | None]
    cpu: dict[str, Any]
    devices: list[str]
    engines: dict[str, str]
    extras: dict[str, str]
    advice: list[str] = field(default_factory=list)


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor_flags() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:  # noqa: PTH123
            present = next((set(line.split(":")[1].split()) for line in lines if line.startswith("flags")), set())
    except OSError:
        return []
    return [flag for flag in FLAGS if flag in present]


def _devices() -> list[str]:
    """JAX's devices; a broken installation is a finding, not a crash."""
    try:
        jax = import_module("jax")
        return [f"{device.platform}:{device.id} ({device.device_kind})" for device in jax.devices()]
    except (ImportError, RuntimeError) as error:
        return [f"none: {error}"]


def diagnose() -> Diagnosis:
    """Collect versions, processor features, engines, precisions and extras."""
    native = import_module("xfast.phoenix._native")
    engines_of = import_module("xfast.phoenix.engines")
    cpu = {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "flags": _processor_flags(),
        "kernels": native.isa(),
        "kernels_supported": native.detected_isa(),
    }
    extras: dict[str, str] = {}
    advice: list[str] = []
    for extra, (purpose, modules) in EXTRAS.items():
        missing = [module for module in modules if util.find_spec(module) is None]
        extras[extra] = f"{purpose}: " + ("available" if not missing else f"missing {', '.join(missing)}")
        if missing:
            advice.append(f"{purpose}: pip install 'xfast[{extra}]'")
    engines = engines_of.engine_status()
    if cpu["kernels"] != cpu["kernels_supported"]:
        advice.append(f"XFAST_ISA lowers the kernels from {cpu['kernels_supported']} to {cpu['kernels']}")
    advice += [f"engine {name!r} {status}" for name, status in engines.items() if not status.startswith("available")]
    advice.append(
        "a published 19-column model fills only the action heads below 19; the other heads are unset (xfast.actions)"
    )
    return Diagnosis(
        xfast=xfast.__version__,
        python=sys.version.split()[0],
        platform=platform.platform(),
        packages={name: _package_version(name) for name in PACKAGES},
        cpu=cpu,
        devices=_devices(),
        engines=engines,
        extras=extras,
        advice=advice,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    found = diagnose()
    if args.json:
        print(json.dumps(asdict(found), indent=2))
        return 0
    print(f"xfast {found.xfast} on Python {found.python}, {found.platform}")
    _section("packages", {name: version or "not installed" for name, version in found.packages.items()})
    flags = " ".join(found.cpu["flags"]) or "unknown"
    _section(
        "processor",
        {
            "cores": f"{found.cpu['cores']} ({found.cpu['machine']})",
            "features": flags,
            "native kernels": f"{found.cpu['kernels']} (this processor supports {found.cpu['kernels_supported']})",
            "JAX devices": ", ".join(found.devices),
        },
    )
    _section("engines", found.engines)
    _section("extras", found.extras)
    print("\nto know")
    for line in found.advice:
        print(f"  - {line}")
    return 0


def _section(title: str, rows: dict[str, str]) -> None:
    print(f"\n{title}")
    width = max(len(name) for name in rows)
    for name, value in rows.items():
        print(f"  {name:<{width}}  {value}")
