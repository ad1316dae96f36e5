"""``xfast doctor``: what this installation can do, and how to get what is missing; whether the kernels are right."""

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
    parser.add_argument(
        "--kernels", action="store_true",
        help="check the Pallas kernels: run and time what the device runs, interpret and lower the rest",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    if args.kernels:
        return _kernels(as_json=args.json)
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


def _kernels(*, as_json: bool) -> int:
    """Check the kernels; 1 if any finding is a failure."""
    check = import_module("xfast.kernels.check")
    platform = import_module("xfast.kernels.platforms").current()
    findings = []
    if not as_json:
        print(f"kernels on {platform}, {', '.join(_devices())}\n")
        print(_line("implementation", "", "operation", "shape", "error", "ms", "XLA ms"))
    for found in check.check(platform):
        findings.append(found)
        if not as_json:
            error = "" if found.error is None else f"{found.error:.1e}"
            times = ("" if ms is None else f"{ms:.3f}" for ms in (found.milliseconds, found.xla_milliseconds))
            print(_line(found.implementation, found.how, found.operation, found.shape, error, *times), flush=True)
            if found.failure:
                print(f"  FAILED: {found.failure}")
    failures = [found for found in findings if found.failure]
    if as_json:
        print(json.dumps({"platform": platform, "findings": [asdict(found) for found in findings]}, indent=2))
    else:
        print("\nto know")
        for line in _what_it_means(findings):
            print(f"  - {line}")
    return 1 if failures else 0


def _line(*cells: str) -> str:
    widths = (-14, -11, -9, -42, 8, 8, 8)
    return "  ".join(cell.ljust(-w) if w < 0 else cell.rjust(w) for cell, w in zip(cells, widths)).rstrip()


def _what_it_means(findings: list[Any]) -> list[str]:
    lines = []
    for implementation in dict.fromkeys(found.implementation for found in findings):
        of = [found for found in findings if found.implementation == implementation]
        failed = sum(found.failure is not None for found in of)
        if any(found.how == "ran" for found in of):
            lines.append(f"{implementation}: ran on this device in {len(of)} cases, {failed} failed")
        else:
            interpreted = sum(found.how == "interpreted" for found in of)
            lines.append(
                f"{implementation}: NOT RUN, this device cannot. Interpreted at {interpreted} odd shapes, lowered at "
                f"{len(of) - interpreted} model shapes, {failed} failed; what compiler and device make of it is open"
            )
    return lines


def _section(title: str, rows: dict[str, str]) -> None:
    print(f"\n{title}")
    width = max(len(name) for name in rows)
    for name, value in rows.items():
        print(f"  {name:<{width}}  {value}")
