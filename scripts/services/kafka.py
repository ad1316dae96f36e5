"""One Apache Kafka broker and controller (KRaft) from the jars of Maven Central."""

from __future__ import annotations

import base64
import shutil
import socket
import struct
import uuid
from pathlib import Path

from machine import HOME, Process, known_ports, ports, run, say

FOLDER = HOME / "kafka"
POM = Path(__file__).with_name("pom.xml")

# Small on purpose: one node, tiny topics, a heap that fits beside a test run. A broker that was killed may register
# again only when its session has timed out, so that is short.
JAVA = ["-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"]
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
num.partitions=1
num.network.threads=2
num.io.threads=2
background.threads=2
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=4194304
log.index.size.max.bytes=1048576
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
"""


class Kafka:
    """The broker of this checkout; its data live in ``.services/kafka`` and may be thrown away."""

    name = "kafka"

    def __init__(self) -> None:
        self.process = Process(FOLDER, f"-Dxfast.services={FOLDER}")

    def packages(self) -> dict[str, str | None]:
        return {"default-jre-headless": shutil.which("java"), "maven": shutil.which("mvn")}

    def install(self) -> None:
        jars = FOLDER / "jars"
        stamp = FOLDER / "jars.stamp"
        wanted = POM.read_text()
        if stamp.exists() and stamp.read_text() == wanted:
            return
        say("fetching the Kafka jars from Maven Central")
        shutil.rmtree(jars, ignore_errors=True)
        run(
            ["mvn", "-q", "-B", "-f", POM, "dependency:copy-dependencies", "-DincludeScope=runtime",
             f"-DoutputDirectory={jars}"],
            attempts=3,
        )  # fmt: skip
        stamp.write_text(wanted)

    def java(self, main: str, *arguments: str | Path) -> list[str | Path]:
        logging = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
        return ["java", *JAVA, *logging, self.process.mark, "-cp", f"{FOLDER / 'jars'}/*", main, *arguments]

    def start(self) -> dict[str, str]:
        FOLDER.mkdir(parents=True, exist_ok=True)
        self.install()
        config, data = FOLDER / "server.properties", FOLDER / "data"
        if self.process.pid() is None:
            chosen, fresh = ports(FOLDER, ["broker", "controller"])
            if fresh:  # the quorum's address is part of the formatted storage
                shutil.rmtree(data, ignore_errors=True)
            config.write_text(PROPERTIES.format(data=data, **chosen))
            if not (data / "meta.properties").exists():
                shutil.rmtree(data, ignore_errors=True)
                cluster = base64.urlsafe_b64encode(b"x" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
                run(self.java("kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", config))
            self.process.start(self.java("kafka.Kafka", config), cwd=FOLDER)
            self.process.wait(lambda: broker_ready(chosen["broker"]), seconds=90)
        return {"XFAST_KAFKA_BOOTSTRAP": f"127.0.0.1:{known_ports(FOLDER)['broker']}"}

    def stop(self, *, force: bool = False) -> bool:
        return self.process.stop(force=force)


def broker_ready(port: int) -> bool:
    """Whether the broker answers a metadata request (version 4) with itself: a port that listens is no broker yet."""
    client = b"services"
    body = struct.pack(">hhih", 3, 4, 1, len(client)) + client + struct.pack(">i?", 0, False)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as link:
            link.sendall(struct.pack(">i", len(body)) + body)
            (size,) = struct.unpack(">i", _exactly(link, 4))
            answer = _exactly(link, size)
    except (OSError, EOFError):
        return False
    (brokers,) = struct.unpack(">i", answer[8:12])  # after correlation id and throttle time
    return bool(brokers >= 1)


def _exactly(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = link.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data
