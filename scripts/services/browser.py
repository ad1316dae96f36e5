"""A Chromium for the tests of the feed page; there is nothing to start."""

from __future__ import annotations

import shutil

from machine import ServiceError


def program() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    name = "browser"

    def packages(self) -> dict[str, str | None]:
        return {"chromium": program()}

    def start(self) -> dict[str, str]:
        found = program()
        if found is None:
            raise ServiceError("the package chromium is installed but no program of that name is on the PATH")
        return {"XFAST_CHROMIUM": found}

    def stop(self, *, force: bool = False) -> bool:
        return False
