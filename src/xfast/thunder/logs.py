"""One JSON object per line of log, for machines that read logs; fields come from ``extra``."""

from __future__ import annotations

import json
import logging
import time

# Attributes that every LogRecord has; whatever else is there came in through `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Format a record as ``{"time", "level", "logger", "message", …}`` plus its ``extra`` fields and exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, object] = {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str, ensure_ascii=False)


def configure(kind: str, level: str = "INFO") -> None:
    """Send the log to stderr, as ``"json"`` lines or as ``"text"``. For programs; the library never calls it."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if kind == "json" else text)
    logging.basicConfig(level=level, handlers=[handler], force=True)
